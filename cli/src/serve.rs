//! `serve`: the server as a process.

use std::time::Duration;

use rustls_reload::{Reload, ServerReloader, Timestamp};
use tokio::sync::oneshot;

use crate::{
    Failure,
    files::Files,
    limits,
    log::{self, LogForm, log_event, log_line, log_problem},
    server::{END_LIMIT, Server},
    signals::{ReloadSignals, ShutdownSignals},
};

/// Time from the first signal to the end of the process, whatever hangs: [`END_LIMIT`] and a second
/// more.
const LAST_LIMIT: Duration = END_LIMIT.saturating_add(Duration::from_secs(1));

/// Arguments of `serve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = host_and_port)]
    listen: String,
    /// Days before the end of the served certificate at which to report it, each once
    ///
    /// The default is 30, 7 and 1, but not before five sixths of a certificate's validity are over.
    #[arg(long, value_name = "DAYS", value_delimiter = ',')]
    expiry_days: Option<Vec<u32>>,
    /// Form of each line on stderr
    #[arg(long, value_enum, default_value = "text")]
    log: LogForm,
}

impl Args {
    /// Returns the form of the log.
    pub(crate) fn log_form(&self) -> LogForm {
        self.log
    }
}

/// Checks that the text has the form of an address. Whether its host exists shows only when the
/// server listens.
fn host_and_port(text: &str) -> Result<String, &'static str> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("expected an address and a port, as in 127.0.0.1:8443 or [::1]:8443"),
    }
}

pub(crate) async fn serve(args: Args) -> Result<(), Failure> {
    // First of all: from here on no signal ends the process half-way through something.
    let (shutdown, hangups) = (ShutdownSignals::new()?, ReloadSignals::new()?);
    let (end, mut ending) = oneshot::channel();
    tokio::spawn(end_on_signal(shutdown, end));
    limits::raise();
    let mut builder = args.files.builder().on_event(log_event);
    if let Some(days) = args.expiry_days {
        let days = days.into_iter().map(|days| Duration::from_secs(u64::from(days) * 86_400));
        builder = builder.expiry_warnings(days);
    }
    let mut server = tokio::select! {
        server = Server::start(builder, &args.listen) => server?,
        _ = &mut ending => return Ok(()),
    };
    let status = server.reloader.status();
    for dir in status.watched {
        log_line(format_args!("watching {}", dir.display()));
    }
    for dir in status.unwatched {
        log_line(format_args!(
            "not watching {}: it may be searched but not read, the next poll finds its changes",
            dir.display()
        ));
    }
    log_line(format_args!("at most {} connections at a time", server.limit()));
    log_line(format_args!("listening on https://{} (process {})", server.address, std::process::id()));
    let reloads = tokio::spawn(reload_on_hangup(hangups, server.reloader.clone()));
    let outcome = tokio::select! {
        _ = ending => Ok(()),
        failure = server.ended() => Err(failure),
    };
    reloads.abort();
    outcome?;
    server.stop().await;
    Ok(())
}

/// Asks for an end at the first signal, and ends the process at the second one or after
/// [`LAST_LIMIT`].
///
/// Runs as a task of its own, since the task that serves may wait for a driver that hangs.
pub(crate) async fn end_on_signal(mut shutdown: ShutdownSignals, end: oneshot::Sender<()>) {
    shutdown.recv().await;
    // The receiver is dropped only when the server has ended.
    let _ = end.send(());
    tokio::select! {
        () = shutdown.recv() => log_line("second signal: the process ends at once"),
        () = tokio::time::sleep(LAST_LIMIT) => {
            let limit = LAST_LIMIT.as_secs();
            log_problem(format_args!("the end takes more than {limit} s: the process ends at once"));
        }
    }
    log::flush();
    std::process::exit(0);
}

/// Reloads at each SIGHUP, and logs the result. Events describe the reload itself; the line shows
/// that the signal arrived.
pub(crate) async fn reload_on_hangup(mut hangups: ReloadSignals, reloader: ServerReloader) {
    loop {
        hangups.recv().await;
        match reloader.reload().await {
            Reload::Reloaded => log_line("SIGHUP: reloaded"),
            Reload::Unchanged => log_line("SIGHUP: unchanged"),
            Reload::Deferred(date) => log_line(format_args!("SIGHUP: deferred until {}", Timestamp(date))),
            Reload::Refused(error) => log_problem(format_args!("SIGHUP: rejected: {error}")),
            other => log_line(format_args!("SIGHUP: {other:?}")),
        }
    }
}
