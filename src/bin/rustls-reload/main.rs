//! The binary: a server that reloads (`serve`), what it would load (`check`), and the proof of it on one's own machine
//! (`demo`).

mod check;
mod client;
mod demo;
mod files;
mod http;
mod publisher;
mod say;
mod serve;
mod server;
mod signals;
mod status;

use std::{error::Error, future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

/// What ends a command early: printed on stderr, exit code 1.
type Failure = Box<dyn Error + Send + Sync>;

/// Serves HTTPS with a certificate, key and client CAs that are swapped when their files change.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_CODES)]
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
    /// `GET /` tells what its connection was served, `GET /status` everything as JSON (paths included), `GET /healthz`
    /// whether the files are watched. SIGHUP looks at once and takes what it finds for finished.
    Serve(serve::Args),
    #[command(after_help = EXIT_CODES)]
    /// Tell what a server of these files would load and watch, and what is wrong with them
    ///
    /// Loads the files as `serve` does and tells layer by layer what was found: the links to each file, the certificates,
    /// the kind of the key, whether they match, the client CAs and their revocation lists, a handshake in memory, the
    /// directories watched. A refusal comes last, naming layer and path. Warnings tell what a server would start with all the same.
    Check(check::Args),
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
        Command::Demo(args) => run(demo::demo(args)).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            say::say(format_args!("rustls-reload: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // A read that hangs on a dead network mount must not hold up the end.
    runtime.shutdown_background();
    outcome
}
