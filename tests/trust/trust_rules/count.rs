//! The counts of a table, and its wrong answers.

use std::{collections::BTreeMap, fmt, io::Write as _};

/// Number of wrong answers that are printed.
const SHOWN: usize = 12;

#[derive(Debug, Default)]
pub struct Count {
    /// Rows of the whole table.
    pub combinations: usize,
    /// Rows that were not tried: by the rules they cannot differ from a tried one, or rows of their
    /// kind take turns.
    pub pruned: usize,
    pub handshakes: usize,
    /// Refusals of clients, by reason.
    pub refusals: BTreeMap<&'static str, usize>,
    pub loads: usize,
    pub reloads: usize,
    pub refused_reloads: usize,
    pub warned: usize,
    /// Reloads that reduced the trust.
    pub shrunk: usize,
    /// Sessions that were offered, and sessions that were resumed.
    pub offered: usize,
    pub resumed: usize,
    /// Clients that were let in and should have been refused, by a full handshake or by a session.
    pub fail_open: usize,
    wrong: usize,
    shown: Vec<String>,
}

impl Count {
    pub fn expect<T: PartialEq + fmt::Debug>(&mut self, found: T, wanted: T, what: impl FnOnce() -> String) {
        if found != wanted {
            self.wrong += 1;
            if self.shown.len() < SHOWN {
                self.shown.push(format!("{found:?} where the rules say {wanted:?}: {}", what()));
            }
        }
    }

    pub fn join(&mut self, other: Self) {
        let Self { refusals, shown, .. } = other;
        self.combinations += other.combinations;
        self.pruned += other.pruned;
        self.handshakes += other.handshakes;
        self.loads += other.loads;
        self.reloads += other.reloads;
        self.refused_reloads += other.refused_reloads;
        self.warned += other.warned;
        self.shrunk += other.shrunk;
        self.offered += other.offered;
        self.resumed += other.resumed;
        self.fail_open += other.fail_open;
        self.wrong += other.wrong;
        for (reason, count) in refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
        self.shown.extend(shown);
    }

    /// Prints the counts, past the capture of passing tests.
    ///
    /// # Panics
    /// If an answer was wrong.
    pub fn close(&self, what: &str) {
        assert!(self.wrong == 0, "{what}: {} wrong answers:\n{}", self.wrong, self.shown.join("\n"));
        assert_eq!(self.fail_open, 0, "{what}");
        let reasons: Vec<_> =
            self.refusals.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let _ = writeln!(
            std::io::stderr(),
            "trust rules, {what}: {} combinations ({} pruned), {} loads, {} handshakes (refused: {}), {} reloads ({} \
             refused, {} warned, {} shrank the trust), {} sessions offered, {} resumed, fail-open = 0",
            self.combinations,
            self.pruned,
            self.loads,
            self.handshakes,
            reasons.join(", "),
            self.reloads,
            self.refused_reloads,
            self.warned,
            self.shrunk,
            self.offered,
            self.resumed,
        );
    }
}

/// Runs the parts on two threads, and adds up their counts.
pub fn halves<T: Sync>(parts: &[T], run: impl Fn(&T) -> Count + Sync) -> Count {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut count = Count::default();
        while let Some(part) = parts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            count.join(run(part));
        }
        count
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().fold(Count::default(), |mut all, thread| {
            all.join(thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why)));
            all
        })
    })
}
