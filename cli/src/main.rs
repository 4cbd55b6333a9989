//! The binary: `serve` runs a server that reloads, `check` reports what such a server would load,
//! and `demo` (feature `demo`) rotates a throw-away certificate under a server and verifies what a
//! client is shown.

mod check;
mod counters;
#[cfg(feature = "demo")]
mod demo;
mod files;
mod http;
mod limits;
mod log;
mod serve;
mod server;
mod signals;
mod status;

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

/// Serves HTTPS with a certificate, key and client CAs that are swapped when their files change.
#[derive(Parser)]
#[command(name = "rustls-reload", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked: by SIGTERM or SIGINT, the check passed without a warning, or the demo saw everything it promises
  1  failed: the load was refused, the address is not free, the demo saw something else
  2  the arguments are wrong
  3  the check passed, with warnings

The reports of check and demo go to stdout, everything else to stderr.";

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES)]
    /// Serve HTTPS and tell on stderr of each reload and each refusal
    ///
    /// `GET /` tells what its connection was served, `GET /status` everything as JSON (paths
    /// included), `GET /healthz` whether the files are watched and no snapshot of them is overdue.
    /// SIGHUP looks at once and takes what it finds for finished.
    Serve(serve::Args),
    #[command(after_help = EXIT_CODES)]
    /// Tell what a server of these files would load and watch, and what is wrong with them
    ///
    /// Loads the files as `serve` does and tells layer by layer what was found: the links to each file, the certificates,
    /// the kind of the key, whether they match, the client CAs and their revocation lists, a handshake in memory, the
    /// directories watched. A refusal comes last, naming layer and path. Warnings tell what a server would start with all the same.
    Check(check::Args),
    #[cfg(feature = "demo")]
    #[command(after_help = EXIT_CODES)]
    /// Rotate a throw-away certificate under a running server, with a client looking on
    ///
    /// Serves a throw-away pair on loopback, from a temporary directory laid out as kubelet does, and publishes a good, a
    /// broken and a good update. Succeeds only if the client saw what is promised.
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => run(serve::serve(args)).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::check(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => run(demo::demo(args)).map(|()| ExitCode::SUCCESS),
    };
    let code = outcome.unwrap_or_else(|failure| {
        log::log_line(format_args!("rustls-reload: {failure}"));
        ExitCode::FAILURE
    });
    log::flush();
    code
}

fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    signals::unblock()?;
    log::start().map_err(|error| format!("no thread for the log: {error}"))?;
    let log_panic = panic::take_hook();
    // Without a thread tokio panics, and then waits for ever for the threads that it has. The hook
    // ends the process first.
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let why = payload.downcast_ref::<String>().map(String::as_str);
        let why = why.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        log::log_line(format_args!("rustls-reload: cannot start the runtime: {why}"));
        log::flush();
        process::exit(1);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    panic::set_hook(log_panic);
    let outcome = runtime.block_on(command);
    // A read that hangs on a dead network mount must not delay the exit.
    runtime.shutdown_background();
    outcome
}
