//! Three sets of plain files, with a build step that does not use TLS.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use rustls_reload::{Build, Builder, Built, Context, Error, Files, Layer, watch::MakeWatcher};
use rustls_reload_harness::sim::InteractiveWorld;
use rustls_reload_testkit::described_leaf;

use super::{
    model::{Content, DAY, Dates, Model, Set, THRESHOLDS},
    play::{Change, Kind},
};

pub const SETS: usize = 3;

/// The number and the last valid second of each set's content.
type Whole = Vec<(u64, u64)>;

/// The changes that such a set can have.
pub const CHANGES: [Change; 9] = [
    Change::Renewed,
    Change::Broken,
    Change::Expired,
    Change::NotYetValid,
    Change::Missing,
    Change::Back,
    Change::Again,
    Change::Cut,
    Change::Mended,
];

/// Makes contents that are numbers with dates.
#[derive(Default)]
pub struct Plain {
    made: u64,
}

impl Plain {
    fn content(&mut self, flaw: Option<Layer>, (from, to): (u64, u64)) -> Content {
        self.made += 1;
        let number = self.made;
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        let mut text = String::new();
        write!(text, "{number} {from} {to} {}", if flaw.is_some() { "broken" } else { "good" }).unwrap();
        let files = vec![("one", text.into_bytes()), ("two", number.to_string().into_bytes())];
        let leaf = Some(Dates { digest, from, to });
        Content { number, flaw, leaf, files, ..Content::default() }
    }
}

/// Returns the validity of a set's next renewal. It varies, so that the ends of the sets come in
/// every order.
pub fn lasts(set: usize, number: u64) -> u64 {
    [3, 5, 9][(set + usize::try_from(number).unwrap()) % 3] * DAY
}

/// Returns the validity of a content of this kind.
pub fn window(change: Change, wall: u64, lasts: u64) -> (u64, u64) {
    match change {
        Change::Expired => (wall - 10 * DAY, wall - 3600),
        // One jump of the clock reaches the earlier date and not the later one.
        Change::NotYetValid => (wall + if lasts < 5 * DAY { DAY } else { 2 * DAY }, wall + 10 * DAY),
        _ => (wall - 3600, wall + lasts),
    }
}

impl Kind for Plain {
    type Value = Whole;

    fn first(&mut self, wall: u64) -> Vec<Content> {
        (0..SETS).map(|set| self.make(set, Change::Renewed, wall, None).unwrap()).collect()
    }

    fn make(&mut self, set: usize, change: Change, wall: u64, _: Option<&Content>) -> Option<Content> {
        let flaw = (change == Change::Broken).then_some(Layer::Match);
        let lasts = lasts(set, self.made);
        Some(self.content(flaw, window(change, wall, lasts)))
    }

    fn load(&self, live: &mut InteractiveWorld<Whole>, dirs: &[PathBuf], watcher: MakeWatcher) {
        let files = |dir: &PathBuf| ["one", "two"].map(|name| dir.join(name));
        let clock = live.sim().clock();
        let builder = Builder::new(files(&dirs[0]), Numbers);
        let builder = dirs[1..].iter().fold(builder, |builder, dir| builder.set(files(dir)));
        let builder = builder.expiry_warnings(THRESHOLDS.map(Duration::from_secs));
        live.load_by(builder.clock(clock).watcher(Some(watcher))).unwrap();
    }

    fn serves(&mut self, live: &InteractiveWorld<Whole>, model: &Model) -> Result<(), String> {
        let numbers = |set: &Set| (set.served.number, set.served.leaf.map_or(0, |leaf| leaf.to));
        let wanted: Vec<_> = model.sets.iter().map(numbers).collect();
        let current = live.reloader().current();
        let generation = live.reloader().status().generation;
        match current.value == wanted && current.generation == generation {
            true => Ok(()),
            false => Err(format!("{:?} is served in place of {wanted:?}", current.value)),
        }
    }
}

/// A build step whose value is the number of each set.
struct Numbers;

impl Build for Numbers {
    type Value = Whole;

    fn build(&mut self, files: &Files, context: &Context<'_, Whole>) -> Result<Built<Whole>, Error> {
        let (path, bytes) = files.get(0).unwrap();
        let text = std::str::from_utf8(bytes).unwrap();
        let words: Vec<_> = text.split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().unwrap();
        if words[3] == "broken" {
            return Err(Error::new(Layer::Match, "it is broken").at(path));
        }
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number(0).to_be_bytes());
        let at = Duration::from_secs;
        let mut whole = context.served.cloned().unwrap_or_default();
        let served = whole.get(context.set).map(|(_, end)| *end);
        whole.resize(whole.len().max(context.set + 1), (0, 0));
        whole[context.set] = (number(0), number(2));
        let mut built = Built::new(whole);
        let wall = context.wall.as_secs();
        if wall > number(2) {
            let why = Error::new(Layer::Validity, "it has expired").at(path);
            if served.is_some_and(|end| wall <= end && number(2) < end) {
                return Err(why);
            }
            built.warnings.push(why.into());
        }
        built.not_before = (wall < number(1)).then(|| at(number(1)));
        built.leaf = Some(described_leaf(digest, at(number(1)), at(number(2))));
        Ok(built)
    }
}
