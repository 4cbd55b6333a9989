//! Shared by the tests: generations of certificates, a directory that rotates as kubelet does,
//! handshakes in memory, and waiting for an event with a deadline.
#![allow(dead_code, unused_imports, unused_macros, unreachable_pub)] // reason: every test binary uses a part of it, and none exports it

pub mod armor;
mod forward;
mod handshake;
pub mod held;
pub mod invalid_update;
pub mod orders;
pub mod platform;
pub mod sessions;
mod trace;
mod wall;

pub use forward::CurrentVerifier;
pub(crate) use forward::forward_fs;
pub use handshake::{
    CompletedHandshake, Handshake, at_time, certified, client, client_of, client_of_any, client_showing,
    client_with, handshake, handshake_as, presented_by,
};
pub use invalid_update::{InvalidUpdate, invalid_crl_updates, invalid_updates};
pub use trace::leaves_no_trace;
pub use wall::Wall;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub use rustls_reload_testkit::NamedFile;

use rustls::pki_types::CertificateDer;
use rustls_reload::{Event, Events, ServerBuilder, ServerReloader, Timing};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use platform::changed;

/// Returns the full name of the calling test, in the form that the test executable takes as an
/// argument.
macro_rules! this_test {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        path.trim_end_matches("::here").split_once("::").unwrap().1.to_owned()
    }};
}
pub(crate) use this_test;

/// Longest wait before a test gives up. It is generous, because the machine may be loaded.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Short delays, so that a test of settling does not take seconds.
pub fn quick() -> Timing {
    Timing {
        settle: Duration::from_millis(50),
        shrink_settle: Duration::from_millis(400),
        tie_recheck: Duration::from_millis(30),
        retry: Duration::from_millis(20),
        poll: Duration::from_millis(200),
        degraded_poll: Duration::from_millis(100),
        min_interval: Duration::from_millis(5),
        still_changing_after: Duration::from_secs(5),
    }
}

/// Short delays with a poll once an hour, so that every change in a test is noticed by events.
pub fn by_events_only() -> Timing {
    Timing { poll: Duration::from_secs(3600), ..quick() }
}

/// One generation: a CA, and a server's and a client's pair that it has issued.
pub struct Generation {
    pub ca: Authority,
    pub server: Pair,
    pub client: Pair,
}

impl Generation {
    pub fn new(number: usize) -> Self {
        let ca = Authority::root(&format!("CA {number}"));
        Self {
            server: ca.issue(&Subject::server("localhost"), &PrivateKey::p256()),
            client: ca.issue(&Subject::client(&format!("client {number}")), &PrivateKey::p256()),
            ca,
        }
    }

    /// The files of a server that verifies clients.
    pub fn files(&self) -> [NamedFile<'_>; 3] {
        [
            ("tls.crt", self.server.chain.as_bytes()),
            ("tls.key", self.server.key.as_bytes()),
            ("ca.crt", self.ca.pem.as_bytes()),
        ]
    }
}

/// Makes `count` generations, numbered from 0.
pub fn generations(count: usize) -> Vec<Generation> {
    (0..count).map(Generation::new).collect()
}

/// Makes a directory in memory where the system has a file system for that, for tests that write
/// files by the thousand and do not test the disk. On ext4 each new file searches for an inode that
/// was not freed in the last seconds (`recently_deleted` in the kernel's fs/ext4/ialloc.c), which
/// took most of their time.
pub fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A directory that is published in the way of a Kubernetes volume.
pub struct Volume {
    root: tempfile::TempDir,
    updates: usize,
    /// A time before the last rename, and after the last write before it.
    pub renaming: Instant,
}

impl Volume {
    pub fn new(files: &[NamedFile<'_>]) -> Self {
        Self::within(tempfile::tempdir().unwrap(), files)
    }

    /// Makes a volume in a directory of [`in_memory`].
    pub fn in_memory(files: &[NamedFile<'_>]) -> Self {
        Self::within(in_memory(), files)
    }

    /// Makes a volume in a directory that the caller chooses.
    pub fn within(root: tempfile::TempDir, files: &[NamedFile<'_>]) -> Self {
        let volume = Self { root, updates: 0, renaming: Instant::now() };
        platform::publish_first(volume.root.path(), &volume.stamp(), files);
        volume
    }

    pub fn of(generation: &Generation) -> Self {
        Self::new(&generation.files())
    }

    /// Makes the directory accessible to its owner only, because kubelet's files are readable for
    /// everybody.
    pub fn private(self) -> Self {
        platform::make_private(self.root.path());
        self
    }

    /// Returns the path of the volume that a server uses.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("volume")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn stamp(&self) -> String {
        format!("..generation_{}", self.updates)
    }

    /// Publishes an update. Returns the time of the rename of `..data`.
    pub fn publish(&mut self, files: &[NamedFile<'_>]) -> Instant {
        self.publish_invalid(files, |_| {})
    }

    /// Publishes an update whose new directory `invalidate` changes before it is moved into place.
    pub fn publish_invalid(&mut self, files: &[NamedFile<'_>], invalidate: impl FnOnce(&Path)) -> Instant {
        let (payload, old) = self.prepare(files, invalidate);
        wait_for_tick(&payload);
        self.commit(&old)
    }

    /// Publishes without a pause: rename and writes may fall into one tick of the file system's
    /// clock.
    pub fn publish_in_one_tick(&mut self, files: &[NamedFile<'_>]) -> Instant {
        let (_, old) = self.prepare(files, |_| {});
        self.commit(&old)
    }

    /// Returns whether the last rename and the last write before it have the same time.
    pub fn is_tied(&self) -> bool {
        newest(&self.path(&self.stamp())) == changed(&self.path("..data"))
    }

    /// Takes the steps before the rename. Returns the new payload directory and the old stamp.
    fn prepare(&mut self, files: &[NamedFile<'_>], invalidate: impl FnOnce(&Path)) -> (PathBuf, String) {
        let old = self.stamp();
        self.updates += 1;
        let payload = platform::prepare(self.root.path(), &old, &self.stamp(), files);
        invalidate(&payload);
        (payload, old)
    }

    fn commit(&mut self, old: &str) -> Instant {
        self.renaming = Instant::now();
        let clear = platform::commit(self.root.path(), old, &self.stamp());
        let renamed = Instant::now();
        clear();
        renamed
    }

    /// Returns the builder of a server of the pair in the volume, with short delays.
    pub fn server(&self) -> ServerBuilder {
        server_in(&self.dir())
    }
}

/// Returns the builder of a server of the pair in `dir`, with short delays.
pub fn server_in(dir: &Path) -> ServerBuilder {
    ServerReloader::builder(dir.join("tls.crt"), dir.join("tls.key")).timing(quick())
}

/// Waits until the file system's clock has ticked since the last change in `payload`, so that a
/// rename from now on is strictly younger.
pub fn wait_for_tick(payload: &Path) {
    let newest = newest(payload);
    let scratch = tempfile::NamedTempFile::new_in(payload.parent().unwrap().parent().unwrap()).unwrap();
    let start = Instant::now();
    while changed(scratch.path()) <= newest {
        assert!(start.elapsed() < DEADLINE, "the file system's clock stands still");
        fs::write(scratch.path(), b"tick").unwrap();
        std::thread::yield_now();
    }
}

/// Returns the time of the last change to a directory or its entries.
fn newest(dir: &Path) -> i128 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| changed(&entry.unwrap().path()));
    entries.chain([changed(dir)]).max().unwrap()
}

/// Replaces a file by a rename.
pub fn replace(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("next");
    fs::write(&next, bytes).unwrap();
    platform::rename(&next, path);
}

/// Waits for the first event that `pick` accepts. Panics with the events that arrived instead.
pub fn expect<T: Send + Sync + 'static, R>(
    events: &mut Events<T>,
    what: &str,
    mut pick: impl FnMut(&Event) -> Option<R>,
) -> R {
    let deadline = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while let Some(reported) = events.next_within(deadline.saturating_duration_since(Instant::now())) {
        if let Some(picked) = pick(&reported.event) {
            return picked;
        }
        seen.push(reported.event);
    }
    panic!("no {what} within {DEADLINE:?}; reported: {seen:#?}");
}

/// Waits until the worker has started: it watches the files and has taken a snapshot.
pub fn started<T: Send + Sync + 'static>(events: &mut Events<T>) {
    expect(events, "start", |event| matches!(event, Event::Started { .. }).then_some(()));
}

/// Waits for a publication and returns its generation.
pub fn published<T: Send + Sync + 'static>(events: &mut Events<T>) -> u64 {
    expect(events, "publication", |event| match event {
        Event::Published { generation, .. } => Some(*generation),
        _ => None,
    })
}

/// Waits for a refusal and returns its error.
pub fn refused<T: Send + Sync + 'static>(events: &mut Events<T>) -> rustls_reload::Error {
    expect(events, "refusal", |event| match event {
        Event::Refused { error, .. } => Some(error.clone()),
        _ => None,
    })
}

/// Returns every event reported so far.
pub fn drain<T: Send + Sync + 'static>(events: &mut Events<T>) -> Vec<Arc<Event>> {
    std::iter::from_fn(|| events.try_next()).map(|reported| reported.event).collect()
}

/// Waits until handshakes get this leaf. Returns the generation that serves it.
pub fn wait_for_leaf(reloader: &ServerReloader, pair: &Pair) -> u64 {
    wait_for(reloader, |chain| chain.first() == Some(&pair.leaf))
}

/// Waits until handshakes get this whole chain. Returns the generation that serves it.
pub fn wait_for_chain(reloader: &ServerReloader, pair: &Pair) -> u64 {
    let wanted = rustls_reload::internal::pem::chain(pair.chain.as_bytes()).unwrap();
    wait_for(reloader, |chain| chain == wanted)
}

fn wait_for(reloader: &ServerReloader, wanted: impl Fn(&[CertificateDer<'_>]) -> bool) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    let mut current = reloader.current();
    while !wanted(&presented_by(&current.value.config)) {
        let left = deadline.saturating_duration_since(Instant::now());
        current = reloader
            .wait_published(current.generation, left)
            .unwrap_or_else(|| panic!("not served within {DEADLINE:?}; status: {:#?}", reloader.status()));
    }
    current.generation
}

/// Returns the chain that a new handshake gets.
pub fn presented(reloader: &ServerReloader) -> Vec<CertificateDer<'static>> {
    presented_by(&reloader.config())
}

/// Returns the result of `call`, made on a thread of its own, so that a hang is a failure.
pub fn in_time<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(call())));
    receiver.recv_timeout(DEADLINE).unwrap()
}

/// Runs each job on a thread of its own, for jobs that wait more than they compute. Returns the
/// results in the order of the jobs.
pub fn at_once<J: Sync, T: Send>(jobs: &[J], run: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || run(job))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
            .collect()
    })
}
