//! Tests of lines that wait for a slow or broken stderr.

use std::{
    fs,
    sync::{Arc, mpsc},
    time::Instant,
};

use proptest::{collection::vec, prelude::*};
use rustls_reload::{Clock, Event, ServerReloader, SystemClock, Timing, internal::one_line};

use super::*;
use crate::testkit::{Authority, PrivateKey, Subject};

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(20);

/// A writer that takes nothing until it is opened, and passes on what it takes.
struct Pipe {
    open: mpsc::Receiver<()>,
    is_open: bool,
    written: mpsc::Sender<String>,
}

impl Write for Pipe {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if !self.is_open {
            // A sender that is dropped opens it as well.
            let _ = self.open.recv();
            self.is_open = true;
        }
        let _ = self.written.send(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log whose writer hangs, the sender that opens it, and all that it has taken.
fn blocked(limit: usize) -> (&'static Log, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let ((opens, open), (written, taken)) = (mpsc::channel(), mpsc::channel());
    let log: &'static Log = Box::leak(Box::new(Log::new(limit)));
    log.lock().started = true;
    thread::spawn(move || log.write_to(Pipe { open, is_open: false, written }, &Form::Plain));
    (log, opens, taken)
}

/// Whether three rotations are served while this observer is given the events, by a driver that is
/// never stalled for `patience`.
fn goes_on(patience: Duration, observer: impl Fn(&Event) + Send + Sync + 'static) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let ca = Authority::root("CA");
    let write = |_| {
        let pair = ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
        fs::write(&chain, &pair.chain).unwrap();
        fs::write(&key, &pair.key).unwrap();
    };
    write(0);
    let short = Duration::from_millis(20);
    let timing = Timing { settle: short, poll: short, degraded_poll: short, ..Timing::default() };
    let builder = ServerReloader::builder(&chain, &key).watcher(None).timing(timing);
    let reloader = Arc::new(builder.on_event(observer).load().unwrap());
    reloader.start().unwrap();
    let served = (1..=3).all(|generation| {
        write(generation);
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if reloader.wait_published(generation, short).is_some() {
                return true;
            }
            let now = SystemClock::new().now().wall;
            if reloader.status().stalled_since.is_some_and(|since| now.saturating_sub(since) > patience) {
                break;
            }
        }
        false
    });
    // A driver that hangs would be waited for.
    std::mem::forget(reloader);
    served
}

#[test]
fn inv15_reloads_go_on_while_nobody_reads_the_log() {
    let (log, opens, taken) = blocked(1 << 20);
    assert!(goes_on(DEADLINE, move |event| log.line(one_line(event) + "\n")));
    drop(opens);
    let line = taken.recv_timeout(DEADLINE).unwrap();
    assert!(line.contains("degraded"), "{line}");
}

// Breaks: INV-15. The log line is written on the driver's thread.
#[test]
fn a_line_written_on_the_drivers_thread_stops_reloads() {
    let (opens, open) = mpsc::channel();
    let pipe = Mutex::new(Pipe { open, is_open: false, written: mpsc::channel().0 });
    assert!(!goes_on(Duration::from_secs(3), move |event| {
        let text = one_line(event) + "\n";
        pipe.lock().unwrap().write_all(text.as_bytes()).unwrap();
    }));
    drop(opens);
}

#[test]
fn inv15_a_reader_that_comes_back_gets_the_count_of_lost_lines() {
    let (log, opens, taken) = blocked(100);
    log.line("first\n".to_owned());
    // The writer has it in hand.
    let start = Instant::now();
    while !log.lock().writing {
        assert!(start.elapsed() < DEADLINE);
        thread::yield_now();
    }
    for number in 0..1_000 {
        log.line(format!("line {number:03}\n"));
    }
    let start = Instant::now();
    log.flush(Duration::from_millis(50));
    assert!(start.elapsed() < DEADLINE, "a flush ends though nobody reads");
    drop(opens);
    log.flush(DEADLINE);
    let all: String = taken.try_iter().collect();
    let mut wanted = vec![
        "first".to_owned(),
        "989 log lines were lost here: stderr did not accept them in time".to_owned(),
    ];
    wanted.extend((989..1_000).map(|number| format!("line {number}")));
    assert_eq!(all.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(log.lock().queue.lost_in_all, 989);
}

/// Checks: INV-15. The count of lost lines has the form of all lines.
#[test]
fn inv15_the_count_of_lost_lines_is_an_object_among_objects() {
    for form in [Form::Json, Form::Ocsf(rustls_reload::Ocsf::new("host"))] {
        let form: &'static Form = Box::leak(Box::new(form));
        let ((opens, open), (written, taken)) = (mpsc::channel(), mpsc::channel());
        let log: &'static Log = Box::leak(Box::new(Log::new(1)));
        log.lock().started = true;
        for number in 0..3 {
            log.line(form.note(Severity::Informational, &format!("line {number}"), SystemTime::now()));
        }
        thread::spawn(move || log.write_to(Pipe { open, is_open: false, written }, form));
        drop(opens);
        log.flush(DEADLINE);
        let text: String = taken.try_iter().collect();
        let message = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
        let messages: Vec<_> = text.lines().map(message).collect();
        assert_eq!(messages, ["2 log lines were lost here: stderr did not accept them in time", "line 2"]);
    }
}

/// Takes so many bytes a call, or fails.
struct Script(Vec<Result<usize, io::ErrorKind>>, Vec<u8>);

impl Write for Script {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let taken = self.0.pop().unwrap_or(Ok(usize::MAX))?.min(text.len());
        self.1.extend(&text[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn inv15_a_line_is_written_whole_or_counted_as_lost() {
    use io::ErrorKind::{BrokenPipe, Interrupted, StorageFull, WouldBlock};
    for (mut script, wanted) in [
        (vec![], Ok(())),
        (vec![Ok(2), Err(Interrupted), Err(WouldBlock), Ok(1)], Ok(())),
        (vec![Err(StorageFull)], Err(0)),
        (vec![Ok(3), Err(BrokenPipe)], Err(3)),
        (vec![Ok(3), Ok(0)], Err(3)),
    ] {
        script.reverse();
        let mut out = Script(script, Vec::new());
        assert_eq!(write(&mut out, b"a line\n"), wanted);
        assert_eq!(out.1.len(), wanted.err().unwrap_or(7));
    }
}

/// Fails once each time that it has taken so many bytes, and passes on what it takes.
struct Breaks(Vec<usize>, mpsc::Sender<String>, bool);

impl Write for Breaks {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.2) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = self.0.pop().map_or(text.len(), |taken| {
            self.2 = true;
            taken.min(text.len())
        });
        self.1.send(String::from_utf8_lossy(&text[..taken]).into_owned()).unwrap();
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks: INV-15. Engine: generated, exhaustive over where the second line breaks off.
#[test]
fn inv15_counts_of_lost_lines_add_up_wherever_a_write_fails() {
    let line_lost = "1 log lines were lost here: stderr did not accept them in time\n";
    for at in 1..line_lost.len() + 3 {
        let (written, taken) = mpsc::channel();
        let log: &'static Log = Box::leak(Box::new(Log::new(1_000)));
        log.lock().started = true;
        // The first line fails after one byte.
        let out = Breaks(vec![at, 1], written, false);
        thread::spawn(move || log.write_to(out, &Form::Plain));
        for line in ["one\n", "two\n", "three\n"] {
            log.line(line.to_owned());
            log.flush(DEADLINE);
        }
        let text: String = taken.try_iter().collect();
        let counts = text.lines().filter_map(|line| {
            line.strip_suffix(" log lines were lost here: stderr did not accept them in time")
        });
        let sum: u64 = counts.map(|count| count.parse::<u64>().unwrap()).sum();
        assert_eq!((sum, log.lock().queue.lost_in_all), (2, 2), "{at}: {text:?}");
        assert!(text.ends_with("\nthree\n") && !text.contains("\n\n"), "{at}: {text:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Pop,
    /// The line popped last was not written.
    Fail,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Checks: INV-15. Engine: generated: lines that come, are taken and fail in any order,
    /// against the list of all lines.
    #[test]
    fn inv15_every_line_is_written_or_counted_at_its_place(
        limit in 1_usize..40,
        steps in vec(prop_oneof![3 => (1_usize..20).prop_map(Step::Push), 2 => Just(Step::Pop), 1 => Just(Step::Fail)], 0..80),
    ) {
        let mut queue = Queue::new(limit);
        // Lengths of all lines; the first that waits; the first that no reader knows of; the
        // last taken, with its number.
        let (mut all, mut waits, mut unknown) = (Vec::new(), 0, 0);
        let mut taken = None;
        let mut lost_in_all = 0;
        for step in steps {
            match step {
                Step::Push(length) => {
                    all.push(length);
                    queue.push("x".repeat(length));
                    while all[waits..].iter().sum::<usize>() > limit && all.len() - waits > 1 {
                        waits += 1;
                        lost_in_all += 1;
                    }
                }
                Step::Pop => {
                    let next = (waits < all.len()).then(|| ((waits - unknown) as u64, all[waits]));
                    let popped = queue.pop().map(|(lost, line)| (lost, line.len()));
                    prop_assert_eq!(popped, next);
                    if let Some((lost, _)) = next {
                        taken = Some((unknown, lost));
                        waits += 1;
                        unknown = waits;
                    }
                }
                Step::Fail => if let Some((before, lost)) = taken.take() {
                    queue.lose_written(lost);
                    lost_in_all += 1;
                    unknown = before;
                }
            }
            prop_assert_eq!(queue.lost, (waits - unknown) as u64);
            prop_assert_eq!(queue.bytes, all[waits..].iter().sum::<usize>());
            prop_assert_eq!(queue.lost_in_all, lost_in_all);
        }
    }
}
