//! Measures one reloader with many pairs by server name beside a server of one pair.
//! `scripts/pairs` runs it and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // reason: a measurement

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustls_reload::ServerReloader;
use rustls_reload_testkit::{
    Authority, NamedFile, Op, Pair, PrivateKey, Subject, kubelet_first, kubelet_update, wait_for_tick,
};

/// Changes of one pair, each measured beside a change in the server of one pair.
const ROUNDS: usize = 31;
/// Limit on the time with many pairs, as a multiple of that with one pair.
const LIMIT: f64 = 2.0;

/// A pair in a volume of its own.
struct Site {
    root: PathBuf,
    name: String,
    updates: usize,
}

impl Site {
    fn new(root: &Path, ca: &Authority, number: usize) -> Self {
        let site =
            Self { root: root.join(format!("site{number}")), name: format!("site{number}.test"), updates: 0 };
        std::fs::create_dir(&site.root).unwrap();
        let pair = site.issue(ca);
        kubelet_first(Path::new(""), "..0", &files(&pair))
            .iter()
            .for_each(|op| op.apply(&site.root).unwrap());
        site
    }

    fn issue(&self, ca: &Authority) -> Pair {
        ca.issue(&Subject::server(&self.name), &PrivateKey::p256())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the time from the rename that commits a renewal until it is served, and asserts that
    /// the served pair is the new one.
    fn renew(&mut self, ca: &Authority, server: &ServerReloader) -> Duration {
        let (old, generation) = (format!("..{}", self.updates), server.current().generation);
        self.updates += 1;
        let pair = self.issue(ca);
        let ops = kubelet_update(Path::new(""), &old, &format!("..{}", self.updates), &files(&pair));
        let commit = ops.iter().position(|op| matches!(op, Op::Rename(..))).unwrap();
        ops[..commit].iter().for_each(|op| op.apply(&self.root).unwrap());
        // A rename in the same tick of the file system's clock as the writes is checked again after
        // 30 ms.
        wait_for_tick(&self.root).unwrap();
        // The time is taken before the rename, because the pair may be served before the rename
        // returns.
        let start = Instant::now();
        ops[commit].apply(&self.root).unwrap();
        server.wait_published(generation, Duration::from_secs(30)).expect("served");
        let took = start.elapsed();
        let served = server.current();
        let leaf = served.value.leaf_for(Some(&self.name)).expect("answered");
        let new = rustls_reload::internal::der::serial_hex(
            rustls_reload::internal::der::fields(&pair.leaf).unwrap().serial,
        );
        assert_eq!(leaf.serial, new, "another pair was published");
        ops[commit + 1..].iter().for_each(|op| op.apply(&self.root).unwrap());
        took
    }
}

fn files(pair: &Pair) -> [NamedFile<'_>; 2] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Loads and starts a server of these sites. Returns it and the time that took.
fn start(sites: &[Site]) -> (ServerReloader, Duration) {
    let begin = Instant::now();
    let builder = ServerReloader::builder(sites[0].path("tls.crt"), sites[0].path("tls.key"));
    let further = sites[1..].iter();
    let builder =
        further.fold(builder, |builder, site| builder.pair(site.path("tls.crt"), site.path("tls.key")));
    let server = builder.load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    while !matches!(
        *events.next_within(Duration::from_secs(120)).expect("started").event,
        rustls_reload::Event::Started { .. }
    ) {}
    (server, begin.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let root = PathBuf::from(args.next().expect("a directory"));
    let counts: Vec<usize> = args.map(|count| count.parse().expect("a number of pairs")).collect();
    let ca = Authority::root("CA of the pairs");
    let alone = root.join("alone");
    std::fs::create_dir(&alone).unwrap();
    let mut single = [Site::new(&alone, &ca, 0)];
    let mut fails = false;
    for count in counts {
        let dir = root.join(format!("{count}"));
        std::fs::create_dir(&dir).unwrap();
        let mut sites: Vec<_> = (0..count.max(2)).map(|number| Site::new(&dir, &ca, number)).collect();
        // Waits until the files are older than the settle time, which is not part of the
        // measurement.
        std::thread::sleep(Duration::from_millis(600));
        let (one, start_one) = start(&single);
        let before = resident();
        let (many, start_many) = start(&sites);
        let memory = resident().saturating_sub(before) / count;
        let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let site = 1 + round * 7919 % (sites.len() - 1);
            // The two servers take turns in being first, so that both meet what the other leaves
            // behind.
            for first in [round % 2 == 0, round % 2 != 0] {
                if first {
                    of_one.push(single[0].renew(&ca, &one));
                } else {
                    of_many.push(sites[site].renew(&ca, &many));
                }
            }
        }
        let (of_one, of_many) = (median(of_one), median(of_many));
        let ratio = of_many.as_secs_f64() / of_one.as_secs_f64();
        println!(
            "pairs: {count}: start {start_many:.1?} (one pair {start_one:.1?}), {memory} bytes a pair, \
             from rename to served {of_many:.2?} against {of_one:.2?} of one pair: ratio {ratio:.2}, at most {LIMIT}"
        );
        fails |= ratio > LIMIT;
    }
    ExitCode::from(u8::from(fails))
}
