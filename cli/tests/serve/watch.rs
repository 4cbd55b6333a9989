//! `rustls-reload watch` reports each step of each reload, in order, and no key material.
//! Checks: INV-10, INV-11.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::{
    Server,
    common::{Generation, InvalidUpdate, Volume, generations, replace},
    files, list, refusals, serve,
    signals::send,
    windows,
};

/// Returns the command that follows the files that [`serve`] serves.
fn watch(volume: &Volume) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustls-reload"));
    // All arguments but the name of the command, the address and its flag.
    command.arg("watch").args(serve(volume).get_args().skip(3));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn inv11_watch_reports_the_steps_of_each_reload_in_order() {
    let [first, second, third] = generations(3).try_into().ok().unwrap();
    let mut volume = Volume::new(&files(&first, &list(&first)));
    let mut watch = Server::run(watch(&volume));
    let dir = volume.dir().canonicalize().unwrap().display().to_string();
    let watched = watch.line(&format!("watch {dir}, for "));
    assert!(watched.contains("tls.crt") && watched.contains("..data"), "{watched}");
    watch.line("started, watching ");

    volume.publish(&files(&second, &list(&second)));
    watch.line(&format!("file event: {dir}/..data"));
    let set = format!("{dir}/tls.crt");
    watch.line(&format!("snapshot of {set}: one rename committed a change"));
    watch.line(&format!("checks of {set}: passed"));
    watch.line("CONFIG:RELOADED ");

    let [chain, ..] = third.files();
    volume.publish(&[chain, second.files()[1], second.files()[2], ("ca.crl", list(&second).as_bytes())]);
    watch.line(&format!("checks of {set}: rejected: match: "));
    watch.line("CONFIG:RELOAD_FAILED ");

    replace(&volume.path("tls.key").canonicalize().unwrap(), third.server.key.as_bytes());
    watch.line(&format!("snapshot of {set}: the files changed, not by one rename"));
    watch.line(&format!("checks of {set}: passed"));
    watch.line("CONFIG:RELOADED ");

    send(watch.process.id(), Signal::SIGHUP);
    watch.line(&format!("snapshot of {set}: the files hold the served bytes"));
    watch.line("SIGHUP: unchanged");
    send(watch.process.id(), Signal::SIGTERM);
    assert!(watch.process.wait().unwrap().success());
}

#[test]
fn inv10_no_line_of_watch_holds_a_window_of_a_key() {
    let first = Generation::new(0);
    let mut volume = Volume::new(&files(&first, &list(&first)));
    let mut watch = Server::run(watch(&volume));
    watch.line("started, watching ");
    let mut keys = vec![windows(&first)];
    for (number, InvalidUpdate { invalidate, .. }) in refusals().enumerate() {
        let (bad, good) = (Generation::new(2 * number + 1), Generation::new(2 * number + 2));
        keys.extend([windows(&bad), windows(&good)]);
        volume.publish_invalid(&files(&bad, &list(&bad)), |payload| invalidate(payload));
        watch.line("CONFIG:RELOAD_FAILED ");
        volume.publish(&files(&good, &list(&good)));
        watch.line("CONFIG:RELOADED ");
    }
    let found: Vec<_> = keys.iter().filter(|key| key.occur_in(watch.reported.as_bytes())).collect();
    assert!(
        found.is_empty() && keys.len() > 60,
        "{} of {} keys: {}",
        found.len(),
        keys.len(),
        watch.reported
    );
}
