//! Wrong ways to publish, in which readers wait for a reload in progress.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use rustls_reload::{Build, Builder, Built, Context, Error, Files, Reloader, fs::Kind};

use super::{Tried, caught, disk::OneFile};
use crate::common::DEADLINE;

/// A stage at which a reload can be held.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Read,
    Build,
    Callback,
}

/// Holds a reload at one stage until it is released.
struct Gate {
    at: Stage,
    closed: AtomicBool,
    begun: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Gate {
    fn pass(&self, stage: Stage) {
        if stage == self.at && self.closed.swap(false, Ordering::SeqCst) {
            self.begun.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
    }
}

/// A value, and a reload that changes it from 1 to 2 and can be held.
trait Publishes: Send + Sync + 'static {
    fn read(&self) -> u64;
    fn reload(&self);
}

/// The shipped reloader of a file of one byte.
struct Shipped {
    reloader: Reloader<u64>,
    write: Box<dyn Fn() + Send + Sync>,
}

struct FirstByte(Arc<Gate>);

impl Build for FirstByte {
    type Value = u64;

    fn build(&mut self, files: &Files, _: &Context<'_, u64>) -> Result<Built<u64>, Error> {
        self.0.pass(Stage::Build);
        Ok(Built::new(files.get(0).unwrap().1[0].into()))
    }
}

impl Shipped {
    /// Loads the reloader. The gate is closed after the first load.
    fn new(gate: &Arc<Gate>) -> Self {
        let (reading, publishing) = (Arc::clone(gate), Arc::clone(gate));
        let mut disk = OneFile::new(Kind::File, 1, |_, _| Ok(0));
        let (written, content) = (Arc::clone(&disk.written), Arc::clone(&disk.written));
        disk.read = Box::new(move |_, buffer| {
            reading.pass(Stage::Read);
            buffer[0] = u8::try_from(content.load(Ordering::SeqCst)).unwrap() + 1;
            Ok(1)
        });
        let builder = Builder::new(["/file"], FirstByte(Arc::clone(gate)));
        let reloader = builder.on_publish(move |_| publishing.pass(Stage::Callback)).load_from(disk).unwrap();
        let write = move || {
            written.fetch_add(1, Ordering::SeqCst);
        };
        Self { reloader, write: Box::new(write) }
    }
}

impl Publishes for Shipped {
    fn read(&self) -> u64 {
        self.reloader.current().value
    }

    fn reload(&self) {
        (self.write)();
        let _ = self.reloader.reload_now();
    }
}

/// Breaks: INV-07. Holds the readers' lock during one stage: the read of the files, the build, or
/// the callback.
struct Locked {
    over: Option<Stage>,
    value: Mutex<u64>,
    gate: Arc<Gate>,
}

impl Publishes for Locked {
    fn read(&self) -> u64 {
        *self.value.lock().unwrap()
    }

    fn reload(&self) {
        for stage in [Stage::Read, Stage::Build] {
            let held = (self.over == Some(stage)).then(|| self.value.lock().unwrap());
            self.gate.pass(stage);
            drop(held);
        }
        let mut value = self.value.lock().unwrap();
        *value = 2;
        let held = (self.over == Some(Stage::Callback)).then_some(value);
        self.gate.pass(Stage::Callback);
        drop(held);
    }
}

/// Reads while a reload is held at a stage. The served value has to arrive within `limit`.
fn prompt<P: Publishes>(
    at: Stage,
    limit: Duration,
    design: impl FnOnce(&Arc<Gate>) -> P,
) -> Result<(), String> {
    let ((begun, has_begun), (go_on, goes_on)) = (channel(), channel());
    let gate = Arc::new(Gate { at, closed: AtomicBool::new(false), begun, go_on: Mutex::new(goes_on) });
    let design = Arc::new(design(&gate));
    assert_eq!(design.read(), 1);
    gate.closed.store(true, Ordering::SeqCst);
    let reload = {
        let design = Arc::clone(&design);
        thread::spawn(move || design.reload())
    };
    has_begun.recv().unwrap();
    let (sender, receiver) = channel();
    let reader = {
        let design = Arc::clone(&design);
        thread::spawn(move || sender.send(design.read()))
    };
    let read = receiver.recv_timeout(limit);
    go_on.send(()).unwrap();
    reload.join().unwrap();
    let _ = reader.join().unwrap();
    let served = if at == Stage::Callback { 2 } else { 1 };
    match read {
        Ok(read) if read == served && design.read() == 2 => Ok(()),
        other => Err(format!("INV-07: a reader got {other:?} while the {at:?} went on")),
    }
}

fn row(name: &str, over: Option<Stage>, at: Stage) -> Result<(), String> {
    // A wrong design never answers, so a short limit is enough. A right one gets as much time as a
    // busy machine needs.
    let limit = if over.is_some() { Duration::from_secs(1) } else { DEADLINE };
    let verdict = prompt(at, limit, |gate| Locked { over, value: Mutex::new(1), gate: Arc::clone(gate) });
    caught((name, "threads"), &["INV-07"], Tried::runs(1), verdict)
}

#[test]
fn inv07_reader_waits_for_a_reload_only_in_wrong_designs() {
    for at in [Stage::Read, Stage::Build, Stage::Callback] {
        assert_eq!(prompt(at, DEADLINE, Shipped::new), Ok(()));
        assert_eq!(row(&format!("LockedOver{at:?}"), Some(at), at), Ok(()));
        assert!(row("(repaired)", None, at).is_err());
    }
}
