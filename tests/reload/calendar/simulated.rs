//! Many calendars in a simulated world. Publishers and changes of the clock take turns. After each
//! turn a simple oracle checks the served leaf, the events and the number of snapshots. The same
//! checks catch wrong designs.

mod wrong;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use crate::common::{Generation, at_time, client, handshake};
use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};
use rustls_reload::{
    Clock, Event, Events, Layer, ServerReloader, ServerTls, Timing, internal, watch::MakeWatcher,
};
use rustls_reload_harness::sim::{EPOCH, InteractiveWorld, Sim, SimWatcher, WorldConfig};
use rustls_reload_testkit::{Authority, Op, Pair, PrivateKey, Subject};
use wrong::{Unset, Wrong, WrongBuild};

const HOUR: Duration = Duration::from_secs(3600);

/// Leaves, by the hours of their first and last second after the beginning of a world.
const WINDOWS: [(i64, i64); 6] = [(-10, 10), (-10, 4), (4, 20), (-20, -5), (-30, -15), (12, 40)];

/// The hours to which the clock is set, plus half an hour.
const HOURS: [i64; 7] = [-26, -17, -7, 0, 7, 15, 45];

/// The pairs of all worlds, and clients of either version that trust them.
struct Cast {
    pairs: Vec<Pair>,
    clients: [Arc<ClientConfig>; 2],
}

fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(|| {
        let ca = Authority::root("CA");
        let at = |hours: i64| {
            let (epoch, by) =
                (SystemTime::UNIX_EPOCH + EPOCH.wall, HOUR * u32::try_from(hours.abs()).unwrap());
            if hours < 0 { epoch - by } else { epoch + by }
        };
        let issue = |(from, to)| {
            ca.issue(&Subject::server("localhost").valid(at(from), at(to)), &PrivateKey::ed25519())
        };
        let pairs: Vec<_> = WINDOWS.into_iter().map(issue).collect();
        let generation = Generation { client: pairs[0].clone(), server: pairs[0].clone(), ca };
        let clients = [&TLS12, &TLS13].map(|version| client(std::slice::from_ref(&generation), &[version]));
        Cast { pairs, clients }
    })
}

/// An action of a turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Writes this pair.
    Put(usize),
    /// Sets the clock to half an hour after this hour.
    Set(i64),
}

/// The expected treatment of the pair on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    Held,
    Refused,
}

/// A world, with the state of the oracle.
struct World {
    live: InteractiveWorld<ServerTls>,
    events: Events<ServerTls>,
    hour: i64,
    disk: usize,
    served: usize,
    generation: u64,
    fate: Fate,
    /// Whether a refusal was reported and its end was not.
    owes: bool,
}

fn paths() -> [PathBuf; 2] {
    ["/tls/tls.crt", "/tls/tls.key"].map(PathBuf::from)
}

fn write(pair: &Pair) -> Vec<Op> {
    let write = |(path, text): (PathBuf, &String)| {
        [Op::Create(path.clone()), Op::Append(path, text.clone().into_bytes())]
    };
    paths().into_iter().zip([&pair.chain, &pair.key]).flat_map(write).collect()
}

fn watcher(sim: &Sim) -> MakeWatcher {
    let sim = sim.clone();
    Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints))))
}

/// Makes a world in which the first pair is served, half an hour after its beginning.
fn live(wrong: Wrong, timing: Timing, watched: bool) -> InteractiveWorld<ServerTls> {
    let base: Vec<_> = std::iter::once(Op::Mkdir("/tls".into())).chain(write(&cast().pairs[0])).collect();
    let mut live = InteractiveWorld::new(&paths(), &base, timing, WorldConfig::default());
    let sim = live.sim().clone();
    sim.set_clock(1800);
    let clock: Arc<dyn Clock> =
        if wrong == Wrong::ReadsTheClockOnce { Arc::new(Unset(sim.clock())) } else { sim.clock() };
    let [chain, key] = paths();
    let server = ServerReloader::builder(chain, key)
        .timing(timing)
        .clock(clock)
        .watcher(watched.then(|| watcher(&sim)));
    let wrapped = |right| WrongBuild::new(right, wrong);
    live.load_by(internal::around(internal::generic(server).unwrap(), wrapped)).unwrap();
    live.start();
    live
}

impl World {
    fn new(wrong: Wrong) -> Self {
        let live = live(wrong, Timing::default(), true);
        let events = live.reloader().events();
        Self { live, events, hour: 0, disk: 0, served: 0, generation: 1, fate: Fate::Served, owes: false }
    }

    /// Returns the treatment of the pair on disk by the table of the policy.
    fn evaluate(&self) -> Fate {
        let ((from, to), (_, served_to)) = (WINDOWS[self.disk], WINDOWS[self.served]);
        match self.hour {
            _ if self.disk == self.served => Fate::Served,
            hour if hour < from => Fate::Held,
            hour if hour >= to && hour < served_to => Fate::Refused,
            _ => Fate::Served,
        }
    }

    /// Returns the events of a turn, one letter each.
    fn reported(&mut self) -> String {
        let reported = std::iter::from_fn(|| self.events.try_next());
        // Leaves of all ages are served here; the reports about their end are tested elsewhere.
        let reported = reported
            .filter(|reported| !matches!(*reported.event, Event::Expiring { .. } | Event::Expired { .. }));
        let letter = |event: &Event| match event {
            Event::Published { recovered: true, .. } => 'P',
            Event::Published { .. } => 'p',
            Event::Deferred { .. } => 'h',
            Event::Refused { error, .. } if error.layer() == Layer::Validity => 'r',
            Event::Recovered { .. } => 'R',
            Event::Warning { warning } if warning.layer() == Layer::Validity => 'w',
            _ => '?',
        };
        reported.map(|reported| letter(&reported.event)).collect()
    }

    fn take(&mut self, turn: Turn) -> Result<(), String> {
        let sim = self.live.sim().clone();
        let old = (self.disk, self.fate);
        let limit = match turn {
            Turn::Put(pair) => {
                self.disk = pair;
                write(&cast().pairs[pair]).iter().for_each(|op| sim.apply(op).unwrap());
                Duration::from_secs(21)
            }
            Turn::Set(hour) => {
                sim.set_clock((hour - self.hour) * 3600);
                self.hour = hour;
                // The poll interval, and the time of a snapshot.
                Duration::from_millis(10_100)
            }
        };
        let first = self.live.reloader().status().snapshots;
        self.live.until(limit, |_| false);
        let snapshots = self.live.reloader().status().snapshots - first;
        let reported = self.reported();
        let (disk, fate) = (self.disk, self.evaluate());
        let expired = self.hour >= WINDOWS[disk].1;
        let changed = (disk, fate) != old;
        let want = match fate {
            Fate::Served if disk != self.served => {
                self.generation += 1;
                format!("{}{}", if self.owes { 'P' } else { 'p' }, if expired { "w" } else { "" })
            }
            Fate::Served if self.owes => "R".to_owned(),
            Fate::Held if changed => "h".to_owned(),
            Fate::Refused if changed => "r".to_owned(),
            _ => String::new(),
        };
        if fate == Fate::Served {
            self.served = disk;
        }
        (self.fate, self.owes) = (fate, fate != Fate::Served && (self.owes || fate == Fate::Refused));
        self.check(fate).map_err(|why| format!("{why}; reported {reported:?}"))?;
        if reported != want {
            return Err(format!("INV-11: reported {reported:?} instead of {want:?}"));
        }
        // Several snapshots while it settles, then retries with growing pauses, then the poll.
        if snapshots > 16 {
            return Err(format!("INV-12: {snapshots} snapshots in {limit:?}"));
        }
        Ok(())
    }

    /// Checks the served leaf, and whether a client with the same clock accepts it.
    fn check(&self, fate: Fate) -> Result<(), String> {
        let current = self.live.reloader().current();
        let position = |leaf: &[u8]| cast().pairs.iter().position(|pair| *pair.leaf == *leaf);
        let (from, to) = WINDOWS[self.served];
        let valid = (from..to).contains(&self.hour);
        for client in &cast().clients {
            let connection = handshake(&current.value.config, &at_time(client, self.live.sim().now().wall));
            if connection.is_ok() != valid {
                let connection = connection.map(|connection| position(connection.leaf()));
                return Err(format!("{}: {connection:?} instead of {}", self.blamed(fate), self.served));
            }
            if let Ok(connection) = connection
                && position(connection.leaf()) != Some(self.served)
            {
                return Err(format!("{}: not {}", self.blamed(fate), self.served));
            }
        }
        if current.generation != self.generation {
            return Err(format!("{}: generation {}", self.blamed(fate), current.generation));
        }
        let status = self.live.reloader().status();
        let stands =
            (status.deferred_until.is_some(), status.refused.is_some(), status.differs_since.is_some());
        let wanted = (fate == Fate::Held, fate == Fate::Refused, fate != Fate::Served);
        if stands == wanted { Ok(()) } else { Err(format!("INV-11: the status says {stands:?}")) }
    }

    /// Returns the invariant that is broken where a wrong leaf is served.
    fn blamed(&self, fate: Fate) -> &'static str {
        match fate {
            Fate::Served => "INV-05",
            Fate::Held => "INV-02",
            Fate::Refused => "INV-03",
        }
    }
}

/// Plays so many worlds of so many turns. A seed replays its world. Returns the number of turns.
fn calendars(wrong: Wrong, seeds: u64, turns: usize) -> Result<u64, String> {
    let mut taken = 0;
    for seed in 1..=seeds {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut world = World::new(wrong);
        let mut line = Vec::new();
        for _ in 0..turns {
            let turn = match draw(2) {
                0 => Turn::Put(draw(WINDOWS.len())),
                _ => Turn::Set(HOURS[draw(HOURS.len())]),
            };
            line.push(turn);
            taken += 1;
            world.take(turn).map_err(|why| format!("{why} (seed {seed}: {line:?})"))?;
        }
    }
    Ok(taken)
}

/// Engine: generated. Checks: INV-02, INV-03, INV-05, INV-08, INV-11, INV-12.
#[test]
fn table_of_dates_holds_for_any_writes_and_clocks() {
    let turns = calendars(Wrong::Nothing, 60, 20).unwrap();
    println!("calendar: {turns} turns, 0 disagreements with the table");
    assert_eq!(turns, 1200);
}

#[test]
fn each_wrong_calendar_is_caught() {
    for (wrong, invariants) in [
        (Wrong::ServesEarly, &["INV-02"][..]),
        (Wrong::HoldsForGood, &["INV-05", "INV-11: the status"]),
        (Wrong::ServesExpired, &["INV-03"]),
        (Wrong::RefusesForGood, &["INV-05", "INV-11: the status"]),
        (Wrong::ReadsTheClockOnce, &["INV-05", "INV-11: the status"]),
        (Wrong::ReportsTime, &["INV-11"]),
    ] {
        let why = calendars(wrong, 60, 20).unwrap_err();
        println!("{wrong:?}: {}", why.chars().take(120).collect::<String>());
        assert!(invariants.iter().any(|invariant| why.starts_with(invariant)), "{wrong:?}: {why}");
    }
}

/// Waits until the pair that is valid from the fourth hour on is served. Returns the wall time.
fn served_at(live: &mut InteractiveWorld<ServerTls>, limit: Duration) -> Duration {
    let done = live.until(limit, |reloader| reloader.status().generation == 2);
    assert!(done, "not served: {:#?}", live.reloader().status());
    live.sim().now().wall
}

#[test]
fn inv05_deferred_set_is_served_at_its_date_without_event_or_poll() {
    let timing = Timing { poll: 240 * HOUR, ..Timing::default() };
    let mut live = live(Wrong::Nothing, timing, true);
    write(&cast().pairs[2]).iter().for_each(|op| live.sim().apply(op).unwrap());
    let date = EPOCH.wall + 4 * HOUR;
    let at = served_at(&mut live, 10 * HOUR);
    assert!(
        at >= date && at < date + Duration::from_millis(20),
        "{:?}",
        at.as_secs_f64() - date.as_secs_f64()
    );
    // The snapshots are those of the start, of the settling and of the wait.
    assert!(live.reloader().status().snapshots < 10, "{}", live.reloader().status().snapshots);
}

#[test]
fn inv05_a_clock_that_is_set_is_noticed_within_the_poll() {
    for (watched, poll) in [(true, 10), (false, 1)] {
        let mut live = live(Wrong::Nothing, Timing::default(), watched);
        write(&cast().pairs[2]).iter().for_each(|op| live.sim().apply(op).unwrap());
        live.until(Duration::from_secs(60), |reloader| reloader.status().deferred_until.is_some());
        live.until(Duration::from_millis(123), |_| false);
        let before = live.sim().now().mono;
        live.sim().set_clock(4 * 3600);
        served_at(&mut live, HOUR);
        let took = live.sim().now().mono - before;
        assert!(took <= Duration::from_millis(poll * 1000 + 10), "{took:?}, watched: {watched}");
    }
}

#[test]
fn inv12_deferred_or_rejected_set_is_read_no_more_often() {
    for pair in [2, 3] {
        let mut live = live(Wrong::Nothing, Timing::default(), true);
        write(&cast().pairs[pair]).iter().for_each(|op| live.sim().apply(op).unwrap());
        for hours in [0, -1, -1, 2] {
            live.sim().set_clock(hours * 3600);
            live.until(Duration::from_secs(60), |_| false);
            let first = live.reloader().status();
            live.until(HOUR / 4, |_| false);
            let snapshots = live.reloader().status().snapshots - first.snapshots;
            assert!(
                (90..=91).contains(&snapshots),
                "{snapshots} snapshots in a quarter of an hour, pair {pair}"
            );
            assert_eq!(live.reloader().status().generation, 1);
        }
    }
}
