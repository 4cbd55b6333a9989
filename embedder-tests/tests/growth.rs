//! Rotations leave nothing behind. This binary's allocator counts the bytes that are held, and a
//! private map with an entry for each rotation shows as growth. Each rotation has new bytes, so
//! that no cached result applies.
//!
//! Checks: INV-12. Engine: generated.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print
#![allow(unsafe_code)] // reason: an allocator is unsafe by its trait

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Waker},
    time::{Duration, SystemTime},
};

use rustls_reload::{
    Build, Builder, Built, ClientAuth, Context, Error, Event, Files, Layer, Reload, ServerReloader,
    StartError, Timing, TrustReduction, Warning,
};
use rustls_reload_testkit::{Authority, Op, PrivateKey, Subject, kubelet_first, kubelet_update};

/// Counts the bytes that are held.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
    // The default `realloc` is kept: it allocates another block, copies, and frees the old one.
}

/// Rounds before the first count: more than the number of events kept for subscribers.
const BEFORE: usize = 300;
/// Rounds between the first count and the second.
const ROUNDS: usize = 900;
/// Bytes that a round may leave. The smallest entry, a number in a vector, has 8 bytes. A vector
/// whose capacity has just doubled takes the entries of half the rounds without growing.
const ALLOWED: usize = 2;

/// Admits one test at a time, because the count is of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns how many bytes each round leaves on average, not counting the first rounds.
fn left_by(first: usize, rounds: usize, mut round: impl FnMut(usize)) -> usize {
    (0..first).for_each(&mut round);
    let before = HELD.load(Ordering::Relaxed);
    (first..first + rounds).for_each(round);
    HELD.load(Ordering::Relaxed).saturating_sub(before) / rounds
}

fn flat(name: &str, round: impl FnMut(usize)) {
    let left = left_by(BEFORE, ROUNDS, round);
    println!("{name}: {left} bytes a round over {ROUNDS} rounds");
    assert!(left < ALLOWED, "{name}: each round leaves {left} bytes");
}

/// Timing on which no wait of a test depends: nothing is retried or polled meanwhile.
fn timing() -> Timing {
    let (none, never) = (Duration::ZERO, Duration::from_secs(3600));
    let gap = Duration::from_micros(50);
    let (settle, shrink_settle, tie, poll, poll_degraded) = (none, none, none, never, never);
    Timing {
        settle,
        shrink_settle,
        tie_recheck: tie,
        poll,
        degraded_poll: poll_degraded,
        min_interval: gap,
        ..Timing::default()
    }
}

/// Reads its result from the file: `good`, `bad`, `later`, `warns` or `shrinks`, and a number.
struct Words;

impl Build for Words {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, context: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        let (path, bytes) = files.get(0).unwrap();
        let text = String::from_utf8_lossy(bytes);
        let mut built = Built::new(bytes.to_vec());
        match text.split(' ').next() {
            Some("bad") => return Err(Error::new(Layer::Config, text).at(path)),
            Some("panics") => std::panic::resume_unwind(Box::new("by design")),
            Some("later") => built.not_before = Some(context.wall + Duration::from_secs(86_400)),
            Some("warns") => built.warnings.push(Warning::new(Layer::Config, text).at(path)),
            Some("shrinks") => {
                built.reduced_trust =
                    Some(TrustReduction { epoch: context.wall.as_secs(), removed: Vec::new() })
            }
            _ => {}
        }
        Ok(built)
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Long enough for every awaited event.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn inv12_reloads_by_hand_and_given_up_waits_leave_nothing() {
    let _alone = alone();
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, "first").unwrap();
    let reloader = Builder::new([&path], Words).timing(timing()).watcher(None).load().unwrap();
    let mut events = reloader.events();
    // Waits alone, without publications, because a publication removes all waiters.
    flat("waits that are given up", |_| {
        let (handle, waker) = (reloader.clone(), Waker::noop());
        let generation = handle.current().generation;
        let mut context = TaskContext::from_waker(waker);
        assert!(pin!(handle.published(generation)).as_mut().poll(&mut context).is_pending());
        assert!(pin!(handle.trust_reduced(generation)).as_mut().poll(&mut context).is_pending());
        assert!(handle.wait_published(generation, Duration::ZERO).is_none());
        drop(handle.events());
    });
    flat("reloads by hand", |round| {
        let word = ["good", "bad", "shrinks", "later", "warns", "panics"][round % 6];
        fs::write(&path, format!("{word} {round:07}")).unwrap();
        let answer = reloader.reload_now();
        let expected = match word {
            "bad" | "panics" => matches!(answer, Reload::Refused(_)),
            "later" => matches!(answer, Reload::Deferred(_)),
            _ => answer == Reload::Reloaded,
        };
        assert!(expected, "{word}: {answer:?}");
        while events.try_next().is_some() {}
    });
}

#[test]
fn inv12_starts_stops_and_refused_starts_leave_nothing() {
    let _alone = alone();
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, "first").unwrap();
    let reloader = Builder::new([&path], Words).timing(timing()).watcher(None).load().unwrap();
    flat("starts and stops", |round| {
        let mut events = reloader.events();
        reloader.start().unwrap();
        assert_eq!(reloader.start(), Err(StartError::AlreadyRunning));
        fs::write(&path, format!("good {round:07}")).unwrap();
        // The worker may have read the update already.
        assert!(matches!(reloader.reload_now(), Reload::Reloaded | Reload::Unchanged));
        reloader.stop().unwrap();
        assert_eq!(reloader.reload_now(), Reload::Stopped);
        assert!(std::iter::from_fn(|| events.try_next()).any(|reported| *reported.event == Event::Stopped));
    });
}

/// A Kubernetes volume: each update is a new directory, which is watched instead of the previous
/// one.
struct Volume {
    root: PathBuf,
    updates: usize,
}

impl Volume {
    fn publish(&mut self, text: &str) {
        let stamp = |number: usize| format!("..update_{number:07}");
        let (old, new) = (stamp(self.updates), stamp(self.updates + 1));
        let files = [("file", text.as_bytes())];
        let dir = Path::new("volume");
        let first = self.updates == 0;
        let mut ops = Vec::new();
        if first {
            ops.push(Op::Mkdir(dir.to_owned()));
            ops.extend(kubelet_first(dir, &new, &files));
        } else {
            ops.extend(kubelet_update(dir, &old, &new, &files));
        }
        ops.iter().for_each(|op| op.apply(&self.root).unwrap());
        self.updates += 1;
    }
}

#[test]
fn inv12_rotations_under_a_worker_with_events_leave_nothing() {
    let _alone = alone();
    let dir = scratch();
    let mut volume = Volume { root: dir.path().to_owned(), updates: 0 };
    volume.publish("first");
    let path = dir.path().join("volume/file");
    let reloader = Builder::new([&path], Words).timing(timing()).load().unwrap();
    // Linux takes 10 ms to end a watch, so there are fewer rounds here, after many manual reloads
    // that have filled the table of events. An entry of these tables holds a path or a set of
    // names, and is larger for that.
    const FEWER: usize = 200;
    const LARGER: usize = 8 * ALLOWED;
    for round in 0..BEFORE {
        volume.publish(&format!("good {round:07}"));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
    }
    reloader.start().unwrap();
    let round = |round| {
        let generation = reloader.current().generation;
        volume.publish(&format!("more {round:07}"));
        assert!(reloader.wait_published(generation, DEADLINE).is_some(), "{:?}", reloader.status());
        // The snapshot after the publication drops the watch of the old directory. This reload
        // takes that snapshot or follows it.
        assert_eq!(reloader.reload_now(), Reload::Unchanged);
    };
    // Amid a step the worker holds what it frees at the end. A worker that has stopped holds
    // nothing.
    let at_rest = || {
        reloader.stop().unwrap();
        let held = HELD.load(Ordering::Relaxed);
        reloader.start().unwrap();
        held
    };
    let mut rounds = (0..FEWER / 4 + FEWER).map(round);
    assert_eq!(rounds.by_ref().take(FEWER / 4).count(), FEWER / 4);
    let before = at_rest();
    assert_eq!(rounds.count(), FEWER);
    let left = at_rest().saturating_sub(before) / FEWER;
    println!("rotations with events: {left} bytes a round over {FEWER} rounds");
    assert!(left < LARGER, "each rotation leaves {left} bytes");
    reloader.stop().unwrap();
}

/// Each update has a new leaf and a new CRL, and now and then a new client CA. The leaf
/// ends within hours, which is reported for each.
#[test]
fn inv12_rotations_with_client_cas_and_crls_leave_nothing() {
    let _alone = alone();
    let dir = scratch();
    let path = |name: &str| dir.path().join(name);
    let identities = [PrivateKey::p256(), PrivateKey::p256()];
    let root = Authority::root("root");
    let clients = [Authority::root("clients A"), Authority::root("clients B")];
    let client = clients[0].issue(&Subject::client("client"), &identities[0]);
    fs::write(path("tls.key"), identities[0].pem()).unwrap();
    fs::write(path("more.key"), identities[1].pem()).unwrap();
    let publish = |round: usize| {
        let now = SystemTime::now();
        // The window changes by whole seconds, so that each certificate differs.
        let window = (now - Duration::from_secs(3600), now + Duration::from_secs(3600 + round as u64 % 60));
        let subject = |name: &str| Subject::server(name).valid(window.0, window.1);
        let set =
            if round.is_multiple_of(2) { ("tls.crt", "localhost", 0) } else { ("more.crt", "more.test", 1) };
        fs::write(path(set.0), root.issue(&subject(set.1), &identities[set.2]).chain).unwrap();
        let clients = &clients[round / 4 % 2];
        fs::write(path("ca.crt"), &clients.pem).unwrap();
        fs::write(path("ca.crl"), clients.crl(&[&client.leaf], window, round as u64 + 1).pem).unwrap();
    };
    publish(0);
    publish(1);
    let reloader = ServerReloader::builder(path("tls.crt"), path("tls.key"))
        .pair(path("more.crt"), path("more.key"))
        .client_ca(path("ca.crt"), ClientAuth::Required)
        .crl(path("ca.crl"))
        .expiry_warnings([Duration::from_secs(86_400)])
        .timing(timing())
        .watcher(None)
        .load()
        .unwrap();
    flat("rotations of a server", |round| {
        publish(round + 2);
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
    });
    assert!(reloader.status().sets.iter().any(|set| set.expiring.is_some()), "no end is near");
}

/// Breaks: INV-12. Private tables that keep an entry for each round.
#[test]
fn tables_that_keep_an_entry_for_each_round_are_found() {
    let _alone = alone();
    let (mut hashed, mut set, mut sorted, mut list) =
        (HashMap::new(), HashSet::new(), BTreeMap::new(), Vec::new());
    let kept: [(&str, &mut dyn FnMut(usize)); 4] = [
        ("map", &mut |round| _ = hashed.insert(round as u64, ())),
        ("set", &mut |round| _ = set.insert(round as u64)),
        ("sorted map", &mut |round| _ = sorted.insert(round as u64, ())),
        ("list", &mut |round| list.push(round as u64)),
    ];
    for (what, round) in kept {
        assert!(
            left_by(BEFORE, ROUNDS, round) >= ALLOWED,
            "not found: a {what} with an entry for each round"
        );
    }
    assert_eq!(left_by(BEFORE, ROUNDS, |round| drop(vec![round; 100])), 0);
}
