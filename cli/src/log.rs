//! Log lines on stderr, through a bounded queue: only the queue's own thread ever waits for the
//! reader of stderr.
//!
//! Without a reader the oldest lines are dropped and counted. A reader that comes back gets the
//! count before the next line (INV-15).

use std::{
    collections::VecDeque,
    fmt::Display,
    io::{self, Write},
    panic,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use rustls_reload::{Event, Severity};

mod form;
use form::Form;
pub(crate) use form::{LogForm, set_form};

/// Limit on the bytes of queued lines. The last line is not counted.
const BYTES_LIMIT: usize = 256 * 1024;
/// Time that the end of the process waits for queued lines. A reader takes them within
/// milliseconds; a full pipe without a reader must not hold the process.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);
/// Pause between two attempts to write to a non-blocking stderr that is full.
const WRITE_PAUSE: Duration = Duration::from_millis(50);

static LOG: Log = Log::new(BYTES_LIMIT);

/// Starts the thread that writes the lines of [`log_line`]. From then on panics are logged too.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn start() -> io::Result<()> {
    // The thread is detached, since a write may hang for ever.
    thread::Builder::new().name("log".to_owned()).spawn(|| LOG.write_to(io::stderr(), form::get()))?;
    LOG.lock().started = true;
    panic::set_hook(Box::new(|panic| {
        log_problem(panic);
        if cfg!(panic = "abort") {
            flush();
        }
    }));
    Ok(())
}

/// Writes one routine line to stderr, in the form that [`set_form`] has set. After [`start`] it only
/// queues the line, and never blocks: a log that nobody reads must not stop the server.
pub(crate) fn log_line(line: impl Display) {
    note(Severity::Informational, &line.to_string());
}

/// Writes a line about something that does not work, as [`log_line`] writes others.
pub(crate) fn log_problem(line: impl Display) {
    note(Severity::Medium, &line.to_string());
}

/// Writes an event, as [`log_line`] writes other lines.
pub(crate) fn log_event(event: &Event) {
    LOG.line(form::get().event(event, SystemTime::now()));
}

fn note(severity: Severity, text: &str) {
    LOG.line(form::get().note(severity, text, SystemTime::now()));
}

/// Waits until all lines are written, for at most [`FLUSH_LIMIT`].
pub(crate) fn flush() {
    LOG.flush(FLUSH_LIMIT);
}

/// Returns the number of lines lost so far.
pub(crate) fn lost() -> u64 {
    LOG.lock().queue.lost_in_all
}

/// Log of one writer.
struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Queue,
    started: bool,
    /// Whether the writer has taken a line that is not written yet.
    writing: bool,
}

impl Log {
    const fn new(limit: usize) -> Self {
        let state = State { queue: Queue::new(limit), started: false, writing: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, line: String) {
        let mut state = self.lock();
        if state.started {
            state.queue.push(line);
            self.changed.notify_all();
        } else {
            drop(state);
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self, limit: Duration) {
        let open = |state: &mut State| state.started && (state.writing || !state.queue.lines.is_empty());
        drop(self.changed.wait_timeout_while(self.lock(), limit, open));
    }

    /// Writes lines as they come, for ever. A line whose write fails is lost.
    fn write_to(&self, mut out: impl Write, form: &Form) {
        let mut cut = false;
        loop {
            let (lost, line) = self.next();
            let mut text = String::new();
            if std::mem::take(&mut cut) {
                text.push('\n');
            }
            if lost > 0 {
                let lines = format!("{lost} log lines were lost here: stderr did not accept them in time");
                text += &form.note(Severity::Medium, &lines, SystemTime::now());
            }
            let count = text.len();
            text += &line;
            if let Err(written) = write(&mut out, text.as_bytes()) {
                cut = text.as_bytes()[..written].last().is_some_and(|last| *last != b'\n');
                // The count was written if no more than its line break is missing.
                self.lock().queue.lose_written(if written + 1 < count { lost } else { 0 });
            }
        }
    }

    /// Takes the next line, once there is one, and the number of lines lost before it.
    fn next(&self) -> (u64, String) {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.queue.pop() {
                state.writing = true;
                return next;
            }
            state.writing = false;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes the whole text, also where another process made the shared stderr non-blocking.
///
/// # Errors
/// The number of bytes written before the failure.
fn write(out: &mut impl Write, text: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < text.len() {
        match out.write(&text[written..]) {
            Ok(0) => return Err(written),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WRITE_PAUSE),
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// Lines that wait for the writer. The oldest are dropped for new ones, since the latest describe
/// the present state.
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    limit: usize,
    /// Number of lines lost directly before the first that waits.
    lost: u64,
    lost_in_all: u64,
}

impl Queue {
    const fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, limit, lost: 0, lost_in_all: 0 }
    }

    /// Queues a line, which is not empty.
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        // The last line stays, however long it is.
        while self.bytes > self.limit && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
            self.lost += 1;
            self.lost_in_all += 1;
        }
    }

    /// Takes the first line that waits, and the number of lines lost before it.
    fn pop(&mut self) -> Option<(u64, String)> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some((std::mem::take(&mut self.lost), line))
    }

    /// Counts the line taken last as lost. `lost` is the number of lines before it whose count was
    /// not written either.
    fn lose_written(&mut self, lost: u64) {
        self.lost += lost + 1;
        self.lost_in_all += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests;
