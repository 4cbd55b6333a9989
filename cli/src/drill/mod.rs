//! `drill`: puts a server through certificate rotations, and judges what its clients saw.

mod client;
mod judge;
mod material;
mod model;
mod publisher;
mod records;
mod report;
mod rows;
mod running;
mod stage;
mod steps;
mod target;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use self::{
    model::{Files, Played, Scenario, Verdict},
    report::Report,
    running::Originals,
    stage::{Stage, Stop},
    target::{OnChange, Server, Target},
};
use crate::{
    Failure,
    log::log_line,
    signals::{ReloadSignals, ShutdownSignals},
};

/// Limit for one attempt at a scenario, whatever hangs.
const SCENARIO_LIMIT: Duration = Duration::from_secs(120);
/// Attempts at a scenario that the machine was too slow for.
const ATTEMPTS: usize = 3;

/// Arguments of `drill`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the scenarios, their sources and what must hold, and run none
    #[arg(long)]
    list: bool,
    /// Run only scenarios whose group/name contains the pattern; repeatable
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Count skipped scenarios, and those that are advice, as failures
    #[arg(long)]
    strict: bool,
    /// The server to drill: a command that stays in the foreground, with {cert}, {key} and {port},
    /// and perhaps {ca}, {crl} and {dir}
    ///
    /// It has to listen on 127.0.0.1 and to answer `GET /` by HTTP/1.1. With {ca} it has to demand
    /// client certificates, and with {crl} to check revocation. {dir} is a directory of the
    /// scenario alone. Without this argument `serve` is drilled.
    #[arg(long, value_name = "CMD", conflicts_with = "connect")]
    server: Option<String>,
    /// Tell the server of each change: `sighup`, or a shell command with the same placeholders and
    /// {pid}
    #[arg(long, value_name = "sighup|CMD")]
    on_change: Option<String>,
    /// Drill a server that runs already and reads the files of --dir
    #[arg(long, value_name = "HOST:PORT", requires = "dir")]
    connect: Option<String>,
    /// The directory of that server: tls.crt and tls.key, and ca.crt and ca.crl if it reads them
    ///
    /// They have to be plain files that nothing else renews meanwhile, and are replaced. At the end
    /// they are put back, and the command of --on-change runs once more.
    #[arg(long, value_name = "DIR", requires = "connect")]
    dir: Option<PathBuf>,
    /// Print one JSON object with every handshake instead of lines
    #[arg(long)]
    json: bool,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a page with a timeline of each scenario
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Scenarios at a time
    #[arg(long, value_name = "N", default_value = "12")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
}

/// Runs the scenarios. The exit code is 0 if all pass, 1 if one fails, 2 if one cannot be run.
pub(crate) async fn drill(args: Args) -> Result<ExitCode, Failure> {
    let chosen: Vec<_> = rows::all().filter(|scenario| is_chosen(scenario, &args.only)).collect();
    if chosen.is_empty() {
        return Ok(unusable(format_args!("no scenario matches: --list prints them")));
    }
    if args.list {
        report::list(&chosen, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    // A signal must leave neither servers nor directories behind.
    let (mut shutdown, mut hangup) = (ShutdownSignals::new()?, ReloadSignals::new()?);
    let target = match target(&args) {
        Ok(target) => Arc::new(target),
        Err(why) => return Ok(unusable(why)),
    };
    let mut originals = match &target.server {
        Server::Running { dir, .. } => match Originals::of(dir) {
            Ok(originals) => Some(originals),
            Err(why) => return Ok(unusable(why)),
        },
        _ => None,
    };
    let jobs = if originals.is_some() { 1 } else { args.jobs.into() };
    let (begun, mut report) = (Instant::now(), Report::new(args.json, args.strict, name(&args)));
    let mut playing = JoinSet::new();
    let outcome = tokio::select! {
        outcome = all(&chosen, &target, jobs, &mut playing, &mut report) => outcome,
        () = shutdown.recv() => Err("a signal ended the drill: nothing is judged".into()),
        () = hangup.recv() => Err("SIGHUP ended the drill: nothing is judged".into()),
    };
    playing.shutdown().await;
    let mut unrestored = None;
    if let Some(originals) = &mut originals {
        // Where one file is not back, the server still has to learn of the others.
        for ended in [originals.restore(), stage::notify_of_originals(&target)] {
            unrestored = ended.map_err(unusable).err().or(unrestored);
        }
    }
    if let Err(why) = outcome {
        return Ok(unusable(why));
    }
    report.finish(begun.elapsed())?;
    if let Some(path) = &args.junit {
        std::fs::write(path, report.junit()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &args.report {
        std::fs::write(path, report.html()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(unrestored.unwrap_or_else(|| report.exit_code()))
}

fn is_chosen(scenario: &Scenario, patterns: &[String]) -> bool {
    let id = scenario.id();
    patterns.is_empty() || patterns.iter().any(|pattern| id.contains(pattern))
}

/// Logs why the drill cannot run, and returns the exit code of that.
fn unusable(why: impl std::fmt::Display) -> ExitCode {
    log_line(format_args!("rustls-reload: {why}"));
    ExitCode::from(2)
}

/// Returns the drilled server's name in reports.
fn name(args: &Args) -> String {
    let on_change = args.on_change.as_ref().map(|how| format!(", on change: {how}")).unwrap_or_default();
    let server = args.server.as_ref().or(args.connect.as_ref());
    format!("{}{on_change}", server.map_or("rustls-reload serve", String::as_str))
}

fn target(args: &Args) -> Result<Target, Failure> {
    let server = match (&args.server, &args.connect, &args.dir) {
        (Some(command), ..) => {
            for needed in ["{cert}", "{key}", "{port}"] {
                if !command.contains(needed) {
                    return Err(format!("--server: the command has no {needed}").into());
                }
            }
            Server::Command(command.clone())
        }
        (None, Some(address), Some(dir)) => {
            let resolved = address.to_socket_addrs().map_err(|error| format!("--connect {address}: {error}"));
            let address: Option<SocketAddr> = resolved?.next();
            let address = address.ok_or("--connect: the name has no address")?;
            let files = match ["ca.crt", "ca.crl"].map(|name| dir.join(name).exists()) {
                [true, true] => Files::Lists,
                [true, false] => Files::Trust,
                _ => Files::Pair,
            };
            Server::Running { address, dir: dir.canonicalize()?, files }
        }
        _ => Server::Own,
    };
    let on_change = args.on_change.as_ref().map(|how| match how.as_str() {
        "sighup" => OnChange::Hangup,
        command => OnChange::Command(command.to_owned()),
    });
    if matches!((&server, &on_change), (Server::Running { .. }, Some(OnChange::Hangup))) {
        return Err("--on-change sighup: the process of --connect is not known, give a command".into());
    }
    Ok(Target { server, on_change })
}

/// Plays the scenarios, several at a time, and reports each when it is over.
async fn all(
    chosen: &[&'static Scenario],
    target: &Arc<Target>,
    jobs: usize,
    playing: &mut JoinSet<Played>,
    report: &mut Report,
) -> Result<(), Failure> {
    let places = Arc::new(Semaphore::new(jobs));
    for scenario in chosen {
        let (places, target, scenario) = (Arc::clone(&places), Arc::clone(target), *scenario);
        playing.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            play(scenario, &target).await
        });
    }
    while let Some(played) = playing.join_next().await {
        report.add(played?)?;
    }
    Ok(())
}

/// Plays one scenario, again where the machine was too slow to say anything.
async fn play(scenario: &'static Scenario, target: &Target) -> Played {
    let begun = Instant::now();
    let mut played = Played::without_run(scenario, Verdict::Skipped(String::new()));
    if let Some(why) = target.lacks(scenario) {
        played.verdict = Verdict::Skipped(why);
        return played;
    }
    for _ in 0..ATTEMPTS {
        let attempt = match timeout(SCENARIO_LIMIT, attempt(scenario, target)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                let why = format!("not over within {} s", SCENARIO_LIMIT.as_secs());
                Ok(Played::without_run(scenario, Verdict::Broken(why)))
            }
        };
        match attempt {
            Ok(done) => {
                played = done;
                break;
            }
            Err(why) => played.verdict = Verdict::Skipped(why),
        }
    }
    played.took = begun.elapsed();
    played
}

/// Plays one scenario once.
///
/// # Errors
/// Says why the attempt says nothing, if another may.
async fn attempt(scenario: &'static Scenario, target: &Target) -> Result<Played, String> {
    let ended = match Stage::set(scenario, target).await {
        Ok(mut stage) => {
            let ended = steps::all(&mut stage).await;
            let mut played = stage.end().await;
            let failed = matches!(played.verdict, Verdict::Failed(_));
            match ended {
                Ok(()) | Err(Stop::Judged) => return Ok(played),
                // Results from before the interruption count.
                Err(Stop::Skip(_)) if failed => return Ok(played),
                Err(Stop::Broken(error)) => {
                    played.verdict = Verdict::Broken(error.to_string());
                    return Ok(played);
                }
                Err(stop) => stop,
            }
        }
        Err(stop) => stop,
    };
    match ended {
        Stop::Skip(why) => Ok(Played::without_run(scenario, Verdict::Skipped(why))),
        Stop::Broken(error) => Ok(Played::without_run(scenario, Verdict::Broken(error.to_string()))),
        Stop::Slow | Stop::Judged => {
            Err("this machine is too slow: a publisher's pauses took too long".to_owned())
        }
    }
}
