//! The reloader of a case on real files, a server's or a client's: the shipped one with recorders
//! around it, and with one fault if wanted.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls_reload::{
    Build, Builder, Built, ClientAuth, ClientReloader, ClientTls, Clock, Context, Error, Files, Now,
    Reloader, ServerReloader, ServerTls, Timing,
    fs::{Fs, PathFs, UnixFs},
    internal,
    watch::{Hints, Watched, Watcher},
};
use rustls_reload_harness::sim::{At, BY_PATH, CA, Contents, EPOCH, Record};

use crate::common::forward_fs;

/// The delays of the cases: a tenth to a fiftieth of the default ones.
pub const TIMING: Timing = Timing {
    settle: Duration::from_millis(100),
    shrink_settle: Duration::from_millis(200),
    tie_recheck: Duration::from_millis(40),
    retry: Duration::from_millis(10),
    poll: Duration::from_millis(100),
    degraded_poll: Duration::from_millis(100),
    min_interval: Duration::from_millis(5),
    still_changing_after: Duration::from_secs(5),
};

/// The fault of a server: the wrong designs that can be made of shipped parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// Publishes each set that passes at once. Breaks: INV-01
    NeverSettles,
    /// Gets no event and does not poll. Breaks: INV-05, INV-06
    NeverPolls,
    /// Puts the client CAs of the previous set into each value. Breaks: INV-01
    LateCa,
    /// Treats a refusal as a success, and publishes its old content as a new one. Breaks: INV-02
    PassesAll,
    /// Keeps a client's sessions over the removal of a root. Breaks: INV-09
    KeepsSessions,
    /// Resumes sessions in one configuration for life. Breaks: INV-09
    ResumesForLife,
}

/// Both clocks of a case. The wall clock begins as in a simulated world, and is set in the same
/// way.
pub struct Stepped {
    start: Instant,
    /// The shift of the wall clock in seconds.
    by: AtomicI64,
}

impl Stepped {
    /// Sets the wall clock by so many seconds.
    pub fn set(&self, seconds: i64) {
        self.by.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Stepped {
    fn now(&self) -> Now {
        let passed = self.start.elapsed();
        let (mono, wall) = (EPOCH.mono + passed, EPOCH.wall + passed);
        let by = self.by.load(Ordering::SeqCst);
        let step = Duration::from_secs(by.unsigned_abs());
        Now { mono, wall: if by < 0 { wall.saturating_sub(step) } else { wall + step } }
    }

    fn sleep(&self, pause: Duration) {
        thread::sleep(pause);
    }
}

/// The history of a case, recorded by all its threads.
pub struct Log {
    pub clock: Arc<Stepped>,
    history: Mutex<Vec<At>>,
    /// The contents that passed last, and those that were published last.
    passed: Mutex<(Contents, Contents)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Makes an empty history, whose clock starts now.
    pub fn new() -> Self {
        let clock = Arc::new(Stepped { start: Instant::now(), by: AtomicI64::new(0) });
        Self { clock, history: Mutex::default(), passed: Mutex::default() }
    }

    pub fn note(&self, record: Record) {
        // Taken under the lock, so that the times are in order.
        let mut history = lock(&self.history);
        history.push(At { mono: self.clock.now().mono, record });
    }

    /// Returns the contents that were published last.
    pub fn published(&self) -> Contents {
        lock(&self.passed).1.clone()
    }

    /// Returns the records.
    pub fn history(&self) -> Vec<At> {
        lock(&self.history).clone()
    }

    /// Records that the contents that passed last are published.
    pub fn publishes(&self, generation: u64) {
        let mut passed = lock(&self.passed);
        passed.1 = passed.0.clone();
        self.note(Record::Published { generation, files: passed.1.clone() });
    }
}

/// The system's files, with the refusals that another user than root would get.
#[derive(Clone)]
struct Refusing<F>(F);

impl<F: Fs<File: AsFd>> Fs for Refusing<F> {
    type Dir = F::Dir;
    type File = F::File;

    const HAS_DIR_HANDLES: bool = F::HAS_DIR_HANDLES;

    forward_fs!(0);

    fn open(&self, at: &Self::Dir, name: &OsStr) -> io::Result<F::File> {
        let file = self.0.open(at, name)?;
        let readable = rustix::fs::fstat(&file)?.st_mode & 0o444 != 0;
        if readable { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        self.0.list(dir, each)
    }
}

/// A change of a value that was made of these files.
pub type Alter<V> = Box<dyn FnMut(&mut V, &Files) + Send>;

/// The shipped build step with a recorder, and with one fault if wanted.
struct Evaluating<B: Build> {
    build: B,
    /// Changes a value that passed.
    alter: Alter<B::Value>,
    log: Arc<Log>,
    meanings: HashMap<Vec<u8>, Arc<Vec<u8>>>,
    wrong: Wrong,
    /// The files that passed last.
    good: Option<Files>,
}

impl<B: Build> Evaluating<B> {
    fn meaning(&self, files: &Files) -> Contents {
        // A content that no step has written maps to itself. It was never on disk.
        let meaning =
            |bytes: &[u8]| self.meanings.get(bytes).cloned().unwrap_or_else(|| Arc::new(bytes.to_vec()));
        files.iter().map(|(_, bytes)| Some(meaning(bytes))).collect()
    }

    fn evaluate(&mut self, files: &Files, context: &Context<'_, B::Value>) -> Result<Built<B::Value>, Error> {
        match (self.wrong, &self.good) {
            (Wrong::LateCa, Some(good)) => {
                let mixed = files.iter().take(CA).chain(good.iter().skip(CA));
                self.build.build(&Files::new(mixed), context)
            }
            (Wrong::PassesAll, Some(good)) => {
                self.build.build(files, context).or_else(|_| self.build.build(good, context))
            }
            _ => self.build.build(files, context),
        }
    }
}

impl<B: Build> Build for Evaluating<B> {
    type Value = B::Value;

    fn build(&mut self, files: &Files, context: &Context<'_, B::Value>) -> Result<Built<B::Value>, Error> {
        let mut verdict = self.evaluate(files, context);
        if let Ok(built) = &mut verdict {
            (self.alter)(&mut built.value, files);
        }
        let (marked, passed) = (self.meaning(files), verdict.is_ok());
        if passed {
            lock(&self.log.passed).0.clone_from(&marked);
            self.good = Some(files.clone());
        }
        self.log.note(Record::Evaluated { files: marked, passed });
        verdict
    }

    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        self.build.shrinks(set, served, candidate)
    }
}

/// A watcher that reports nothing.
struct Deaf;

impl Watcher for Deaf {
    fn watch(&mut self, _: &Path) -> Result<Watched, Error> {
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

/// The port that a server reads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The port of this platform.
    Handles,
    /// The port of platforms without directory handles.
    ByPath,
}

/// A case's files and its faults.
pub struct Given<'a> {
    pub paths: &'a [PathBuf],
    pub log: &'a Arc<Log>,
    /// The marked file that corresponds to each real one.
    pub meanings: HashMap<Vec<u8>, Arc<Vec<u8>>>,
    pub wrong: Wrong,
    pub port: Port,
}

impl Given<'_> {
    /// Performs the first load of a server.
    ///
    /// # Errors
    /// The refusal.
    pub fn server(self) -> Result<Reloader<ServerTls>, Error> {
        let [chain, key, ca] = [0, 1, 2].map(|index| &self.paths[index]);
        let server = ServerReloader::builder(chain, key).client_ca(ca, ClientAuth::Required);
        self.load(internal::generic(server)?, Box::new(|_, _| {}))
    }

    /// Performs the first load of a client.
    ///
    /// # Errors
    /// The refusal.
    pub fn client(self) -> Result<Reloader<ClientTls>, Error> {
        let [chain, key, ca] = [0, 1, 2].map(|index| &self.paths[index]);
        let client = ClientReloader::builder().identity(chain, key).roots(ca);
        let alter: Alter<ClientTls> = match self.wrong {
            Wrong::KeepsSessions => super::client::keeping_sessions(),
            _ => Box::new(|_, _| {}),
        };
        self.load(internal::generic_client(client)?, alter)
    }

    fn load<B: Build>(
        self,
        builder: Builder<B>,
        alter: Alter<B::Value>,
    ) -> Result<Reloader<B::Value>, Error> {
        let Self { log, meanings, wrong, port, .. } = self;
        let mut timing = TIMING;
        if wrong == Wrong::NeverSettles {
            (timing.settle, timing.shrink_settle) = (Duration::ZERO, Duration::ZERO);
        }
        if wrong == Wrong::NeverPolls {
            timing.poll = Duration::from_secs(86_400);
        }
        let (events, published) = (Arc::clone(log), Arc::clone(log));
        let mut builder = builder
            .timing(timing)
            .clock(Arc::clone(&log.clock) as Arc<dyn Clock>)
            .on_event(move |event| events.note(Record::Reported(event.clone())))
            .on_publish(move |new| published.publishes(new.generation));
        if wrong == Wrong::NeverPolls {
            builder = builder.watcher(Some(Box::new(|_: Hints| Ok(Box::new(Deaf) as Box<dyn Watcher>))));
        }
        let witness = Arc::clone(log);
        let evaluating = |build| Evaluating { build, alter, log: witness, meanings, wrong, good: None };
        let builder = internal::around(builder, evaluating);
        match port {
            Port::Handles => builder.load_from(Refusing(UnixFs)),
            Port::ByPath => {
                log.note(Record::Mark(BY_PATH, 0));
                builder.load_from(Refusing(PathFs))
            }
        }
    }
}
