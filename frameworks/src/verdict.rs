//! The verdict of a check, and how long a check waits for a change.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Whether a check passed, or why it did not.
pub type Verdict = Result<(), String>;

/// How long a client waits for a change after the server has reported it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries until it is right or the time is over. Returns the last verdict.
pub async fn until(mut attempt: impl AsyncFnMut() -> Verdict) -> Verdict {
    let end = Instant::now() + PATIENCE;
    loop {
        let verdict = attempt().await;
        if verdict.is_ok() || Instant::now() >= end {
            return verdict;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
