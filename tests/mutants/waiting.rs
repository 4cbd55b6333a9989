//! A wrong way to publish: readers wait for what builds.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use rustls_reload::{Build, Built, Context, Error, Handle, Reloader, snapshot::Files};

/// What is read, and a build that takes as long as somebody lets it.
trait Publishes: Send + Sync + 'static {
    fn read(&self) -> u32;
    fn reload(&self);
}

impl Publishes for Handle<u32> {
    fn read(&self) -> u32 {
        self.current().value
    }

    fn reload(&self) {
        let _ = self.reload_now();
    }
}

/// Tells that it has begun, and goes on when it is let.
struct Held {
    begun: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
    first: bool,
}

impl Held {
    fn hold(&self) {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
    }
}

impl Build for Held {
    type Value = u32;

    fn build(&mut self, _: &Files, _: &Context<'_, u32>) -> Result<Built<u32>, Error> {
        if std::mem::take(&mut self.first) {
            return Ok(Built::new(1));
        }
        self.hold();
        Ok(Built::new(2))
    }
}

/// Breaks: INV-07. Holds the readers' lock over the build.
struct Locked {
    value: Mutex<u32>,
    held: Mutex<Held>,
}

impl Publishes for Locked {
    fn read(&self) -> u32 {
        *self.value.lock().unwrap()
    }

    fn reload(&self) {
        let mut value = self.value.lock().unwrap();
        self.held.lock().unwrap().hold();
        *value = 2;
    }
}

/// Reads while a build is held; the old value has to come at once.
fn reads_meanwhile(
    design: Arc<dyn Publishes>,
    begun: &Receiver<()>,
    go_on: &Sender<()>,
) -> Result<(), String> {
    let reload = {
        let design = Arc::clone(&design);
        thread::spawn(move || design.reload())
    };
    begun.recv().unwrap();
    let (tell, told) = channel();
    let reader = {
        let design = Arc::clone(&design);
        thread::spawn(move || tell.send(design.read()))
    };
    let read = told.recv_timeout(Duration::from_secs(1));
    go_on.send(()).unwrap();
    reload.join().unwrap();
    let _ = reader.join().unwrap();
    match read {
        Ok(1) if design.read() == 2 => Ok(()),
        other => Err(format!("INV-07: a reader got {other:?} while a build went on")),
    }
}

#[test]
fn inv07_a_reader_does_not_wait_for_a_build_unless_the_design_is_wrong() {
    let held = || {
        let ((begun, has_begun), (go_on, goes_on)) = (channel(), channel());
        (Held { begun, go_on: Arc::new(Mutex::new(goes_on)), first: true }, has_begun, go_on)
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "old").unwrap();
    let (build, begun, go_on) = held();
    let reloader = Reloader::builder([dir.path().join("file")], build).load().unwrap();
    std::fs::write(dir.path().join("file"), "new").unwrap();
    assert_eq!(reads_meanwhile(Arc::new(reloader.handle()), &begun, &go_on), Ok(()));
    let (held, begun, go_on) = held();
    let locked = Arc::new(Locked { value: Mutex::new(1), held: Mutex::new(held) });
    let caught = reads_meanwhile(locked, &begun, &go_on).unwrap_err();
    println!("Locked: {caught}");
    assert!(caught.starts_with("INV-07"));
}
