//! Measures a server beside a neighbour of its files that is written ten thousand times a second:
//! its CPU time, compared with a program that receives the same `notify` events and does nothing,
//! and the duration of a rotation.
//!
//! `scripts/chatty` builds and runs this program. Its argument is the binary to measure. It starts
//! `chatty write` and `chatty listen` as two more processes.
#![cfg_attr(not(loom), allow(clippy::print_stdout))] // reason: it reports

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    storm::main()
}

#[cfg(not(loom))]
mod storm {
    use std::{
        error::Error,
        fs,
        io::{BufRead, BufReader, Read, Write},
        path::{Path, PathBuf},
        process::{Child, Command, ExitCode, Stdio},
        sync::mpsc,
        time::{Duration, Instant},
    };

    use notify::Watcher;
    use rustls_reload_testkit::{
        Authority, NamedFile, Op, Pair, PrivateKey, Subject, kubelet_first, kubelet_update, wait_for_tick,
    };

    /// Number of storms. The CPU time of either process depends on how many events each wake-up
    /// delivers, which the scheduler decides; so the median of the ratios counts.
    const STORMS: usize = 3;
    /// Duration of each storm.
    const STORM: Duration = Duration::from_secs(10);
    /// Writes per second.
    const RATE: u32 = 10_000;
    /// A storm with fewer writes a second is no evidence.
    const LEAST_RATE: f64 = 9_000.0;
    /// Number of rotations before the storms and within each.
    const ROTATIONS: u32 = 40;
    /// Most CPU time of the server, as a multiple of the listener's.
    const MOST_CPU: f64 = 1.5;
    /// Most snapshots a second: the interval between two is at least 5 ms.
    const MOST_LOOKS: f64 = 200.0;
    /// Most that the median rotation in the storm may take; or three times the calm median, if that
    /// is longer.
    const ORDINARY: Duration = Duration::from_millis(10);
    /// Most that the slowest rotation may take. A machine with other work can delay any of them. At
    /// ten times this bound, the poll could have noticed the rotation.
    const SLOWEST: Duration = Duration::from_secs(1);
    /// A rotation that takes longer counts as not served.
    const DEADLINE: Duration = Duration::from_secs(20);

    type Outcome<T> = Result<T, Box<dyn Error>>;

    pub(super) fn main() -> ExitCode {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let outcome = match arguments[..] {
            ["write", dir] => write(Path::new(dir)).map(|()| true),
            ["listen", dir] => listen(Path::new(dir)).map(|()| true),
            [server] => measure(Path::new(server)),
            _ => Err("expected one argument: the binary to measure".into()),
        };
        match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("chatty: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Writes the neighbour at the rate, and prints the rate that was reached.
    fn write(dir: &Path) -> Outcome<()> {
        let neighbour = dir.join("neighbour");
        let start = Instant::now();
        let mut written = 0_u32;
        while start.elapsed() < STORM {
            // The file is opened anew each time but not truncated: some file systems wait for the
            // disk at a truncation.
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(false).open(&neighbour)?;
            file.write_all(&written.to_ne_bytes())?;
            drop(file);
            written += 1;
            let due = start + STORM * (written / 10) / (STORM.as_secs() as u32 * RATE / 10);
            // Pauses after every ten writes, because a pause for each would be shorter than the
            // system can sleep.
            if written.is_multiple_of(10) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        println!("{}", f64::from(written) / start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Receives every event of the directory and does nothing, until its stdin ends.
    fn listen(dir: &Path) -> Outcome<()> {
        let mut watcher = notify::recommended_watcher(|_| {})?;
        watcher.watch(dir, notify::RecursiveMode::NonRecursive)?;
        println!("listening");
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// A process that is ended when this value is dropped.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Process {
        /// Returns the CPU time of all its threads so far, including those that have ended.
        fn cpu(&self) -> Outcome<Duration> {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
            let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            // utime and stime are the 14th and 15th field (proc(5)), counted here without the first
            // two. Their unit is 10 ms.
            let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
            Ok(Duration::from_millis(10 * ticks))
        }
    }

    fn this(verb: &str, dir: &Path) -> Outcome<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(verb).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Process(command.spawn()?))
    }

    fn first_line(process: &mut Process) -> Outcome<String> {
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// The server, and its lines with the time at which each arrived.
    struct Server {
        process: Process,
        lines: mpsc::Receiver<(Instant, String)>,
        address: String,
    }

    impl Server {
        fn start(binary: &Path, dir: &Path) -> Outcome<Self> {
            let mut command = Command::new(binary);
            command.args(["serve", "--listen", "127.0.0.1:0", "--cert"]).arg(dir.join("tls.crt"));
            command.arg("--key").arg(dir.join("tls.key")).stderr(Stdio::piped());
            let mut process = Process(command.spawn()?);
            let stderr = BufReader::new(process.0.stderr.take().ok_or("no stderr")?);
            let (sender, lines) = mpsc::channel();
            std::thread::spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    if sender.send((Instant::now(), line)).is_err() {
                        break;
                    }
                }
            });
            let mut server = Self { process, lines, address: String::new() };
            let (_, line) = server.line("listening on https://")?;
            let rest = line.split("https://").nth(1).unwrap_or_default();
            server.address = rest.split(' ').next().unwrap_or_default().to_owned();
            Ok(server)
        }

        /// Returns the next line that contains `wanted`.
        fn line(&self, wanted: &str) -> Outcome<(Instant, String)> {
            let deadline = Instant::now() + DEADLINE;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let reported =
                    self.lines.recv_timeout(left).map_err(|_| format!("never reported: {wanted}"))?;
                if reported.1.contains(wanted) {
                    return Ok(reported);
                }
            }
        }

        /// Returns how many snapshots the server has taken.
        fn snapshots(&self) -> Outcome<f64> {
            let url = format!("https://{}/status", self.address);
            let output = Command::new("curl").args(["--silent", "--insecure", &url]).output()?;
            let text = String::from_utf8(output.stdout)?;
            let snapshots =
                text.split("\"snapshots\": ").nth(1).and_then(|rest| rest.split([',', '\n']).next());
            Ok(snapshots.ok_or("a status without looks")?.parse()?)
        }
    }

    /// The volume and its publisher.
    struct Volume {
        root: tempfile::TempDir,
        authority: Authority,
        updates: u32,
    }

    fn files(pair: &Pair) -> [NamedFile<'_>; 2] {
        [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
    }

    impl Volume {
        fn new() -> Outcome<Self> {
            let volume =
                Self { root: tempfile::tempdir()?, authority: Authority::root("chatty"), updates: 0 };
            fs::create_dir(volume.dir())?;
            for op in kubelet_first(Path::new("tls"), "..0", &files(&volume.pair())) {
                op.apply(volume.root.path())?;
            }
            Ok(volume)
        }

        fn dir(&self) -> PathBuf {
            self.root.path().join("tls")
        }

        fn pair(&self) -> Pair {
            self.authority.issue(&Subject::server("localhost"), &PrivateKey::p256())
        }

        /// Publishes a pair. Returns the time from the rename until the server reported it as
        /// served.
        fn rotate(&mut self, server: &Server) -> Outcome<Duration> {
            let pair = self.pair();
            let old = format!("..{}", self.updates);
            self.updates += 1;
            let new = format!("..{}", self.updates);
            let mut renamed = Instant::now();
            for op in kubelet_update(Path::new("tls"), &old, &new, &files(&pair)) {
                if matches!(op, Op::Rename(..)) {
                    // Real publishers take longer than a tick of the file system's clock, so this
                    // one waits for a tick.
                    wait_for_tick(self.root.path())?;
                    renamed = Instant::now();
                }
                op.apply(self.root.path())?;
            }
            let (reported, _) = server.line(&format!("[generation:{} ", self.updates + 1))?;
            Ok(reported.saturating_duration_since(renamed))
        }
    }

    /// Returns the median, the 99th percentile and the maximum.
    fn spread(mut took: Vec<Duration>) -> [Duration; 3] {
        took.sort();
        let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
        [at(50), at(99), at(100)]
    }

    /// The measurements of one storm.
    struct Storm {
        rate: f64,
        server: Duration,
        listener: Duration,
        snapshots: f64,
    }

    impl Storm {
        fn ratio(&self) -> f64 {
            self.server.as_secs_f64() / self.listener.as_secs_f64()
        }
    }

    impl std::fmt::Display for Storm {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Self { rate, server, listener, .. } = self;
            write!(
                f,
                "a neighbour written {rate:.0} times a second for {STORM:?}, {ROTATIONS} rotations: CPU time "
            )?;
            write!(
                f,
                "{server:.2?} the server, {listener:.2?} notify doing nothing, ratio {:.2}",
                self.ratio()
            )
        }
    }

    /// Rotates for as long as the neighbour is written.
    fn storm(
        volume: &mut Volume,
        server: &Server,
        listener: &Process,
        took: &mut Vec<Duration>,
    ) -> Outcome<Storm> {
        let snapshots = server.snapshots()?;
        let before = (server.process.cpu()?, listener.cpu()?);
        let start = Instant::now();
        let mut writer = this("write", &volume.dir())?;
        for i in 1..=ROTATIONS {
            took.push(volume.rotate(server)?);
            let next = start + STORM * i / (ROTATIONS + 1);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        if start.elapsed() >= STORM {
            return Err("the rotations went on after the storm".into());
        }
        let rate = first_line(&mut writer)?.parse()?;
        let [server_cpu, listener] = [server.process.cpu()? - before.0, listener.cpu()? - before.1];
        let snapshots = (server.snapshots()? - snapshots) / start.elapsed().as_secs_f64();
        Ok(Storm { rate, server: server_cpu, listener, snapshots })
    }

    fn measure(binary: &Path) -> Outcome<bool> {
        let mut volume = Volume::new()?;
        let server = Server::start(binary, &volume.dir())?;
        let mut listener = this("listen", &volume.dir())?;
        first_line(&mut listener)?;
        let mut calm = Vec::new();
        for _ in 0..ROTATIONS {
            calm.push(volume.rotate(&server)?);
        }

        let (mut stormy, mut storms) = (Vec::new(), Vec::new());
        for _ in 0..STORMS {
            let storm = storm(&mut volume, &server, &listener, &mut stormy)?;
            println!("{storm}");
            storms.push(storm);
        }

        let [calm, stormy] = [calm, stormy].map(spread);
        println!("rotation, calm:      p50 {:.1?}, p99 {:.1?}, worst {:.1?}", calm[0], calm[1], calm[2]);
        println!(
            "rotation, in storm:  p50 {:.1?}, p99 {:.1?}, worst {:.1?}",
            stormy[0], stormy[1], stormy[2]
        );
        let by = |of: fn(&Storm) -> f64| {
            let mut all: Vec<_> = storms.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let ratio = by(Storm::ratio)[STORMS / 2];
        let (rate, snapshots) = (by(|storm| storm.rate)[0], by(|storm| storm.snapshots)[STORMS - 1]);
        println!("CPU time, ratio:     {ratio:.2} in the median (at most {MOST_CPU})");
        println!("looks a second:      {snapshots:.1} (at most {MOST_LOOKS})");

        let mut fine = true;
        let mut check = |kept: bool, what: String| {
            if !kept {
                fine = false;
                println!("FAIL {what}");
            }
        };
        check(rate >= LEAST_RATE, format!("{rate:.0} writes a second are no storm: {LEAST_RATE} are"));
        let ordinary = ORDINARY.max(3 * calm[0]);
        check(stormy[0] <= ordinary, format!("p50 of a rotation {:.1?}, at most {ordinary:.1?}", stormy[0]));
        check(stormy[2] <= SLOWEST, format!("the slowest rotation {:.1?}, at most {SLOWEST:.1?}", stormy[2]));
        check(ratio <= MOST_CPU, format!("{ratio:.2} times the CPU time, at most {MOST_CPU}"));
        check(snapshots <= MOST_LOOKS, format!("{snapshots:.1} snapshots a second, at most {MOST_LOOKS}"));
        if fine {
            println!("ok");
        }
        Ok(fine)
    }
}
