//! Every short sequence of clients, failures to accept and publications, and what becomes of each
//! client.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, version::TLS13};
use rustls_reload::{HandshakeFailure, Listener, Reload, ServerReloader};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::sleep,
};

use super::{
    NO_DESCRIPTOR,
    world::{Failed, Peer, Queue, Sender, handshake, queue, reporting},
};
use crate::common::{Generation, Volume, client, generations};

const LENGTH: u32 = 4;
/// The limit on handshakes under way.
const LIMIT: usize = 2;
/// Longer than a pause after failures; all steps together are shorter than the time limit of a
/// handshake.
const STEP: Duration = Duration::from_secs(2);
/// Longer than the time limits of all silent clients, one after the other.
const END: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Good,
    Silent,
    Plain,
    Gone,
    NoDescriptor,
    Publish,
}

const STEPS: [Step; 6] =
    [Step::Good, Step::Silent, Step::Plain, Step::Gone, Step::NoDescriptor, Step::Publish];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted(u64),
    Failed(HandshakeFailure),
}

/// How the server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Design {
    Shipped,
    /// Each handshake is awaited before the next connection is accepted. Breaks: INV-07
    OneByOne,
    /// A failure to accept ends it. Breaks: INV-15
    EndsAtAnError,
    /// No limit. Breaks: INV-12
    Unlimited,
}

type Outcomes = UnboundedReceiver<(Peer, Outcome)>;

/// Runs a server of this design; every outcome goes to the receiver.
fn run(design: Design, listener: Queue, reloader: &ServerReloader) -> (JoinHandle<()>, Outcomes) {
    let (sender, outcomes) = unbounded_channel();
    let server = match design {
        Design::OneByOne => tokio::spawn(one_by_one(listener, reloader.acceptor(), sender)),
        Design::EndsAtAnError => {
            let ended = Arc::new(tokio::sync::Notify::new());
            let end = Arc::clone(&ended);
            let incoming = reloader.incoming(listener).max_handshakes(LIMIT);
            let (incoming, failures) = reporting(incoming.on_accept_error(move |_| end.notify_one()));
            let serving = tokio::spawn(collect(incoming, failures, sender));
            tokio::spawn(async move {
                ended.notified().await;
                serving.abort();
            })
        }
        Design::Shipped | Design::Unlimited => {
            let limit = if design == Design::Shipped { LIMIT } else { usize::MAX };
            let (incoming, failures) = reporting(reloader.incoming(listener).max_handshakes(limit));
            tokio::spawn(collect(incoming, failures, sender))
        }
    };
    (server, outcomes)
}

async fn collect(
    mut incoming: rustls_reload::Incoming<Queue>,
    mut failures: UnboundedReceiver<Failed>,
    outcomes: UnboundedSender<(Peer, Outcome)>,
) {
    loop {
        let outcome = tokio::select! {
            Some(accepted) = incoming.accept() => {
                (accepted.peer_addr, Outcome::Accepted(accepted.generation()))
            }
            Some((peer, reason)) = failures.recv() => (peer, Outcome::Failed(reason)),
            else => return,
        };
        // The test has ended otherwise.
        let _ = outcomes.send(outcome);
    }
}

async fn one_by_one(
    mut listener: Queue,
    acceptor: rustls_reload::Acceptor,
    outcomes: UnboundedSender<(Peer, Outcome)>,
) {
    loop {
        let Ok((stream, peer)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
        let outcome = match acceptor.accept(stream).await {
            Ok(accepted) => Outcome::Accepted(accepted.generation()),
            Err(error) => Outcome::Failed(HandshakeFailure::of_io(&error)),
        };
        let _ = outcomes.send((peer, outcome));
    }
}

struct World {
    volume: Volume,
    reloader: ServerReloader,
    all: Vec<Generation>,
    config: Arc<ClientConfig>,
}

impl World {
    fn new() -> Self {
        let all = generations(2);
        let volume = Volume::in_memory(&all[0].files());
        let reloader = volume.server().load().unwrap();
        Self { volume, reloader, config: client(&all, &[&TLS13]), all }
    }

    fn publish(&mut self) {
        let next = usize::try_from(self.reloader.current().generation).unwrap() % 2;
        self.volume.publish_in_one_tick(&self.all[next].files());
        assert_eq!(self.reloader.reload_now(), Reload::Reloaded);
    }

    /// Does what the step says; returns what is kept open for it.
    async fn act(&mut self, step: Step, sender: &Sender) -> Option<JoinHandle<()>> {
        match step {
            Step::Good => {
                let (stream, config) = (sender.connect(), Arc::clone(&self.config));
                Some(tokio::spawn(async move {
                    let _open = handshake(&config, stream).await;
                    std::future::pending().await
                }))
            }
            Step::Silent | Step::Plain => {
                let mut stream = sender.connect();
                if step == Step::Plain {
                    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
                }
                Some(tokio::spawn(async move {
                    let _open = stream;
                    std::future::pending().await
                }))
            }
            Step::Gone => {
                drop(sender.connect());
                None
            }
            Step::NoDescriptor => {
                sender.fail(io::Error::from_raw_os_error(NO_DESCRIPTOR));
                None
            }
            Step::Publish => {
                self.publish();
                None
            }
        }
    }

    /// Compares a server of this design with the model, step by step.
    async fn evaluate(&mut self, steps: &[Step], design: Design) -> Result<(), String> {
        let (sender, listener) = queue();
        let (server, mut outcomes) = run(design, listener, &self.reloader);
        let (mut open, mut peers, mut model) = (Vec::new(), 0, Model::default());
        let mut evaluated = Ok(());
        for (at, step) in steps.iter().enumerate() {
            open.extend(self.act(*step, &sender).await);
            if !matches!(step, Step::NoDescriptor | Step::Publish) {
                peers += 1;
            }
            sleep(STEP).await;
            let wanted = model.step(*step, peers, self.reloader.current().generation);
            evaluated = evaluated.and(compare(&format!("step {at}"), &wanted, &mut outcomes));
        }
        sleep(END).await;
        let wanted = model.end(self.reloader.current().generation);
        evaluated = evaluated.and(compare("the end", &wanted, &mut outcomes));
        for task in open.iter().chain([&server]) {
            task.abort();
        }
        evaluated
    }
}

/// Which outcomes each step has.
#[derive(Default)]
struct Model {
    /// Silent clients whose handshakes are under way.
    silent: Vec<Peer>,
    /// Arrivals that nothing has accepted, with the number of their client.
    queue: VecDeque<(Step, Peer)>,
}

impl Model {
    fn step(&mut self, step: Step, peer: Peer, served: u64) -> BTreeMap<Peer, Outcome> {
        if step != Step::Publish {
            self.queue.push_back((step, peer));
        }
        self.accept(served)
    }

    fn accept(&mut self, served: u64) -> BTreeMap<Peer, Outcome> {
        let mut outcomes = BTreeMap::new();
        while self.silent.len() < LIMIT {
            let Some((step, peer)) = self.queue.pop_front() else { break };
            let outcome = match step {
                Step::Good => Outcome::Accepted(served),
                Step::Plain => Outcome::Failed(HandshakeFailure::NotTls),
                Step::Gone => Outcome::Failed(HandshakeFailure::ConnectionLost),
                Step::Silent => {
                    self.silent.push(peer);
                    continue;
                }
                Step::NoDescriptor | Step::Publish => continue,
            };
            outcomes.insert(peer, outcome);
        }
        outcomes
    }

    /// The time limits of all silent clients pass, one after the other.
    fn end(mut self, served: u64) -> BTreeMap<Peer, Outcome> {
        let mut outcomes = BTreeMap::new();
        while !self.silent.is_empty() || !self.queue.is_empty() {
            let timed_out = Outcome::Failed(HandshakeFailure::TimedOut);
            outcomes.extend(self.silent.drain(..).map(|peer| (peer, timed_out)));
            outcomes.extend(self.accept(served));
        }
        outcomes
    }
}

fn compare(at: &str, wanted: &BTreeMap<Peer, Outcome>, outcomes: &mut Outcomes) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    while let Ok((peer, outcome)) = outcomes.try_recv() {
        if seen.insert(peer, outcome).is_some() {
            return Err(format!("{at}: client {peer} has two outcomes"));
        }
    }
    if seen == *wanted { Ok(()) } else { Err(format!("{at}: {seen:?} instead of {wanted:?}")) }
}

/// Returns every sequence of `LENGTH` steps.
fn sequences() -> impl Iterator<Item = Vec<Step>> {
    (0..STEPS.len().pow(LENGTH)).map(|mut number| {
        let next = |_| {
            let step = STEPS[number % STEPS.len()];
            number /= STEPS.len();
            step
        };
        (0..LENGTH).map(next).collect()
    })
}

/// Checks: INV-07, INV-12, INV-15. Engine: generated, exhaustive.
#[tokio::test(start_paused = true)]
async fn inv12_each_client_of_each_sequence_has_its_one_outcome() {
    let mut world = World::new();
    let mut count = 0;
    for steps in sequences() {
        let evaluated = world.evaluate(&steps, Design::Shipped).await;
        assert_eq!(evaluated, Ok(()), "{steps:?}");
        count += 1;
    }
    println!("{count} sequences");
    assert_eq!(count, 1296);
}

#[tokio::test(start_paused = true)]
async fn inv12_wrong_designs_are_caught_by_short_sequences() {
    let mut world = World::new();
    for (design, by) in [
        (Design::OneByOne, [Step::Silent, Step::Good, Step::Gone, Step::Gone]),
        (Design::EndsAtAnError, [Step::NoDescriptor, Step::Good, Step::Gone, Step::Gone]),
        (Design::Unlimited, [Step::Silent, Step::Silent, Step::Good, Step::Gone]),
    ] {
        assert_eq!(world.evaluate(&by, Design::Shipped).await, Ok(()), "{by:?}");
        let why = world.evaluate(&by, design).await.unwrap_err();
        println!("{design:?}: {why}");
    }
}
