//! A clock that moves while a callback runs: reports about the end of the leaf use the time after
//! the callback.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_reload::{Clock, Event, Now, Reload, ServerReloader};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

use crate::common::{NamedFile, Volume};

const HOUR: u64 = 3600;
/// The start on the wall clock in seconds, from which all other times count.
const START: u64 = 1_800_000_000;

/// A clock that the test sets: the monotonic seconds, and the wall clock's seconds after the start.
struct Hand(Mutex<(u64, u64)>);

impl Hand {
    fn at(mono: u64, wall: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new((mono, wall))))
    }

    fn set(&self, mono: u64, wall: u64) {
        *self.0.lock().unwrap() = (mono, wall);
    }
}

impl Clock for Hand {
    fn now(&self) -> Now {
        let (mono, wall) = *self.0.lock().unwrap();
        Now { mono: Duration::from_secs(mono), wall: Duration::from_secs(START + wall) }
    }

    fn sleep(&self, pause: Duration) {
        self.0.lock().unwrap().0 += pause.as_secs() + 1;
    }
}

/// Reloads a server manually from a leaf that ends in days to one that ends five hours after the
/// start. The end is reported two hours before it. The publication sets the clock to `moved`.
/// Returns the monotonic times of the reports.
fn reloaded(clock: &Arc<Hand>, moved: (u64, u64)) -> (Volume, ServerReloader, Arc<Mutex<Vec<u64>>>) {
    let ca = Authority::root("CA");
    let pair = |hours: u64| {
        let at = |seconds: u64| -> SystemTime { UNIX_EPOCH + Duration::from_secs(seconds) };
        let subject = Subject::server("localhost").valid(at(START - HOUR), at(START + hours * HOUR));
        ca.issue(&subject, &PrivateKey::ed25519())
    };
    let (old, new) = (pair(400), pair(5));
    let files = [&old, &new].map(|pair| -> [NamedFile<'_>; 2] {
        [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
    });
    let mut volume = Volume::new(&files[0]);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let (keep, timer, moves) = (Arc::clone(&reported), Arc::clone(clock), Arc::clone(clock));
    let reloader = volume
        .server()
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .expiry_warnings([Duration::from_secs(2 * HOUR)])
        .on_publish(move |_| moves.set(moved.0, moved.1))
        .on_event(move |event| {
            if matches!(event, Event::Expiring { .. } | Event::Expired { .. }) {
                keep.lock().unwrap().push(timer.now().mono.as_secs());
            }
        })
        .load()
        .unwrap();
    volume.publish(&files[1]);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    (volume, reloader, reported)
}

#[test]
fn inv11_clock_corrected_in_a_callback_reports_nothing() {
    let (_volume, reloader, reported) = reloaded(&Hand::at(0, 4 * HOUR), (1, 0));
    assert_eq!((reported.lock().unwrap().len(), reloader.status().expiring), (0, None));
}

#[test]
fn inv11_threshold_passed_in_a_callback_is_reported_by_that_reload() {
    let (_volume, reloader, reported) = reloaded(&Hand::at(0, 0), (4 * HOUR, 4 * HOUR));
    assert_eq!((reported.lock().unwrap().len(), reloader.status().expiring.is_some()), (1, true));
}

#[test]
fn inv11_slow_callback_repeats_no_threshold_within_a_day() {
    let clock = Hand::at(0, 4 * HOUR);
    let (_volume, reloader, reported) = reloaded(&clock, (HOUR / 2, 4 * HOUR + HOUR / 2));
    // The clock is set back and forth. A day counts from the report, not from before the callback.
    for (mono, wall) in [(23 * HOUR, 0), (24 * HOUR, 4 * HOUR)] {
        clock.set(mono, wall);
        reloader.reload_now();
    }
    assert_eq!(*reported.lock().unwrap(), [HOUR / 2]);
}
