//! `serve`: the server as a process.

use std::time::Duration;

use rustls_reload::{Handle, Reload, ServerTls, Timestamp};

use crate::{
    Failure,
    files::Files,
    say::say,
    server::Server,
    signals::{Ends, Reloads},
};

/// What to serve, and where.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = host_and_port)]
    listen: String,
    /// Tell when the served certificate ends within so many days, once for each of these
    ///
    /// Unless it is given: 30, 7 and 1, but not before five sixths of a certificate's validity are over.
    #[arg(long, value_name = "DAYS", value_delimiter = ',')]
    expiry_days: Option<Vec<u32>>,
}

/// Whether the host exists is found out when it is listened on; what cannot be an address is a wrong argument.
fn host_and_port(text: &str) -> Result<String, &'static str> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("an address and a port are wanted, as in 127.0.0.1:8443 or [::1]:8443"),
    }
}

pub(crate) async fn serve(args: Args) -> Result<(), Failure> {
    // Before anything else: from here on no signal ends the process in the middle of something.
    let (mut ends, hangups) = (Ends::new()?, Reloads::new()?);
    let mut builder = args.files.builder().on_event(|event| say(event));
    if let Some(days) = args.expiry_days {
        let days = days.into_iter().map(|days| Duration::from_secs(u64::from(days) * 86_400));
        builder = builder.expiry_warnings(days);
    }
    let mut server = tokio::select! {
        server = Server::start(builder, &args.listen) => server?,
        () = ends.recv() => return Ok(()),
    };
    let status = server.reloader.status();
    for dir in status.watched {
        say(format_args!("watching {}", dir.display()));
    }
    for dir in status.unwatched {
        say(format_args!("not watching {}: it may be searched but not read", dir.display()));
    }
    say(format_args!("listening on https://{} (process {})", server.address, std::process::id()));
    let reloads = tokio::spawn(reload_on_hangup(hangups, server.reloader.handle()));
    let outcome = tokio::select! {
        () = ends.recv() => Ok(()),
        failure = server.ended() => Err(failure),
    };
    reloads.abort();
    outcome?;
    tokio::select! {
        () = server.stop() => {}
        () = ends.recv() => say("a second signal: ended at once"),
    }
    Ok(())
}

/// What was reloaded or refused is told as an event; this line says that the signal was heard, and what came of it.
async fn reload_on_hangup(mut hangups: Reloads, handle: Handle<ServerTls>) {
    loop {
        hangups.recv().await;
        match handle.reload().await {
            Reload::Reloaded => say("SIGHUP: reloaded"),
            Reload::Unchanged => say("SIGHUP: unchanged"),
            Reload::Held(date) => say(format_args!("SIGHUP: held until {}", Timestamp(date))),
            Reload::Refused(error) => say(format_args!("SIGHUP: refused: {error}")),
            other => say(format_args!("SIGHUP: {other:?}")),
        }
    }
}
