//! Counters of handshakes and connections for `/status`. Failures are logged too, rarely enough
//! that no client can fill the log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use rustls_reload::HandshakeFailure;
use serde_json::{Value, json};

use crate::log::{self, log_line};

/// Least time between two log lines of one reason for failed handshakes.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Counters since the start.
pub(crate) struct Counters {
    completed: AtomicU64,
    /// Failures by the name of their reason.
    failed: Mutex<BTreeMap<&'static str, Failed>>,
    pub(crate) accept_failures: AtomicU64,
    open: AtomicUsize,
    /// Limit on open connections.
    pub(crate) limit: usize,
}

/// A connection, counted as open until it is dropped.
pub(crate) struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Failed {
    count: u64,
    /// Time and count of the last log line.
    logged: Option<(Instant, u64)>,
}

impl Counters {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            completed: AtomicU64::new(0),
            failed: Mutex::default(),
            accept_failures: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            limit,
        }
    }

    pub(crate) fn opened(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(crate) fn completed(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed handshake and logs its reason, unless that was done within the last minute.
    pub(crate) fn failed(&self, reason: HandshakeFailure) {
        if let Some(line) = self.line_for(reason, Instant::now()) {
            log_line(line);
        }
    }

    fn line_for(&self, reason: HandshakeFailure, now: Instant) -> Option<String> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let of = failed.entry(reason.name()).or_default();
        of.count += 1;
        // Probes of load balancers connect and disconnect every few seconds: they are counted only.
        if reason == HandshakeFailure::ConnectionLost {
            return None;
        }
        let before = match of.logged {
            Some((at, _)) if now.saturating_duration_since(at) < LOG_PAUSE => return None,
            Some((_, count)) => count,
            None => 0,
        };
        of.logged = Some((now, of.count));
        let (name, new, all) = (reason.name(), of.count - before, of.count);
        Some(format!("handshake failed: {name}: {reason} ({new} since the last such line, {all} in all)"))
    }

    /// Sets the metrics about connections and the log. Those about handshakes are the library's.
    #[allow(clippy::cast_precision_loss)] // reason: there are fewer than 2^53 connections
    pub(crate) fn measure(&self) {
        describe_gauge!("tls_connections_open", "The number of open connections.");
        gauge!("tls_connections_open").set(self.open.load(Ordering::Relaxed) as f64);
        describe_gauge!("tls_connections_limit", "The limit on open connections; further ones wait.");
        gauge!("tls_connections_limit").set(self.limit as f64);
        describe_counter!("tls_accept_failures_total", "Failures of the system to accept a connection.");
        counter!("tls_accept_failures_total").absolute(self.accept_failures.load(Ordering::Relaxed));
        describe_counter!("tls_log_lines_lost_total", "Log lines that stderr did not accept in time.");
        counter!("tls_log_lines_lost_total").absolute(log::lost());
    }

    /// Returns the fields of `/status` about clients and the log.
    pub(crate) fn to_json(&self) -> BTreeMap<&'static str, Value> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed: BTreeMap<_, _> = failed.iter().map(|(name, of)| (*name, of.count)).collect();
        BTreeMap::from([
            ("handshakes", json!({ "completed": self.completed.load(Ordering::Relaxed), "failed": failed })),
            (
                "connections",
                json!({
                    "open": self.open.load(Ordering::Relaxed),
                    "limit": self.limit,
                    "accept_failures": self.accept_failures.load(Ordering::Relaxed),
                }),
            ),
            ("log_lines_lost", json!(log::lost())),
        ])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use rustls_reload::HandshakeFailure::{ConnectionLost, Expired, Revoked};

    use super::*;

    /// Checks: INV-12, INV-16.
    #[test]
    fn inv12_inv16_a_reason_is_logged_once_a_minute_with_its_count() {
        let (counters, start) = (Counters::new(7), Instant::now());
        let at = |reason, seconds| counters.line_for(reason, start + Duration::from_secs(seconds));
        let line = at(Revoked, 0).unwrap();
        let why = "a certificate of the client's chain is revoked";
        assert_eq!(line, format!("handshake failed: revoked: {why} (1 since the last such line, 1 in all)"));
        assert!((0..60).all(|second| at(Revoked, second).is_none()));
        assert!(at(Expired, 1).is_some(), "another reason has a minute of its own");
        let line = at(Revoked, 60).unwrap();
        assert!(line.ends_with("(61 since the last such line, 62 in all)"), "{line}");
        assert!((0..600).all(|second| at(ConnectionLost, second).is_none()), "probes are counted only");
        counters.completed();
        let json = counters.to_json();
        let failed = json!({ "revoked": 62, "expired": 1, "connection_lost": 600 });
        assert_eq!(json["handshakes"], json!({ "completed": 1, "failed": failed }));
    }

    #[test]
    fn inv12_a_connection_counts_as_open_until_it_is_dropped() {
        let counters = Arc::new(Counters::new(7));
        let open = |wanted| {
            let wanted = json!({ "open": wanted, "limit": 7, "accept_failures": 0 });
            assert_eq!(counters.to_json()["connections"], wanted);
        };
        let two = [counters.opened(), counters.opened()];
        open(2);
        drop(two);
        open(0);
    }
}
