//! The binary: `serve` runs a server that reloads, and `check` reports what such a server would
//! load, and `watch` follows such files. With the feature `demo`, `demo` rotates a throw-away certificate under a server and
//! verifies what a client is shown, and `drill` puts any server through rotations and judges it.

mod check;
mod counters;
#[cfg(feature = "demo")]
mod demo;
#[cfg(all(feature = "demo", unix))]
mod drill;
mod files;
mod http;
mod limits;
mod log;
mod metrics;
mod serve;
mod server;
mod signals;
mod status;
mod watch;

use std::{
    error::Error,
    future::Future,
    panic,
    process::{self, ExitCode},
};

use clap::{Parser, Subcommand};
// Every certificate of the demo and of the unit tests comes from here.
#[cfg(any(feature = "demo", test))]
use rustls_reload_testkit as testkit;

/// Error that ends a command with exit code 1; `main` prints it on stderr.
type Failure = Box<dyn Error + Send + Sync>;

/// Serves HTTPS, and reloads its certificate, key, client CAs and CRLs when their files
/// change.
#[derive(Parser)]
#[command(name = "rustls-reload", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  success: ended by SIGTERM or SIGINT, check passed without \
                          warnings, demo saw what it promises, or all scenarios of drill passed
  1  failure: the load was rejected, the \
                          address is in use, demo saw something else, or a scenario failed
  2  the arguments are wrong, \
                          or the server of drill does not start
  3  \
                          check passed, with warnings

The reports of check, demo and drill go to stdout, \
                          everything else to stderr.";

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES)]
    /// Serve HTTPS, and report each reload and each rejection on stderr
    ///
    /// `GET /` returns the generation and the certificate of its connection. `GET /status` returns
    /// the whole status as JSON, with paths. `GET /metrics` returns metrics for Prometheus.
    /// `GET /healthz` returns 200, or 503 while reloading
    /// does not run or a snapshot of the files is overdue. SIGHUP reloads at once: it asserts that
    /// the files are complete. The manual's page on the binary says what to do about each line of
    /// the log.
    Serve(serve::Args),
    #[command(after_help = EXIT_CODES)]
    /// Report what a server would load from these files and watch, and what is wrong with them
    ///
    /// Loads the files as `serve` does. Reports the links to each file, the certificates, the kind
    /// of the key, whether they match, the client CAs and their CRLs, a handshake in
    /// memory, and the watched directories. A rejection comes last and names layer and path.
    /// Warnings do not keep a server from starting.
    Check(check::Args),
    #[command(after_help = EXIT_CODES)]
    /// Follow the files of a server without serving, and report each step of each reload on stderr
    ///
    /// Loads the files as `serve` does, then reports each file event that concerns them, each
    /// directory that is watched and for which names, each snapshot and each check with its outcome,
    /// and the events that `serve` logs. SIGHUP reloads at once.
    Watch(watch::Args),
    #[cfg(feature = "demo")]
    #[command(after_help = EXIT_CODES)]
    /// Rotate a throw-away certificate under a running server while a client connects
    ///
    /// Serves a throw-away pair on loopback, from a temporary directory laid out as kubelet does,
    /// and publishes a good, a broken and a good update. Succeeds only if the client saw the good
    /// ones and never the broken one.
    Demo(demo::Args),
    #[cfg(all(feature = "demo", unix))]
    #[command(after_help = EXIT_CODES)]
    /// Put a server through certificate rotations, and judge what its clients saw
    ///
    /// Plays scenarios: files are published as kubelet, certbot, `cp` and others do, whole, half and
    /// invalid, with client CAs and CRLs that change. New and resuming clients of TLS 1.2
    /// and 1.3 connect all the while. `serve` is drilled unless --server or --connect names another
    /// server.
    Drill(drill::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => {
            log::set_form(args.log_form());
            run(serve::serve(args)).map(|()| ExitCode::SUCCESS)
        }
        Command::Check(args) => check::check(&args),
        Command::Watch(args) => run(watch::watch(args)).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "demo")]
        Command::Demo(args) => run(demo::demo(args)).map(|()| ExitCode::SUCCESS),
        #[cfg(all(feature = "demo", unix))]
        Command::Drill(args) => run(drill::drill(args)),
    };
    let code = outcome.unwrap_or_else(|failure| {
        log::log_problem(format_args!("rustls-reload: {failure}"));
        ExitCode::FAILURE
    });
    log::flush();
    code
}

fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    signals::unblock()?;
    log::start().map_err(|error| format!("cannot start the thread of the log: {error}"))?;
    let log_panic = panic::take_hook();
    // Without a thread tokio panics, and then waits for ever for the threads that it has. The hook
    // ends the process first.
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let why = payload.downcast_ref::<String>().map(String::as_str);
        let why = why.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        log::log_problem(format_args!("rustls-reload: cannot start the runtime: {why}"));
        log::flush();
        process::exit(1);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    panic::set_hook(log_panic);
    let outcome = runtime.block_on(command);
    // A read that hangs on a dead network mount must not delay the exit.
    runtime.shutdown_background();
    outcome
}
