//! The handshakes of a scenario, as its clients make them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    client::Client,
    model::{Outcome, Record},
};

/// Pause of a client after a handshake.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The handshakes of a scenario, as they come.
pub(super) struct Log {
    pub(super) origin: Instant,
    records: Mutex<Vec<Record>>,
    added: Notify,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), records: Mutex::default(), added: Notify::new() }
    }

    pub(super) fn add(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        self.added.notify_one();
    }

    /// Takes all records.
    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the records satisfy `reached`.
    ///
    /// Returns whether they do so within the limit.
    pub(super) async fn reached(&self, limit: Duration, mut reached: impl FnMut(&[Record]) -> bool) -> bool {
        let waiting = async {
            while !reached(&self.records.lock().unwrap_or_else(PoisonError::into_inner)) {
                self.added.notified().await;
            }
        };
        timeout(limit, waiting).await.is_ok()
    }
}

/// Connects again and again, and logs each handshake.
pub(super) async fn connect(client: Client, address: SocketAddr, log: Arc<Log>, pause: Duration) {
    loop {
        let record = client.handshake(address, log.origin).await;
        let failed = matches!(record.outcome, Outcome::Failed(_));
        log.add(record);
        // A server that is gone must not be asked a thousand times a second.
        sleep(if failed { pause.max(PAUSE) } else { pause }).await;
    }
}
