//! `watch`: follows the files of a server, and reports each step of each reload.

use std::io::{self, Write};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing_subscriber::{
    filter::{LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    Failure,
    files::Files,
    limits,
    log::log_line,
    serve::{end_on_signal, reload_on_hangup},
    server::{ALPN, on_thread},
    signals::{ReloadSignals, ShutdownSignals},
};

/// Arguments of `watch`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
}

pub(crate) async fn watch(args: Args) -> Result<(), Failure> {
    let (shutdown, hangups) = (ShutdownSignals::new()?, ReloadSignals::new()?);
    let (end, mut ending) = oneshot::channel();
    tokio::spawn(end_on_signal(shutdown, end));
    limits::raise();
    // Events and steps are both reported to `tracing`, so that they come in their order.
    let lines = fmt::layer().without_time().with_level(false).with_target(false).with_ansi(false);
    // Spans would stand before each line.
    let events = filter_fn(|of| !of.is_span() && of.target().starts_with("rustls_reload"));
    let events = events.with_max_level_hint(LevelFilter::DEBUG);
    tracing_subscriber::registry().with(lines.with_writer(|| LogLines)).with(events).try_init()?;
    let builder = args.files.builder().alpn(ALPN);
    let reloader = tokio::select! {
        reloader = on_thread(move || builder.load()) => reloader??,
        _ = &mut ending => return Ok(()),
    };
    let (stop, stopped) = watch::channel(false);
    let mut worker = reloader.spawn_worker(stopped)?;
    let reloads = tokio::spawn(reload_on_hangup(hangups, reloader));
    signal_or_end(ending, &mut worker).await?;
    reloads.abort();
    stop.send_replace(true);
    worker.await?;
    Ok(())
}

/// Waits for the signal that ends the process.
///
/// # Errors
/// The driver has ended before it, so that nothing would be followed any more.
async fn signal_or_end(ending: oneshot::Receiver<()>, worker: &mut JoinHandle<()>) -> Result<(), Failure> {
    tokio::select! {
        // The sender is dropped only if its task has panicked.
        ended = ending => Ok(ended?),
        ended = worker => Err(ended.map_or_else(Failure::from, |()| "the driver has ended".into())),
    }
}

/// Writes each record as one line of the log.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        log_line(String::from_utf8_lossy(record).trim_end());
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::fs;

    use rustls_reload::ServerReloader;

    use super::*;
    use crate::testkit::{Authority, PrivateKey, Subject};

    /// Checks: INV-11.
    #[tokio::test]
    async fn inv11_watch_fails_once_its_driver_ends_without_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
        fs::write(&chain, &pair.chain).unwrap();
        fs::write(&key, &pair.key).unwrap();
        let reloader = ServerReloader::builder(&chain, &key).load().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let mut worker = reloader.spawn_worker(stopped).unwrap();
        let (_signal, ending) = oneshot::channel();
        reloader.stop().unwrap();
        let failure = signal_or_end(ending, &mut worker).await.unwrap_err();
        assert_eq!(failure.to_string(), "the driver has ended");
        // A driver that panics says so itself.
        let (_signal, ending) = oneshot::channel();
        let mut panics = tokio::spawn(async { std::panic::resume_unwind(Box::new("by design")) });
        let failure = signal_or_end(ending, &mut panics).await.unwrap_err();
        assert!(failure.to_string().contains("panicked"), "{failure}");
        // A signal comes while the driver goes on.
        let (signal, ending) = oneshot::channel();
        signal.send(()).unwrap();
        let mut goes_on = tokio::spawn(std::future::pending());
        signal_or_end(ending, &mut goes_on).await.unwrap();
    }
}
