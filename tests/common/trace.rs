//! Checks that a rehearsal leaves no trace in the configuration.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rustls::{KeyLog, ServerConfig};

/// Number of sessions for which the storage of a configuration has room.
const ROOM: usize = rustls_reload::SESSION_LIMIT;

/// A key log that counts its entries.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl KeyLog for Counter {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Checks that a load leaves no trace of its rehearsal in the configuration that it returns. The
/// error names the trace.
///
/// `load` gets a closure for further settings, which sees the configuration before the rehearsal.
/// The closure fills the session storage, so that one more session evicts an old one, and installs
/// a key log that counts its entries.
pub fn leaves_no_trace(
    load: impl FnOnce(Box<dyn FnMut(&mut ServerConfig) + Send>) -> Arc<ServerConfig>,
) -> Result<(), String> {
    let log = Arc::new(Counter::default());
    let keep = Arc::clone(&log);
    let config = load(Box::new(move |config| {
        for session in 0..ROOM {
            assert!(config.session_storage.put(session.to_be_bytes().to_vec(), vec![1]));
        }
        config.key_log = Arc::clone(&keep) as Arc<dyn KeyLog>;
    }));
    let storage = &config.session_storage;
    let kept = || (0..ROOM).filter(|session| storage.get(&session.to_be_bytes()).is_some()).count();
    let gone = ROOM - kept();
    if gone > 0 {
        return Err(format!("INV-02, INV-08: the rehearsal pushed {gone} sessions out of the live storage"));
    }
    let logged = log.0.load(Ordering::SeqCst);
    if logged > 0 {
        return Err(format!("INV-02: the rehearsal logged {logged} secrets"));
    }
    // Shows that the storage was full and would have evicted a session.
    storage.put(b"one more".to_vec(), Vec::new());
    assert_eq!(kept(), ROOM - 1, "the storage was not full");
    Ok(())
}
