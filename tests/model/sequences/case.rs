//! A case: a publisher, its world, and the operations in order. A case is a line of text.

use std::{fmt, ops::RangeInclusive};

use proptest::prelude::*;
use rustls_reload_harness::sim::{Events, Publisher, Renewal};

/// Limit of operations in a case.
pub const OPS: usize = 40;

/// The actions in one world, from the first load to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub publisher: Publisher,
    /// The treatment of file events in a simulated world.
    pub events: Events,
    /// Timestamps of a simulated disk are multiples of this number of milliseconds.
    pub tick: u64,
    /// Whether a simulated disk reuses inode numbers.
    pub reuse: bool,
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub act: Act,
    /// The time that passes before the operation, in hundredths of the settle time.
    pub wait: u32,
    /// Determines how the steps of this operation fall between the calls of a simulated reader.
    pub salt: u16,
}

/// A file of the set: chain, key, client CAs.
pub type File = usize;

/// An action. It does not depend on the kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The publisher begins an update and takes so many hundredths of its steps, with a pause
    /// before each. An earlier unfinished update is abandoned.
    Publish {
        renewal: Renewal,
        part: u32,
        pause: u32,
    },
    /// A whole update with a leaf that is valid from `tens` times ten minutes after the beginning.
    CertificateValidity {
        tens: u32,
    },
    /// The publisher takes its remaining steps.
    GoOn,
    /// A neighbour writes a file in place, block by block.
    Write(File, Text),
    /// A neighbour writes another file and renames it over this one.
    Replace(File, Text),
    /// A neighbour removes a file.
    Remove(File),
    /// A neighbour moves a file aside and replaces it by a link to it.
    Link(File),
    /// A neighbour replaces the last link on the path to a file by an equal one. Without a link it
    /// sets the file's time.
    Relink(File),
    /// A file is made unreadable, or readable again.
    Mode(File, bool),
    /// A neighbour sets a file's modification time.
    Touch(File),
    /// The directory of a file is renamed away and back.
    Away(File),
    /// Everything is removed, and the publisher publishes as if for the first time.
    Anew,
    /// The wall clock is shifted by so many minutes.
    Clock(i32),
    /// A manual reload, which waits for its answer.
    Reload,
    /// A manual reload. The next operation does not wait for its answer.
    Ask,
    Stop,
    Start,
    /// No action until the status is as it has to be.
    Calm,
}

/// The text that a neighbour writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The content that was published last.
    Same,
    /// Half a block of that content.
    Half,
    /// An empty file.
    Empty,
    /// The first block of that content.
    First,
    /// Bytes that are no block.
    Junk,
}

const TEXTS: [Text; 5] = [Text::Same, Text::Half, Text::Empty, Text::First, Text::Junk];
const FILES: [&str; 3] = ["chain", "key", "ca"];
const RENEWALS: [Renewal; 8] = [
    Renewal::NewKey,
    Renewal::SameKey,
    Renewal::LeafOnly,
    Renewal::ChainOnly,
    Renewal::CaOnly,
    Renewal::Shrink,
    Renewal::Nothing,
    Renewal::Broken,
];

/// The kinds of operations in a case. Each kind but the calm is missing from every fourth case
/// (swarm weights).
#[derive(Clone, Copy, Debug)]
pub struct Swarm(pub u32);

impl Act {
    /// Returns the number of the action's kind.
    fn kind(self) -> u32 {
        match self {
            Self::Publish { part: 100, .. } => 0,
            Self::Publish { .. } => 1,
            Self::CertificateValidity { .. } => 2,
            Self::GoOn => 3,
            Self::Write(..) => 4,
            Self::Replace(..) => 5,
            Self::Remove(_) => 6,
            Self::Link(_) => 7,
            Self::Relink(_) => 8,
            Self::Mode(..) => 9,
            Self::Touch(_) => 10,
            Self::Away(_) => 11,
            Self::Anew => 12,
            Self::Clock(_) => 13,
            Self::Reload | Self::Ask => 14,
            // A case with only one of these would show little.
            Self::Stop | Self::Start | Self::Calm => 15,
        }
    }

    /// Returns whether the action concerns dates, which the driver of the wrong designs ignores.
    pub fn is_about_dates(self) -> bool {
        matches!(self, Self::CertificateValidity { .. } | Self::Clock(_))
    }
}

impl Swarm {
    fn allows(self, act: Act) -> bool {
        act == Act::Calm || self.0 >> (act.kind() * 2) & 3 != 0
    }
}

/// Generates cases with these publishers and events, and with pauses of up to `longest` hundredths
/// of the settle time.
pub fn cases(
    publishers: Vec<Publisher>,
    events: Vec<Events>,
    length: RangeInclusive<usize>,
    longest: u32,
) -> impl Strategy<Value = Case> {
    let world = (
        prop::sample::select(publishers),
        prop::sample::select(events),
        prop::sample::select(vec![4_u64, 1, 10, 0]),
        any::<bool>(),
    );
    let swarm = any::<u32>().no_shrink();
    (world, swarm, prop::collection::vec(op(longest), length)).prop_map(
        |((publisher, events, tick, reuse), swarm, ops)| {
            let swarm = Swarm(swarm);
            let ops = ops.into_iter().filter(|op: &Op| swarm.allows(op.act)).collect();
            Case { publisher, events, tick, reuse, ops }
        },
    )
}

fn op(longest: u32) -> impl Strategy<Value = Op> {
    let waits: Vec<u32> =
        [0, 0, 0, 0, 1, 6, 20, 60, 95, 105, 130, 1_100].into_iter().filter(|wait| *wait <= longest).collect();
    (act(longest), prop::sample::select(waits), any::<u16>()).prop_map(|(act, wait, salt)| Op {
        act,
        wait,
        salt,
    })
}

fn act(longest: u32) -> impl Strategy<Value = Act> {
    let renewal = || prop::sample::select(RENEWALS.to_vec());
    let pauses: Vec<u32> = [0, 0, 0, 1, 6, 45, 130].into_iter().filter(|pause| *pause <= longest).collect();
    let pause = move || prop::sample::select(pauses.clone());
    let file = || 0..3_usize;
    let text = || prop::sample::select(TEXTS.to_vec());
    prop_oneof![
        6 => (renewal(), pause()).prop_map(|(renewal, pause)| Act::Publish { renewal, part: 100, pause }),
        4 => (renewal(), 0..100_u32, pause())
            .prop_map(|(renewal, part, pause)| Act::Publish { renewal, part, pause }),
        1 => (1..60_u32).prop_map(|tens| Act::CertificateValidity { tens }),
        3 => Just(Act::GoOn),
        2 => (file(), text()).prop_map(|(file, text)| Act::Write(file, text)),
        2 => (file(), text()).prop_map(|(file, text)| Act::Replace(file, text)),
        1 => file().prop_map(Act::Remove),
        1 => file().prop_map(Act::Link),
        1 => file().prop_map(Act::Relink),
        1 => (file(), any::<bool>()).prop_map(|(file, readable)| Act::Mode(file, readable)),
        1 => file().prop_map(Act::Touch),
        1 => file().prop_map(Act::Away),
        1 => Just(Act::Anew),
        1 => (-40..400_i32).prop_map(Act::Clock),
        1 => Just(Act::Reload),
        1 => Just(Act::Ask),
        1 => Just(Act::Stop),
        2 => Just(Act::Start),
        2 => Just(Act::Calm),
    ]
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publisher, events, tick, reuse, ops } = self;
        write!(f, "{}/{events:?}/{tick}/{reuse}", publisher.name())?;
        ops.iter().try_for_each(|op| write!(f, " {op}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |file: File| FILES[file];
        match self.act {
            Act::Publish { renewal, part, pause } => write!(f, "publish:{renewal:?}:{part}:{pause}"),
            Act::CertificateValidity { tens } => write!(f, "dated:{tens}"),
            Act::GoOn => write!(f, "go-on"),
            Act::Write(at, text) => write!(f, "write:{}:{text:?}", file(at)),
            Act::Replace(at, text) => write!(f, "replace:{}:{text:?}", file(at)),
            Act::Remove(at) => write!(f, "remove:{}", file(at)),
            Act::Link(at) => write!(f, "link:{}", file(at)),
            Act::Relink(at) => write!(f, "relink:{}", file(at)),
            Act::Mode(at, readable) => write!(f, "mode:{}:{readable}", file(at)),
            Act::Touch(at) => write!(f, "touch:{}", file(at)),
            Act::Away(at) => write!(f, "away:{}", file(at)),
            Act::Anew => write!(f, "anew"),
            Act::Clock(minutes) => write!(f, "clock:{minutes}"),
            Act::Reload => write!(f, "reload"),
            Act::Ask => write!(f, "ask"),
            Act::Stop => write!(f, "stop"),
            Act::Start => write!(f, "start"),
            Act::Calm => write!(f, "calm"),
        }?;
        write!(f, "@{}#{}", self.wait, self.salt)
    }
}

impl Case {
    /// Parses a line; `None` if it is malformed.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let world: Vec<&str> = words.next()?.split('/').collect();
        let [publisher, events, tick, reuse] = world[..] else { return None };
        Some(Self {
            publisher: Publisher::all(true).into_iter().find(|known| known.name() == publisher)?,
            events: Events::ALL.into_iter().find(|known| format!("{known:?}") == events)?,
            tick: tick.parse().ok()?,
            reuse: reuse.parse().ok()?,
            ops: words.map(Op::parse).collect::<Option<_>>()?,
        })
    }
}

impl Op {
    fn parse(word: &str) -> Option<Self> {
        let (act, when) = word.split_once('@')?;
        let (wait, salt) = when.split_once('#')?;
        let parts: Vec<&str> = act.split(':').collect();
        let file = |name: &str| FILES.iter().position(|known| *known == name);
        let text = |name: &str| TEXTS.into_iter().find(|known| format!("{known:?}") == name);
        let act = match parts[..] {
            ["publish", renewal, part, pause] => Act::Publish {
                renewal: RENEWALS.into_iter().find(|known| format!("{known:?}") == renewal)?,
                part: part.parse().ok()?,
                pause: pause.parse().ok()?,
            },
            ["dated", tens] => Act::CertificateValidity { tens: tens.parse().ok()? },
            ["go-on"] => Act::GoOn,
            ["write", at, what] => Act::Write(file(at)?, text(what)?),
            ["replace", at, what] => Act::Replace(file(at)?, text(what)?),
            ["remove", at] => Act::Remove(file(at)?),
            ["link", at] => Act::Link(file(at)?),
            ["relink", at] => Act::Relink(file(at)?),
            ["mode", at, readable] => Act::Mode(file(at)?, readable.parse().ok()?),
            ["touch", at] => Act::Touch(file(at)?),
            ["away", at] => Act::Away(file(at)?),
            ["anew"] => Act::Anew,
            ["clock", minutes] => Act::Clock(minutes.parse().ok()?),
            ["reload"] => Act::Reload,
            ["ask"] => Act::Ask,
            ["stop"] => Act::Stop,
            ["start"] => Act::Start,
            ["calm"] => Act::Calm,
            _ => return None,
        };
        Some(Self { act, wait: wait.parse().ok()?, salt: salt.parse().ok()? })
    }
}
