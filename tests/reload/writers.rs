//! Publishers without a commit by one rename: no half-written set is served, and all of them
//! converge.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{self, Generation, by_events_only, generations, refused};
use rustls_reload::{Layer, ServerReloader, Timing};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

/// A pair in a plain directory beneath a temporary one.
struct Dir(tempfile::TempDir);

impl Dir {
    fn of(pair: &Pair) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        fs::create_dir(dir.path()).unwrap();
        dir.write(pair);
        dir
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("certs")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes both files in place, one after the other.
    fn write(&self, pair: &Pair) {
        fs::write(self.file("tls.crt"), &pair.chain).unwrap();
        fs::write(self.file("tls.key"), &pair.key).unwrap();
    }

    fn start(&self, timing: Timing) -> ServerReloader {
        let reloader = common::server_in(&self.path()).timing(timing).load().unwrap();
        reloader.start().unwrap();
        reloader
    }
}

fn pairs(count: usize) -> Vec<Pair> {
    generations(count).into_iter().map(|generation: Generation| generation.server).collect()
}

/// Makes a leaf and the two intermediates above it.
fn long_chain(name: &str) -> Pair {
    let root = Authority::root(name);
    let outer = root.intermediate("outer");
    let inner = outer.intermediate("inner");
    let pair = inner.issue_with_chain(&Subject::server("localhost"), &PrivateKey::p256());
    Pair { chain: pair.chain + &outer.pem, ..pair }
}

/// Returns the blocks of a chain. A file that is cut after any of them is valid.
fn blocks(chain: &str) -> Vec<&str> {
    let end = "-----END CERTIFICATE-----";
    let blocks: Vec<_> = chain.split_inclusive(end).collect();
    // The line break after the last END line belongs to its block.
    blocks[..blocks.len() - 1].to_vec()
}

/// The pauses between the writes of one update.
#[derive(Default)]
struct Pauses {
    last: Option<Instant>,
    longest: Duration,
}

impl Pauses {
    /// Records a write.
    fn wrote(&mut self) {
        let pause = self.last.map_or(Duration::ZERO, |last| last.elapsed());
        self.longest = self.longest.max(pause);
        self.last = Some(Instant::now());
    }

    /// Records a write, and pauses before the next one.
    fn dawdle(&mut self) {
        self.wrote();
        std::thread::sleep(DAWDLE);
    }

    /// Records the last write of an update.
    fn done(&mut self) {
        self.wrote();
        self.last = None;
    }

    /// Writes a chain block by block. The key is written already.
    fn write_chain(&mut self, path: &Path, chain: &str) {
        let mut file = File::create(path).unwrap();
        for block in blocks(chain) {
            file.write_all(block.as_bytes()).unwrap();
            self.dawdle();
        }
        file.write_all(b"\n").unwrap();
        self.done();
    }
}

/// Delays that are long enough for a slow writer on a loaded machine.
fn patient() -> Timing {
    Timing {
        settle: Duration::from_millis(300),
        shrink_settle: Duration::from_millis(900),
        ..by_events_only()
    }
}
const DAWDLE: Duration = Duration::from_millis(40);

/// Repeats `test` until all pauses of its writer were as short as ASM-05 requires, because a
/// machine may stall. Asserts that it published chains of these lengths and no others.
fn assert_publishes(lengths: &[usize], mut test: impl FnMut(&mut Pauses) -> Arc<Mutex<Vec<usize>>>) {
    for _ in 0..5 {
        let mut pauses = Pauses::default();
        let seen = test(&mut pauses);
        if pauses.longest < patient().settle / 2 {
            assert_eq!(*seen.lock().unwrap(), lengths, "lengths of the chains that were published");
            return;
        }
        println!("the machine stalled for {:?}: once more", pauses.longest);
    }
    panic!("the machine stalls all the time");
}

/// Starts a server, and records the length of each published chain.
fn lengths(dir: &Dir) -> (ServerReloader, Arc<Mutex<Vec<usize>>>) {
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&lengths);
    let reloader = common::server_in(&dir.path())
        .timing(patient())
        .on_publish(move |published| {
            keep.lock().unwrap().push(common::presented_by(&published.value.config).len());
        })
        .load()
        .unwrap();
    (reloader, lengths)
}

#[test]
fn inv01_slowly_filled_directory_is_never_served_with_a_cut_chain() {
    assert_publishes(&[3, 3, 3], |pauses| {
        // The first chain is the shortest, so that the rule about shrinking does not help.
        let dir = Dir::of(&pairs(1)[0]);
        let (reloader, lengths) = lengths(&dir);
        reloader.start().unwrap();
        for name in ["a", "b", "c"] {
            let pair = long_chain(name);
            // The inode number of a removed directory may be reused at once, that of a moved one
            // cannot.
            if name == "a" {
                fs::remove_dir_all(dir.path()).unwrap();
            } else {
                fs::rename(dir.path(), dir.0.path().join(name)).unwrap();
            }
            fs::create_dir(dir.path()).unwrap();
            // The key comes first, so that chain and key match from the first block on.
            fs::write(dir.file("tls.key"), &pair.key).unwrap();
            pauses.dawdle();
            pauses.write_chain(&dir.file("tls.crt"), &pair.chain);
            common::wait_for_chain(&reloader, &pair);
        }
        lengths
    });
}

#[test]
fn inv01_a_chain_rewritten_in_place_slowly_is_never_served_cut() {
    assert_publishes(&[2, 2, 2], |pauses| {
        let ca = Authority::root("root").intermediate("issuer");
        let identity = PrivateKey::p256();
        let renew = || ca.issue_with_chain(&Subject::server("localhost"), &identity);
        let dir = Dir::of(&renew());
        let (reloader, lengths) = lengths(&dir);
        reloader.start().unwrap();
        // The key stays, so every prefix that ends with a block is valid.
        for _ in 0..3 {
            let pair = renew();
            pauses.write_chain(&dir.file("tls.crt"), &pair.chain);
            common::wait_for_chain(&reloader, &pair);
        }
        lengths
    });
}

#[test]
fn inv01_set_being_written_at_the_workers_start_has_to_settle() {
    assert_publishes(&[3], |pauses| {
        let pair = long_chain("a");
        let dir = Dir::of(&pairs(1)[0]);
        let (reloader, lengths) = lengths(&dir);
        let mut events = reloader.events();
        fs::write(dir.file("tls.key"), &pair.key).unwrap();
        let mut chain = File::create(dir.file("tls.crt")).unwrap();
        let blocks = blocks(&pair.chain);
        chain.write_all(blocks[0].as_bytes()).unwrap();
        pauses.wrote();
        reloader.start().unwrap();
        common::started(&mut events);
        chain.write_all(blocks[1..].concat().as_bytes()).unwrap();
        pauses.done();
        common::wait_for_chain(&reloader, &pair);
        lengths
    });
}

#[test]
fn inv05_a_ca_bundle_that_really_shrinks_is_served_in_the_end() {
    let long = long_chain("a");
    let dir = Dir::of(&long);
    let reloader = dir.start(patient());
    let short = Pair { chain: blocks(&long.chain)[..2].concat() + "\n", ..long.clone() };
    let start = Instant::now();
    fs::write(dir.file("tls.crt"), &short.chain).unwrap();
    let next = reloader.wait_published(1, common::DEADLINE).expect("published");
    let took = start.elapsed();
    assert_eq!(common::presented_by(&next.value.config).len(), 2);
    assert!(took >= patient().shrink_settle, "a chain that only shrinks is most likely cut: {took:?}");
}

#[test]
fn inv05_files_renamed_one_by_one_and_rewritten_in_place_converge() {
    let pairs = pairs(7);
    let dir = Dir::of(&pairs[0]);
    let reloader = dir.start(by_events_only());
    for (i, pair) in pairs.iter().enumerate().skip(1) {
        if i % 2 == 0 {
            dir.write(pair);
        } else {
            common::replace(&dir.file("tls.key"), pair.key.as_bytes());
            common::replace(&dir.file("tls.crt"), pair.chain.as_bytes());
        }
        common::wait_for_leaf(&reloader, pair);
    }
}

#[test]
fn inv05_the_defaults_converge_in_place_too() {
    let pairs = pairs(2);
    let dir = Dir::of(&pairs[0]);
    let reloader = dir.start(Timing { poll: Duration::from_secs(3600), ..Timing::default() });
    let start = Instant::now();
    dir.write(&pairs[1]);
    common::wait_for_leaf(&reloader, &pairs[1]);
    let took = start.elapsed();
    println!("in place with the default delays: {took:?}");
    assert!(took >= Timing::default().settle, "{took:?}");
}

#[test]
fn inv03_inv05_new_chain_with_old_key_keeps_the_old_pair() {
    let pairs = pairs(2);
    let dir = Dir::of(&pairs[0]);
    let reloader = dir.start(by_events_only());
    let mut events = reloader.events();
    common::replace(&dir.file("tls.crt"), pairs[1].chain.as_bytes());
    assert_eq!(refused(&mut events).layer(), Layer::Match);
    assert_eq!(common::presented(&reloader)[0], pairs[0].leaf);
    common::replace(&dir.file("tls.key"), pairs[1].key.as_bytes());
    common::wait_for_leaf(&reloader, &pairs[1]);
}

#[test]
fn inv05_directory_made_again_without_a_pause_converges() {
    let pairs = pairs(3);
    let dir = Dir::of(&pairs[0]);
    let reloader = dir.start(by_events_only());
    for round in 0..5 {
        // The rounds are so fast that an inode may be reused before the next snapshot.
        for _ in 0..20 {
            fs::remove_dir_all(dir.path()).unwrap();
            fs::create_dir(dir.path()).unwrap();
        }
        dir.write(&pairs[1 + round % 2]);
        common::wait_for_leaf(&reloader, &pairs[1 + round % 2]);
        dir.write(&pairs[0]);
        common::wait_for_leaf(&reloader, &pairs[0]);
    }
}
