//! Stops and drops while the key is being read.

use std::{
    sync::{Arc, PoisonError, mpsc},
    time::Duration,
};

use super::{ALL, Bench, reads::key_read, through};
use crate::pairs;
use rustls_reload::{Event, Reload};

impl Bench<'_> {
    /// Stops while the key is being read, from the reading thread and from another one.
    pub(super) fn stops(self) -> (usize, usize, Vec<String>) {
        let Self { reloader, hook, reported, ways, refused, .. } = &self;
        self.publish();
        let stops = Arc::clone(reloader);
        *hook.lock().unwrap() = key_read(self.form.secret.end, move || {
            stops.stop().unwrap();
            Ok(ALL)
        });
        let answer = reloader.reload_now();
        assert!(matches!(answer, Reload::Stopped), "{}: {answer:?}", self.form.name);
        assert!(matches!(reloader.reload_now(), Reload::Stopped), "after a stop");
        // The driver's thread is held in a read until the stop has begun.
        let ((inside, is_inside), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        *hook.lock().unwrap() = key_read(self.form.secret.end, move || {
            inside.send(()).unwrap();
            let _ = released.recv();
            Ok(ALL)
        });
        reloader.start().unwrap();
        is_inside.recv_timeout(Duration::from_secs(20)).unwrap();
        let stopping = std::thread::spawn({
            let reloader = Arc::clone(reloader);
            move || reloader.stop()
        });
        assert!(matches!(reloader.reload_now(), Reload::Stopped), "during a stop");
        release.send(()).unwrap();
        stopping.join().unwrap().unwrap();
        *hook.lock().unwrap() = through();
        // The driver serves the form, and the reloader is dropped meanwhile.
        let mut events = reloader.events();
        reloader.start().unwrap();
        while !matches!(&*events.next_within(Duration::from_secs(20)).unwrap().event, Event::Started { .. }) {
        }
        let base = crate::serial(&pairs()[0]);
        while self.form.is_taken && reloader.current().value.leaf.serial == base {
            reloader.reload_now();
        }
        let reported = std::mem::take(&mut *reported.lock().unwrap_or_else(PoisonError::into_inner));
        (ways + 4, *refused, reported)
    }
}
