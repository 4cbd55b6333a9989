//! Handshakes amid publications, in every order of their steps: of a server or a client, with one
//! configuration for each connection, and with one configuration for life.

use std::{sync::Arc, time::Duration};

use rustls::Error as TlsError;
use rustls_reload::Timing;

use super::{
    CompletedHandshake, Generation, Handshake, at_once, generations,
    sessions::{KINDS, Kind},
};

/// Delays by which a manual reload waits for nothing.
pub fn immediate() -> Timing {
    let [settle, shrink_settle, tie_recheck] = [Duration::ZERO; 3];
    Timing { settle, shrink_settle, tie_recheck, ..super::quick() }
}

/// The configurations of a server or a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Config {
    /// The served one, for each connection.
    EachConnection,
    ForLife,
    /// WRONG: one for life that keeps sessions. Breaks: INV-09
    ForLifeResuming,
}

/// The files of one publication.
pub trait Files: Sync + 'static {
    /// Returns whether the peer is to be accepted, whose CA is that of generation 0.
    fn is_trusting(&self) -> bool;

    /// Returns whether a session goes on from one to the other.
    fn trusts_as(&self, other: &Self) -> bool;
}

/// A server or a client, its peer, and the files that it is given one after another.
pub trait World: Sized {
    type Files: Files;

    /// The files that are published one after another.
    const HISTORIES: &'static [[Self::Files; 3]];

    /// Loads the first files.
    fn new(all: &Arc<[Generation]>, history: &'static [Self::Files], config: Config, kind: Kind) -> Self;

    /// Publishes the next files, and serves them before it returns.
    fn publish(&mut self);

    /// Begins a handshake with the peer.
    ///
    /// # Errors
    /// The error that ends it at once.
    fn begin(&mut self) -> Result<Handshake, TlsError>;

    /// Returns the violation of a full handshake during which `served` were served, by the
    /// certificate that the peer was shown.
    fn shows_wrongly(
        all: &[Generation],
        served: &[Self::Files],
        connection: &CompletedHandshake,
    ) -> Option<&'static str>;
}

/// A handshake, and the publications that it lasted over.
#[derive(Debug)]
struct Meeting {
    /// The number of publications before its first step.
    begun: usize,
    /// The number of publications before its last step.
    ended: usize,
    /// The error means that one of the peers rejects the other.
    outcome: Result<CompletedHandshake, TlsError>,
}

/// The handshakes that a search plays: two in a row, or two whose steps alternate as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshakes {
    InARow,
    Beside,
}

/// A handshake of one order.
enum Stage {
    Waiting,
    Begun(usize, Box<Handshake>),
    Ended(Meeting),
}

impl Stage {
    /// Takes the next step of a handshake.
    fn step(self, world: &mut impl World, published: usize) -> Self {
        let (begun, next) = match self {
            Self::Waiting => (published, world.begin()),
            Self::Begun(begun, mut handshake) => (begun, handshake.step().map(|()| *handshake)),
            Self::Ended(_) => return self,
        };
        let outcome = match next {
            Ok(handshake) if !handshake.is_over() => return Self::Begun(begun, Box::new(handshake)),
            Ok(handshake) => Ok(handshake.completed()),
            Err(error) => Err(error),
        };
        Self::Ended(Meeting { begun, ended: published, outcome })
    }

    fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// Plays two handshakes and up to `publications` in each order of their steps, each in a new world.
/// The first step belongs to the first handshake, and an order ends with the second handshake.
/// Returns the number of orders.
///
/// # Errors
/// The first violation that `check` finds.
fn each_order<W: World>(
    publications: usize,
    handshakes: Handshakes,
    world: impl Fn() -> W,
    mut check: impl FnMut(&[Meeting; 2]) -> Result<(), String>,
) -> Result<u64, String> {
    // The choice at each step, and the number of its alternatives.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    let mut orders = 0;
    loop {
        let (mut world, mut published, mut depth) = (world(), 0, 0);
        let mut stages = [Stage::Waiting, Stage::Waiting].map(Some);
        let step = |stage: &mut Option<Stage>, world: &mut W, published| {
            *stage = stage.take().map(|stage| stage.step(world, published));
        };
        step(&mut stages[0], &mut world, published);
        loop {
            let ended = |number: usize| stages[number].as_ref().is_some_and(Stage::is_ended);
            let may = [!ended(0), !ended(1) && (handshakes == Handshakes::Beside || ended(0))];
            let mut able: Vec<_> = (0..2).filter(|number| may[*number]).map(Some).collect();
            if able.is_empty() {
                break;
            }
            able.extend((published < publications).then_some(None));
            if depth == choices.len() {
                choices.push((0, able.len()));
            }
            assert_eq!(choices[depth].1, able.len(), "the same steps allow the same next ones");
            match able[choices[depth].0] {
                Some(number) => step(&mut stages[number], &mut world, published),
                None => {
                    published += 1;
                    world.publish();
                }
            }
            depth += 1;
        }
        orders += 1;
        let meetings = stages.map(|stage| match stage {
            Some(Stage::Ended(meeting)) => meeting,
            _ => unreachable!("both have ended"),
        });
        check(&meetings).map_err(|why| format!("{why}: choices {choices:?}: {meetings:#?}"))?;
        while choices.pop_if(|(chosen, of)| *chosen + 1 == *of).is_some() {}
        match choices.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return Ok(orders),
        }
    }
}

/// Returns the violation of one handshake. `first` is the first handshake of the same order.
fn violation<W: World>(
    all: &[Generation],
    history: &[W::Files],
    config: Config,
    meeting: &Meeting,
    first: &Meeting,
) -> Option<&'static str> {
    let last = if config == Config::EachConnection { meeting.begun } else { meeting.ended };
    let served = &history[meeting.begun..=last];
    let Ok(connection) = &meeting.outcome else {
        return served.iter().all(Files::is_trusting).then_some("INV-02: a trusted peer is rejected");
    };
    if !served.iter().any(Files::is_trusting) {
        return Some("INV-09: a peer is accepted that is not trusted");
    }
    if connection.resumed {
        // The certificate is the one that the session was made with.
        let same = |files: &W::Files| files.trusts_as(&history[first.begun]);
        let may = config == Config::EachConnection && history[first.begun..=meeting.begun].iter().all(same);
        return (!may).then_some("INV-09: a session is resumed over a change");
    }
    W::shows_wrongly(all, served, connection)
}

/// Plays each history with each kind of session in every order. Returns the number of orders, and of
/// handshakes that resumed a session.
fn search<W: World>(config: Config, kinds: &[Kind], handshakes: Handshakes) -> Result<(u64, u64), String> {
    let all: Arc<[Generation]> = generations(3).into();
    let cells: Vec<_> =
        W::HISTORIES.iter().flat_map(|history| kinds.iter().map(move |kind| (history, *kind))).collect();
    let counts = at_once(&cells, |(history, kind)| {
        let mut resumed = 0;
        let world = || W::new(&all, *history, config, *kind);
        let orders = each_order(history.len() - 1, handshakes, world, |meetings| {
            for meeting in meetings {
                if let Some(why) = violation::<W>(&all, *history, config, meeting, &meetings[0]) {
                    return Err(format!("{why} ({config:?}, {kind:?})"));
                }
                resumed += u64::from(meeting.outcome.as_ref().is_ok_and(|connection| connection.resumed));
            }
            Ok(())
        });
        orders.map(|orders| (orders, resumed))
    });
    counts.into_iter().try_fold((0, 0), |(orders, resumed), count| {
        count.map(|(more, again)| (orders + more, resumed + again))
    })
}

/// Plays every order, and prints how many. If `whole`, the steps of two handshakes alternate, with
/// all kinds of sessions. The wrong design is caught with each kind.
#[allow(clippy::print_stdout)] // reason: the counts
pub fn hold_in_every_order<W: World>(side: &str, whole: bool) {
    let (kinds, handshakes) = if whole {
        (KINDS.to_vec(), Handshakes::Beside)
    } else {
        (vec![KINDS[0], KINDS[3]], Handshakes::InARow)
    };
    for config in [Config::EachConnection, Config::ForLife] {
        let (orders, resumed) = search::<W>(config, &kinds, handshakes).unwrap_or_else(|why| panic!("{why}"));
        println!("orders: {side}, {config:?}: {orders} orders, {resumed} resumed, 0 violations");
        assert_eq!(resumed > 0, config == Config::EachConnection);
    }
    for kind in KINDS {
        let caught = search::<W>(Config::ForLifeResuming, &[kind], Handshakes::InARow).unwrap_err();
        assert!(caught.starts_with("INV-09"), "{kind:?}: {caught}");
    }
}
