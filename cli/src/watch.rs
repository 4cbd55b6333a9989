//! `watch`: follows the files of a server, and reports each step of each reload.

use std::io::{self, Write};

use tokio::sync::{oneshot, watch};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
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
    let targets = Targets::new().with_target("rustls_reload", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(lines.with_writer(|| LogLines)).with(targets).try_init()?;
    let builder = args.files.builder().alpn(ALPN);
    let reloader = tokio::select! {
        reloader = on_thread(move || builder.load()) => reloader??,
        _ = &mut ending => return Ok(()),
    };
    let (stop, stopped) = watch::channel(false);
    let mut worker = reloader.spawn_worker(stopped)?;
    let reloads = tokio::spawn(reload_on_hangup(hangups, reloader));
    tokio::select! {
        // The sender is dropped only if its task has panicked.
        ended = ending => ended?,
        ended = &mut worker => return Err(ended.map_or_else(Failure::from, |()| "the driver has ended".into())),
    }
    reloads.abort();
    stop.send_replace(true);
    worker.await?;
    Ok(())
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
