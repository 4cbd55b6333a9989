//! The verdict of a check, and the wait for a change.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Whether a check passed, or why it did not.
pub type Verdict = Result<(), String>;

/// Tries once, and then until it is right or the time is over. Returns the last verdict.
pub async fn until(patience: Duration, mut attempt: impl AsyncFnMut() -> Verdict) -> Verdict {
    let end = Instant::now() + patience;
    loop {
        let verdict = attempt().await;
        if verdict.is_ok() || Instant::now() >= end {
            return verdict;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
