//! A soak test: a server process, a publisher process for each way of publishing found in the
//! field, and four clients, for as long as asked. `scripts/soak MINUTES` runs it and says what it
//! shows.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // reason: a test, which is called by hand as well

mod client;
mod publisher;
mod server;
mod sets;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use client::Tally;
use rustls_reload_harness::sim::Publisher;

/// The bound of INV-05 with the default delays is 5 s and twice the poll interval; the rest is for
/// a loaded machine.
const BOUND: Duration = Duration::from_secs(60);
/// Bound on the growth of the server's memory between a fifth of the time and the end. Each
/// reloader keeps at most three sets of files, 256 events and the sessions of the present
/// generation, all of which exist by then. The rest is the overhead of an allocator with several
/// arenas.
const GROWTH_KIB: u64 = 24 << 10;

/// The publishers of the test. `release:absolute` is left out: it differs from `release` only in
/// the target of a link.
pub(crate) fn publishers() -> Vec<Publisher> {
    Publisher::all(false).into_iter().filter(|publisher| *publisher != Publisher::Release(true)).collect()
}

/// The resources of the server process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    rss_kib: u64,
    descriptors: usize,
    threads: usize,
    watches: usize,
}

impl Held {
    fn of(process: u32) -> Self {
        let proc = PathBuf::from(format!("/proc/{process}"));
        let count = |dir: &str| fs::read_dir(proc.join(dir)).unwrap().count();
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let infos = fs::read_dir(proc.join("fdinfo")).unwrap();
        let infos = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
        let watches = infos.map(|info| info.lines().filter(|line| line.starts_with("inotify wd")).count());
        Self {
            rss_kib: rss.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: count("fd"),
            threads: count("task"),
            watches: watches.sum(),
        }
    }

    fn is_flat(&self, then: &Self) -> bool {
        (self.descriptors, self.threads, self.watches) == (then.descriptors, then.threads, then.watches)
    }
}

struct Server {
    process: Child,
    ports: Vec<u16>,
    answers: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(root: &Path) -> Self {
        let server = this(&["server", root.to_str().unwrap()]);
        let mut process = bound(server).stdin(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self { process, ports, answers }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Keeps the server from opening any descriptor for this time. Returns whether that was
    /// possible.
    fn exhaust(&self, time: Duration) -> bool {
        let process = self.process.id().to_string();
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let soft =
            limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        let limit = |soft: &str| {
            let limit = format!("--nofile={soft}:");
            Command::new("prlimit").args(["--pid", &process, &limit]).status().is_ok_and(|set| set.success())
        };
        let done = limit("3");
        thread::sleep(time);
        assert!(!done || limit(soft.unwrap()), "the limit cannot be lifted");
        done
    }

    /// Returns the totals of all reloaders of the server: publications, refusals, and of these for
    /// lack of permission and of descriptors.
    fn counts(&mut self) -> [u64; 4] {
        writeln!(self.process.stdin.as_mut().unwrap(), "counts").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let counts: Vec<_> = line.split_whitespace().map(|count| count.parse().unwrap()).collect();
        counts.try_into().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Removes the capabilities with which root may read every file, where that is possible.
fn bound(command: Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.arg("--bounding-set=-dac_override,-dac_read_search");
    let probe = Command::new("setpriv").args(bound.get_args()).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return command;
    }
    bound.arg(command.get_program()).args(command.get_args()).stdout(Stdio::piped());
    bound
}

/// Returns a command that runs this program in another role.
fn this(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).stdout(Stdio::piped());
    command
}

/// Runs a publisher process, and starts another whenever it was killed.
fn publish(root: &Path, publisher: Publisher, seed: u64, stop: &AtomicBool, counts: &Counts) {
    let mut dice = sets::Dice(seed);
    let mut life = 0;
    while !stop.load(Ordering::Relaxed) {
        life += 1;
        let args = ["publisher", root.to_str().unwrap(), &publisher.name(), &(seed + life).to_string()];
        let mut process = this(&args).stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        // A publisher that commits by one rename may be killed at any point without leaving a
        // mixture. With any other publisher a kill would end the condition (b) of INV-01, and
        // nothing would be left to check.
        let lives = Duration::from_millis(200 + dice.roll(4_000));
        let end = publisher.commits_by_rename().then(|| Instant::now() + lives);
        for line in lines.lines() {
            let count = match line.as_deref() {
                Ok("broken") => &counts.broken,
                Ok("fault") => &counts.faults,
                Ok(_) => &counts.rotations,
                Err(_) => break,
            };
            count.fetch_add(1, Ordering::Relaxed);
            let due = end.is_some_and(|end| Instant::now() >= end);
            if due || stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if stop.load(Ordering::Relaxed) {
            // The publisher ends after its present update.
            drop(process.stdin.take());
        } else {
            process.kill().unwrap();
            counts.kills.fetch_add(1, Ordering::Relaxed);
        }
        process.wait().unwrap();
    }
}

#[derive(Default)]
struct Counts {
    rotations: AtomicU64,
    broken: AtomicU64,
    faults: AtomicU64,
    kills: AtomicU64,
}

fn soak(time: Duration) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let material = Arc::new(sets::make(&root));
    for publisher in publishers() {
        fs::create_dir(root.join(publisher.name())).unwrap();
        publisher::anew(&root.join(publisher.name()), publisher, &material.set(publisher, 0));
    }
    let mut server = Server::start(&root);
    let process = server.process.id();
    let tally = Arc::new(Tally::default());
    let clients = client::start(&material, &server.ports, &tally);
    tally.wait_for(|seen| (0..publishers().len()).all(|at| seen(at) == Some(0)), BOUND)?;
    tally.rest();
    // The server may still close the last connections.
    let begin = loop {
        let begin = Held::of(process);
        thread::sleep(Duration::from_millis(200));
        if Held::of(process).is_flat(&begin) {
            break begin;
        }
    };
    tally.go_on();
    println!("soak: {} publishers, {:?}; at the begin {begin:?}", server.ports.len(), time);

    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
    let threads: Vec<_> = publishers()
        .into_iter()
        .zip(1..)
        .map(|(publisher, number)| {
            let (root, stop, counts) = (root.clone(), Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || publish(&root, publisher, number * 1_000_003, &stop, &counts))
        })
        .collect();
    let start = Instant::now();
    let (mut stops, mut exhausted, mut warm, mut said) = (0, 0, None, 0);
    let mut permitted = true;
    while start.elapsed() < time && tally.failures().is_empty() {
        thread::sleep(Duration::from_secs(1));
        let share = start.elapsed().as_secs_f64() / time.as_secs_f64();
        if warm.is_none() && share >= 0.2 {
            warm = Some(Held::of(process));
        }
        // The server is suspended for some seconds, eight times in all.
        if share * 8.0 >= f64::from(stops) + 0.5 && stops < 8 {
            stops += 1;
            server.signal("-STOP");
            thread::sleep(Duration::from_secs(3).min(time / 20));
            server.signal("-CONT");
        }
        // The server has no free descriptors for some seconds, twice in all.
        if share * 2.0 >= f64::from(exhausted) + 0.5 && exhausted < 2 {
            exhausted += 1;
            permitted &= server.exhaust(Duration::from_secs(3));
        }
        let minute = start.elapsed().as_secs() / 60;
        if minute > said {
            said = minute;
            println!("soak: {minute} min: {} handshakes, {:?}", tally.handshakes(), Held::of(process));
        }
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    // Publishes the last set, which every server has to serve in the end.
    for publisher in publishers() {
        publisher::anew(&root.join(publisher.name()), publisher, &material.set(publisher, sets::LAST));
    }
    let served = tally.wait_for(|seen| (0..publishers().len()).all(|at| seen(at) == Some(sets::LAST)), BOUND);
    let [published, refused, denied, without] = server.counts();
    tally.rest();
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut end = Held::of(process);
    // The next snapshot drops watches that are no longer needed.
    while !end.is_flat(&begin) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
        end = Held::of(process);
    }
    tally.end();
    clients.into_iter().for_each(|client| client.join().unwrap());

    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "soak: {} rotations, {} broken sets, {} faults, {} publishers killed, {stops} stops of the server, {exhausted} times without descriptors; {published} published, {refused} refused, of these {denied} for want of permission, {without} of descriptors",
        get(&counts.rotations),
        get(&counts.broken),
        get(&counts.faults),
        get(&counts.kills)
    );
    println!("soak: {}", tally.summary());
    let warm = warm.unwrap_or(begin);
    println!("soak: at the begin  {begin:?}\nsoak: at a fifth    {warm:?}\nsoak: at the end    {end:?}");
    let mut wrong = tally.failures();
    wrong.extend(served.err());
    if !end.is_flat(&begin) {
        wrong.push("descriptors, threads or watches are not what they were".to_owned());
    }
    if end.rss_kib > warm.rss_kib + GROWTH_KIB {
        wrong.push(format!("the memory grew by more than {GROWTH_KIB} KiB"));
    }
    if !permitted {
        println!("soak: NOT CHECKED: prlimit is not permitted here: no descriptors were taken away");
    } else if without == 0 {
        wrong.push("descriptors never ran out: this run shows nothing of that".to_owned());
    }
    if get(&counts.kills) == 0 || refused == 0 || stops == 0 || tally.resumed() == 0 {
        wrong.push("something never happened: this run shows nothing".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["server", root] => server::serve(Path::new(root)),
        ["publisher", root, name, seed] => {
            // The pipe's other end closes when the server is to end, or when the process that
            // started it is gone.
            let end = Arc::new(AtomicBool::new(false));
            let ended = Arc::clone(&end);
            thread::spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                ended.store(true, Ordering::Relaxed);
            });
            publisher::run(Path::new(root), name, seed.parse().unwrap(), &end);
        }
        [seconds] => match soak(Duration::from_secs(seconds.parse().expect("seconds"))) {
            Ok(()) => println!("soak: ok"),
            Err(why) => {
                println!("soak: FAILED: {why}");
                std::process::exit(1);
            }
        },
        _ => {
            println!("soak SECONDS");
            std::process::exit(2);
        }
    }
}
