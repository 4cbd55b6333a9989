//! Reduced trust is reported once handshakes get the smaller trust, and to each connection that was
//! let in before. A renewal, a larger trust, a refused update and a deferred one are not reported
//! as reduced trust.

/// The server of the example.
#[path = "../../examples/drain.rs"]
#[allow(dead_code)] // reason: its `main` is the example's
mod example;

use std::{
    pin::pin,
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
};

use crate::common::{self, Generation, Handshake, NamedFile, Volume, client, drain, generations, handshake};
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_reload::{
    Build, Built, ClientAuth, Context, Error, Event, Files, Reload, Reloader, RemovedTrust, ServerReloader,
    ServerTls,
    internal::{self, ServerBuild},
};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn files<'a>(pair: &'a Pair, bundle: &'a str) -> [NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", bundle.as_bytes())]
}

/// Returns the CAs of these generations in one bundle.
fn bundle(generations: &[&Generation]) -> String {
    generations.iter().map(|generation| generation.ca.pem.as_str()).collect()
}

/// Returns the fingerprint of this generation's CA by `openssl`.
fn fingerprint(of: &Generation) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &of.ca.pem).unwrap();
    let args = ["x509", "-noout", "-fingerprint", "-sha256", "-in"];
    let output = Command::new("openssl").args(args).arg(file.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().split_once('=').unwrap().1.to_owned()
}

/// The part that reports reduced trust, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reporter {
    /// The crate, by an event.
    Shipped,
    /// Every publication reports it. Breaks: INV-08, INV-11
    AtEachPublication,
    /// The build reports it, before the value is served and even where it never will be.
    /// Breaks: INV-11
    WhileBuilding,
}

type Report = Arc<dyn Fn() + Send + Sync>;

/// A build step that reports reduced trust.
struct Reports(ServerBuild, Report);

impl Build for Reports {
    type Value = ServerTls;

    fn build(&mut self, files: &Files, context: &Context<'_, ServerTls>) -> Result<Built<ServerTls>, Error> {
        let built = self.0.build(files, context)?;
        if built.reduced_trust.is_some() {
            self.1();
        }
        Ok(built)
    }

    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        self.0.shrinks(set, served, candidate)
    }
}

/// A server. At each report a client of the first CA makes a handshake.
struct World {
    volume: Volume,
    reloader: Reloader<ServerTls>,
    /// Whether that client was let in, at each report.
    reported: Arc<Mutex<Vec<bool>>>,
    reporter: Reporter,
}

impl World {
    fn new(first: &[NamedFile<'_>; 3], client: Arc<ClientConfig>, reporter: Reporter) -> Self {
        let volume = Volume::new(first);
        let reported: Arc<Mutex<Vec<bool>>> = Arc::default();
        let slot: Arc<OnceLock<ServerReloader>> = Arc::default();
        let report: Report = {
            let (reported, slot) = (Arc::clone(&reported), Arc::clone(&slot));
            Arc::new(move || {
                // Without a handle the first load reports, when no client has been let in yet.
                let gets_in =
                    slot.get().map(|handle| handshake(&handle.current().value.config, &client).is_ok());
                reported.lock().unwrap().push(gets_in.unwrap_or(true));
            })
        };
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let builder = internal::generic(server).unwrap();
        let reloader = match reporter {
            Reporter::Shipped => builder.on_event(move |event| {
                if matches!(event, Event::TrustReduced { .. }) {
                    report();
                }
            }),
            Reporter::AtEachPublication => builder.on_publish(move |_| report()),
            Reporter::WhileBuilding => {
                return Self {
                    reloader: loaded(internal::around(builder, |build| Reports(build, report)), &slot),
                    volume,
                    reported,
                    reporter,
                };
            }
        };
        Self { reloader: loaded(reloader, &slot), volume, reported, reporter }
    }

    /// Publishes and reloads. Returns the answer, and the results at the reports.
    fn publish(&mut self, files: &[NamedFile<'_>; 3]) -> (Reload, Vec<bool>) {
        self.volume.publish_in_one_tick(files);
        let answer = self.reloader.reload_now();
        (answer, std::mem::take(&mut *self.reported.lock().unwrap()))
    }
}

fn loaded<B: Build<Value = ServerTls>>(
    builder: rustls_reload::Builder<B>,
    slot: &OnceLock<ServerReloader>,
) -> Reloader<ServerTls> {
    let reloader = builder.load().unwrap();
    let _ = slot.set(reloader.clone());
    reloader
}

/// Checks for a series of publications whether each is reported as it has to be.
fn reports(version: &'static SupportedProtocolVersion, reporter: Reporter) -> Result<(), String> {
    let all = generations(3);
    let pair = &all[0].server;
    let cas = |of: &[usize]| bundle(&of.iter().map(|number| &all[*number]).collect::<Vec<_>>());
    let client = client(&all[..1], &[version]);
    let mut world = World::new(&files(pair, &cas(&[0])), Arc::clone(&client), reporter);
    let quiet = |what: &str, (answer, reported): (Reload, Vec<bool>), wanted: fn(&Reload) -> bool| {
        assert!(wanted(&answer), "{what}: {answer:?}");
        if reported.is_empty() { Ok(()) } else { Err(format!("reported {} times: {what}", reported.len())) }
    };
    quiet("a first load", (Reload::Reloaded, std::mem::take(&mut *world.reported.lock().unwrap())), |_| {
        true
    })?;
    let reloaded = |answer: &Reload| *answer == Reload::Reloaded;
    let renewed = all[1].ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
    let step = world.publish(&files(&renewed, &cas(&[0])));
    quiet("a renewal by another CA and with another key", step, reloaded)?;
    let step = world.publish(&files(&renewed, &cas(&[1, 0, 1])));
    quiet("a CA more", step, reloaded)?;
    let step = world.publish(&files(&renewed, &cas(&[0, 1])));
    quiet("another order and no duplicates", step, reloaded)?;
    let mut subject = Subject::server("localhost");
    subject.names.push("other.example".to_owned());
    let named = all[0].ca.issue(&subject, &PrivateKey::p256());
    let step = world.publish(&files(&named, &cas(&[0, 1])));
    quiet("another name", step, reloaded)?;
    let mismatch = Pair { key: pair.key.clone(), ..named.clone() };
    let step = world.publish(&files(&mismatch, &cas(&[1])));
    quiet("a CA less with another's key", step, |answer| matches!(answer, Reload::Refused(_)))?;
    let (from, to) = subject.window;
    let later = subject.clone().valid(to, to + to.duration_since(from).unwrap());
    let later = all[0].ca.issue(&later, &PrivateKey::p256());
    let step = world.publish(&files(&later, &cas(&[1])));
    quiet("a CA less that waits for its date", step, |answer| matches!(answer, Reload::Deferred(_)))?;
    assert!(handshake(&world.reloader.current().value.config, &client).is_ok(), "nothing has gone so far");

    let mut events = world.reloader.events();
    // A CA is removed, then added again, and then replaced by a third one, together with a renewal.
    let steps: [(&Pair, &[usize], &[usize]); 3] =
        [(&named, &[1], &[0]), (&named, &[0, 1], &[]), (&renewed, &[2], &[0, 1])];
    for (pair, served, gone) in steps {
        let (answer, reported) = world.publish(&files(pair, &cas(served)));
        assert_eq!(answer, Reload::Reloaded);
        if reported.len() != usize::from(!gone.is_empty()) {
            return Err(format!("reported {} times: {gone:?} have gone", reported.len()));
        }
        if reported.contains(&true) {
            return Err("reported while a client of the CA that goes still gets in".to_owned());
        }
        if world.reporter != Reporter::Shipped {
            continue;
        }
        let current = world.reloader.current();
        let (generation, epoch) = (current.generation, current.value.trust_epoch());
        let [published, rest @ ..] = &drain(&mut events)[..] else { panic!("nothing was reported") };
        assert!(matches!(**published, Event::Published { .. }));
        let mut wanted: Vec<_> = gone.iter().map(|ca| fingerprint(&all[*ca])).collect();
        if wanted.is_empty() {
            assert_eq!(rest, []);
            continue;
        }
        let [shrunk] = rest else { panic!("reported: {rest:?}") };
        let Event::TrustReduced { lost, .. } = &**shrunk else { panic!("reported: {shrunk:?}") };
        // Sorted, because the order of the report has no meaning.
        wanted.sort_unstable();
        let mut named: Vec<_> = lost
            .iter()
            .map(|lost| match lost {
                RemovedTrust::ClientCa { fingerprint, .. } => fingerprint.to_string(),
                other => panic!("{other}"),
            })
            .collect();
        named.sort_unstable();
        assert_eq!(named, wanted);
        assert_eq!(**shrunk, Event::TrustReduced { generation, epoch, lost: lost.clone() });
        assert_eq!(world.reloader.status().trust_reduced, Some(generation));
        assert!(named.iter().all(|ca| shrunk.to_string().contains(ca)), "{shrunk}");
    }
    Ok(())
}

#[test]
fn inv08_inv11_reduced_trust_is_reported_once_after_it_is_served() {
    for version in VERSIONS {
        assert_eq!(reports(version, Reporter::Shipped), Ok(()), "{version:?}");
        for (reporter, by) in [
            (Reporter::AtEachPublication, "reported 1 times: a renewal by another CA and with another key"),
            (Reporter::WhileBuilding, "reported 1 times: a CA less that waits for its date"),
        ] {
            let why = reports(version, reporter).unwrap_err();
            println!("{reporter:?}, {:?}: {why}", version.version);
            assert_eq!(why, by);
        }
    }
}

#[test]
fn inv11_design_that_reports_amid_a_build_is_caught_by_handshakes() {
    let all = generations(2);
    for version in VERSIONS {
        for (reporter, gets_in) in [(Reporter::Shipped, false), (Reporter::WhileBuilding, true)] {
            let both = bundle(&[&all[0], &all[1]]);
            let first = files(&all[0].server, &both);
            let mut world = World::new(&first, client(&all[..1], &[version]), reporter);
            let (_, reported) = world.publish(&files(&all[0].server, &all[1].ca.pem));
            assert_eq!(reported, [gets_in], "{reporter:?}");
        }
    }
}

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Checks: INV-11, INV-08. Connections stay open over a series of publications.
#[test]
fn inv11_reduced_trust_alone_wakes_older_connections() {
    let all = generations(2);
    let both = bundle(&[&all[0], &all[1]]);
    for version in VERSIONS {
        let clients = [client(&all[..1], &[version]), client(&all[1..], &[version])];
        let mut volume = Volume::new(&files(&all[0].server, &both));
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap();
        let trusting = |cas: &str, volume: &mut Volume| {
            let pair = all[1].ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
            volume.publish_in_one_tick(&files(&pair, cas));
            assert_eq!(server.reload_now(), Reload::Reloaded);
        };
        let connect = |of: usize| {
            let served = server.current();
            let held = Handshake::begin(Arc::clone(&served.value.config), &clients[of]).unwrap();
            (served.generation, held)
        };
        // One handshake is complete before the change, one begins before it and ends after it.
        let (first, held) = connect(0);
        held.end().unwrap();
        let (_, begun) = connect(0);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = TaskContext::from_waker(&waker);
        let mut reported = pin!(server.trust_reduced(first));
        assert_eq!(reported.as_mut().poll(&mut cx), Poll::Pending);
        assert!(!server.trust_reduced_since(first));
        for _ in 0..3 {
            trusting(&both, &mut volume);
            volume.publish_in_one_tick(&files(&all[0].server, "nothing"));
            assert!(matches!(server.reload_now(), Reload::Refused(_)));
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 0, "woken by a renewal or a refusal");
        assert_eq!(reported.as_mut().poll(&mut cx), Poll::Pending);
        let (last, held) = connect(1);
        held.end().unwrap();
        trusting(&all[1].ca.pem, &mut volume);
        let shrunk = server.current().generation;
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(reported.as_mut().poll(&mut cx), Poll::Ready(shrunk));
        // The client is let in, because its handshake began under the old trust, and the reduction
        // is reported to it at once.
        assert_eq!(begun.end().unwrap().client.unwrap(), all[0].client.leaf);
        for older in [first, last] {
            assert!(server.trust_reduced_since(older));
            assert_eq!(pin!(server.trust_reduced(older)).poll(&mut cx), Poll::Ready(shrunk));
        }
        assert!(handshake(&server.config(), &clients[0]).is_err());
        // A connection that begins now is not affected, whatever is renewed.
        let (young, held) = connect(1);
        held.end().unwrap();
        let mut reported = pin!(server.trust_reduced(young));
        assert_eq!(reported.as_mut().poll(&mut cx), Poll::Pending);
        trusting(&all[1].ca.pem, &mut volume);
        trusting(&both, &mut volume);
        assert_eq!(reported.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!((count.0.load(Ordering::SeqCst), server.status().trust_reduced), (1, Some(shrunk)));
        // Waits that were dropped keep no waker.
        for _ in 0..100 {
            assert_eq!(pin!(server.trust_reduced(young)).poll(&mut cx), Poll::Pending);
        }
        let held = Arc::strong_count(&count);
        assert_eq!(held, 3, "the waker here, its registration, and the count itself");
    }
}

/// Checks: INV-11, INV-09. The server of the example, over TCP.
#[test]
fn inv09_inv11_draining_ends_connections_of_removed_trust_only() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    let all = generations(2);
    let both = bundle(&[&all[0], &all[1]]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for version in VERSIONS {
        let mut volume = Volume::new(&files(&all[1].server, &both));
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = tokio::spawn(example::draining::serve(server.incoming(listener)));
            let renewed = |cas: &str, volume: &mut Volume| {
                let pair = all[1].ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
                volume.publish_in_one_tick(&files(&pair, cas));
                server.clone()
            };
            // Sends a message, and returns whether its echo arrived.
            let echo = async |stream: &mut tokio_rustls::client::TlsStream<TcpStream>| {
                stream.write_all(b"still").await?;
                let mut received = [0; 5];
                stream.read_exact(&mut received).await?;
                assert_eq!(&received, b"still");
                std::io::Result::Ok(())
            };
            let connect = async |of: usize| {
                // Clients of both CAs trust the servers of the second generation.
                let client = common::client_showing(&[&all[1]], Some(&all[of]), &[version]);
                let tcp = TcpStream::connect(address).await?;
                let name = "localhost".try_into().unwrap();
                let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, tcp).await?;
                echo(&mut stream).await?;
                std::io::Result::Ok(stream)
            };
            let mut open = [connect(0).await.unwrap(), connect(1).await.unwrap()];
            for _ in 0..3 {
                assert_eq!(renewed(&both, &mut volume).reload().await, Reload::Reloaded);
                for stream in &mut open {
                    echo(stream).await.unwrap();
                }
            }
            assert_eq!(renewed(&all[1].ca.pem, &mut volume).reload().await, Reload::Reloaded);
            for mut stream in open {
                let ended = stream.read(&mut [0; 5]).await;
                assert_eq!(ended.unwrap(), 0, "closed as TLS closes");
            }
            assert!(connect(0).await.is_err(), "its CA has gone");
            let mut again = connect(1).await.unwrap();
            assert_eq!(renewed(&all[1].ca.pem, &mut volume).reload().await, Reload::Reloaded);
            echo(&mut again).await.unwrap();
            serving.abort();
        });
    }
}
