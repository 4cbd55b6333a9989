//! The real world: a temporary directory, the system's watcher, certificates, handshakes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::CertificateDer};
use rustls_reload::{
    ClientAuth, Events, Reload, Reloader, ServerReloader, ServerTls, Status, Timing,
    fs::PathFs,
    internal::{native_watcher, pem},
};
use rustls_reload_testkit::{Authority, Op, PrivateKey, Subject, wait_for_tick};

use super::{
    common::{DEADLINE, handshake, platform::changed},
    records::{LOG, TRACING, listen},
    scenarios::Scenario,
    watcher::Fate,
    world::{Files, Reported, Set, World, made},
};

pub struct Real {
    root: PathBuf,
    /// The paths as the server gets them.
    given: Vec<PathBuf>,
    timing: Timing,
    cache: CertCache,
    began: Instant,
    fate: Fate,
    neighbour: Option<Neighbour>,
    disturbed: u64,
    /// Whether the server reads through the port without directory handles.
    by_path: bool,
    server: Option<(Reloader<ServerTls>, Events<ServerTls>)>,
    reported: Vec<Reported>,
    published: u64,
    /// The last field, so that it is dropped last.
    _dir: Option<tempfile::TempDir>,
}

impl Real {
    /// Makes a world in a temporary directory.
    pub fn new(scenario: &Scenario, timing: Timing) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // On Windows the canonical path is a verbatim path (`\\?\C:`), which no operator would
        // write.
        let root = if cfg!(windows) { dir.path().to_owned() } else { dir.path().canonicalize().unwrap() };
        Self { _dir: Some(dir), ..Self::beneath(root.clone(), &root, scenario, timing) }
    }

    /// Makes a world whose server reads through the port without directory handles.
    #[cfg(target_os = "linux")]
    pub fn by_path(scenario: &Scenario, timing: Timing) -> Self {
        Self { by_path: true, ..Self::new(scenario, timing) }
    }

    /// Makes a world in the directory `root`, to which the server gets the path `prefix`.
    pub fn beneath(root: PathBuf, prefix: &Path, scenario: &Scenario, timing: Timing) -> Self {
        listen();
        let given = scenario.paths.iter().map(|path| prefix.join(path.strip_prefix("/").unwrap())).collect();
        let mut world = Self {
            root,
            given,
            timing,
            cache: CertCache::new(),
            began: Instant::now(),
            fate: Fate::new(Box::new(native_watcher)),
            neighbour: None,
            disturbed: 0,
            by_path: false,
            server: None,
            reported: Vec::new(),
            published: 0,
            _dir: None,
        };
        let base = (scenario.base)(&world.files(Set::whole(1)));
        world.apply(&base);
        world
    }

    fn server(&self) -> &Reloader<ServerTls> {
        &self.server.as_ref().expect("a first load").0
    }

    fn listen(&mut self) {
        if let Some((_, events)) = &mut self.server {
            let events = std::iter::from_fn(|| events.try_next());
            self.reported.extend(events.map(|reported| Reported::from(&*reported.event)));
        }
    }
}

fn carry_out(root: &Path, op: &Op) {
    // On Windows an open handle keeps a removed directory in its parent, and keeps a file from
    // being replaced. A publisher there has to retry.
    let patience = Instant::now() + Duration::from_secs(if cfg!(windows) { 2 } else { 0 });
    while Instant::now() < patience && matches!(op, Op::Rmdir(_) | Op::Rename(..)) {
        if op.beneath(root).apply(root).is_ok() {
            return;
        }
        thread::yield_now();
    }
    op.beneath(root).apply(root).unwrap_or_else(|error| panic!("{op:?}: {error}"));
}

impl World for Real {
    fn timing(&self) -> Timing {
        self.timing
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn files(&mut self, set: Set) -> Files {
        self.cache.files(set)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn apply(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| carry_out(&self.root, op));
    }

    fn later(&self, ops: Vec<Op>) -> Box<dyn FnOnce() + Send> {
        let root = self.root.clone();
        Box::new(move || ops.iter().for_each(|op| carry_out(&root, op)))
    }

    fn tick(&mut self) {
        wait_for_tick(&self.root).unwrap();
    }

    fn changed(&self, op: &Op) -> Option<i128> {
        Some(changed(&self.root.join(made(op)?)))
    }

    fn neighbour(&mut self, every: Duration, ops: Vec<Op>) {
        self.disturbed = self.disturbed();
        self.neighbour = None;
        if !ops.is_empty() {
            self.neighbour = Some(Neighbour::new(self.root.clone(), every, ops));
        }
    }

    fn disturbed(&self) -> u64 {
        self.disturbed
            + self.neighbour.as_ref().map_or(0, |neighbour| neighbour.rounds.load(Ordering::Relaxed))
    }

    fn fate(&self) -> &Fate {
        &self.fate
    }

    fn load(&mut self) {
        if self.server.is_some() {
            self.published = self.published();
            self.listen();
            self.server = None;
        }
        let builder = ServerReloader::builder(&self.given[0], &self.given[1])
            .client_ca(&self.given[2], ClientAuth::Required)
            .timing(self.timing)
            .watcher(Some(self.fate.make_watcher()));
        let server = if self.by_path { builder.load_from(PathFs) } else { builder.load() }.unwrap();
        let events = server.events();
        self.server = Some((server, events));
    }

    fn start(&mut self) {
        self.listen();
        self.server().start().unwrap();
        // A change before the start is reported is found by the start's own snapshot, without an
        // event.
        self.wait_reported(&Reported::Started);
    }

    fn reload(&mut self) -> Reload {
        self.server().reload_now()
    }

    fn serves(&mut self, set: Set) -> bool {
        let served = self.server().current();
        self.cache.is_served(&served.value.config, set)
    }

    fn wait_served(&mut self, set: Set) {
        let deadline = Instant::now() + DEADLINE;
        let server = &self.server.as_ref().expect("a first load").0;
        let mut current = server.current();
        while !self.cache.is_served(&current.value.config, set) {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = server.wait_published(current.generation, left);
            current = next.unwrap_or_else(|| panic!("{set:?} is not served: {:#?}", server.status()));
        }
    }

    fn wait_reported(&mut self, reported: &Reported) {
        let deadline = Instant::now() + DEADLINE;
        let from = self.reported.len();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (_, events) = self.server.as_mut().expect("a first load");
            let Some(next) = events.next_within(left) else { break };
            self.reported.push(Reported::from(&*next.event));
            if self.reported.last() == Some(reported) {
                return;
            }
        }
        panic!("not reported: {reported:?}, but {:?}", &self.reported[from..]);
    }

    fn idle(&mut self, time: Duration) -> bool {
        let server = self.server();
        server.wait_published(server.current().generation, time).is_none()
    }

    fn status(&self) -> Status {
        self.server().status()
    }

    fn reported(&mut self) -> Vec<Reported> {
        self.listen();
        // A warning is logged only where a set is refused or a watch fails, and never through
        // `log`.
        assert!(TRACING.count() > 0, "each start is an event");
        assert_eq!(LOG.warnings(""), [""; 0]);
        if self.reported.iter().all(|reported| {
            matches!(
                reported,
                Reported::Started | Reported::Published { recovered: false } | Reported::TrustReduced
            )
        }) {
            assert_eq!(TRACING.warnings(self.root.to_str().unwrap()), [""; 0]);
        }
        self.reported.iter().filter(|reported| **reported != Reported::TrustReduced).cloned().collect()
    }

    fn published(&self) -> u64 {
        self.published + self.server().current().generation - 1
    }
}

/// A thread that repeats the same steps until it is dropped.
struct Neighbour {
    rounds: Arc<AtomicU64>,
    /// The thread ends when this is dropped.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Neighbour {
    fn new(root: PathBuf, every: Duration, ops: Vec<Op>) -> Self {
        let rounds = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel::<()>();
        let count = Arc::clone(&rounds);
        let work = move || {
            while stopped.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                ops.iter().for_each(|op| carry_out(&root, op));
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        Self { rounds, stop: Some(stop), thread: Some(thread::spawn(work)) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop = None;
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the neighbour failed");
    }
}

/// Makes each certificate once.
struct CertCache {
    root: Authority,
    issuer: Authority,
    keys: HashMap<u32, PrivateKey>,
    /// The usual length of a leaf with each key.
    lengths: HashMap<u32, usize>,
    leaves: HashMap<(u32, u32), String>,
    issuers: HashMap<u32, String>,
    trusts: HashMap<u32, Trust>,
}

/// The client CAs of one number, and a client that they verify.
struct Trust {
    pem: String,
    client: Arc<ClientConfig>,
}

impl CertCache {
    fn new() -> Self {
        let root = Authority::root("root");
        let issuer = root.intermediate("issuer");
        Self {
            root,
            issuer,
            keys: HashMap::new(),
            lengths: HashMap::new(),
            leaves: HashMap::new(),
            issuers: HashMap::new(),
            trusts: HashMap::new(),
        }
    }

    fn files(&mut self, set: Set) -> Files {
        let chain = self.leaf(set) + self.issuer(set.issuer);
        let key = self.keys[&set.key].pem();
        [chain.into_bytes(), key.into_bytes(), self.trust(set.ca).pem.clone().into_bytes()]
    }

    fn leaf(&mut self, set: Set) -> String {
        let key = self.keys.entry(set.key).or_insert_with(PrivateKey::p256);
        let issue = || self.issuer.issue(&Subject::server("localhost"), key).chain;
        // Signatures vary in length by a byte or two, and serial numbers with the key. This is the
        // usual length with this key.
        let len = *self.lengths.entry(set.key).or_insert_with(|| {
            let mut lengths = [0; 9].map(|_| issue().len());
            lengths.sort_unstable();
            lengths[4]
        });
        let made = || std::iter::repeat_with(issue).find(|pem| pem.len() == len);
        self.leaves.entry((set.leaf, set.key)).or_insert_with(|| made().expect("one some time")).clone()
    }

    fn issuer(&mut self, number: u32) -> &String {
        self.issuers.entry(number).or_insert_with(|| self.root.certify_again(&self.issuer, "issuer"))
    }

    fn trust(&mut self, number: u32) -> &Trust {
        let root = self.root.der().clone();
        self.trusts.entry(number).or_insert_with(|| {
            let ca = Authority::root(&format!("client CA {number}"));
            let client = ca.issue(&Subject::client("client"), &PrivateKey::p256());
            let mut roots = RootCertStore::empty();
            roots.add(root).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![client.leaf.clone()], client.key_der())
                .unwrap();
            Trust { pem: ca.pem, client: Arc::new(config) }
        })
    }

    /// Returns whether a client of the set's own CA is accepted and gets the set's whole chain.
    fn is_served(&mut self, config: &Arc<ServerConfig>, set: Set) -> bool {
        let [chain, ..] = self.files(set);
        let wanted: Vec<CertificateDer<'_>> = pem::chain(&chain).unwrap();
        // Each handshake is a full one, because a resumed session shows the chain of an earlier
        // handshake.
        let mut client = ClientConfig::clone(&self.trust(set.ca).client);
        client.resumption = rustls::client::Resumption::disabled();
        handshake(config, &Arc::new(client)).is_ok_and(|connection| connection.chain == wanted)
    }
}
