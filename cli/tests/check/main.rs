//! `rustls-reload check` as an operator runs it: what it prints, in which order, and how it ends.
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

mod access;
#[path = "../../../tests/common/mod.rs"]
mod common;
mod crls;
mod fuse;
mod json;

use std::{
    fs::{self, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use common::{Generation, Volume, invalid_updates};
use rustls_reload::{ClientAuth, Layer};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject, leaks};

const BINARY: &str = env!("CARGO_BIN_EXE_rustls-reload");
const DAY: Duration = Duration::from_secs(86_400);
/// Every label of the report, in its order.
const LABELS: [&str; 13] = [
    "path",
    "  link",
    "  end",
    "snapshot",
    "chain",
    "key",
    "match",
    "client-ca",
    "crl",
    "rehearsal",
    "watch",
    "unwatched",
    "warning",
];

/// How the command ended, and its output.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The label and text of each line.
    fn lines(&self) -> Vec<(&str, &str)> {
        let split = |line| {
            let known = LABELS.iter().find(|label| str::starts_with(line, &format!("{label:<10} ")));
            let label = known.unwrap_or_else(|| panic!("a line without a label: {line:?}"));
            (*label, &line[11..])
        };
        self.stdout.lines().map(split).collect()
    }

    fn texts(&self, label: &str) -> Vec<&str> {
        self.lines().into_iter().filter(|line| line.0 == label).map(|line| line.1).collect()
    }

    /// Asserts that the command passed with exactly this one warning.
    fn warns(&self, layer: Layer, path: &Path, why: &str) {
        let begin = format!("{layer}: {}: ", path.display());
        let reported = self.texts("warning");
        let [only] = reported.as_slice() else { panic!("not one warning: {reported:#?}{}", self.stderr) };
        assert!(only.starts_with(&begin) && only.contains(why), "{only}");
        assert_eq!((self.code, self.stderr.as_str()), (Some(3), ""));
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("check").arg("--cert").arg(dir.join("tls.crt")).arg("--key").arg(dir.join("tls.key"));
    command
}

fn run(command: &mut Command) -> Ended {
    Ended::new(command.output().unwrap())
}

/// A pair that expires in so many days.
fn pair(days: u32) -> Pair {
    let now = SystemTime::now();
    let subject = Subject::server("localhost").valid(now - DAY, now + days * DAY);
    Authority::root("CA").issue(&subject, &PrivateKey::p256())
}

/// Writes the pair's files into a directory of their own, for the owner only.
fn plain(pair: &Pair) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("tls.crt"), &pair.chain).unwrap();
    fs::write(dir.path().join("tls.key"), &pair.key).unwrap();
    fs::set_permissions(dir.path().join("tls.key"), Permissions::from_mode(0o640)).unwrap();
    dir
}

#[test]
fn volume_is_reported_layer_by_layer_and_passes() {
    let now = SystemTime::now();
    let (root, clients) = (Authority::root("root, of all"), Authority::root("clients"));
    let between = root.intermediate("between");
    let subject = Subject::server("www.example.org").valid(now - DAY, now + 90 * DAY);
    let pair = between.issue_with_chain(&subject, &PrivateKey::p256());
    let revoked = clients.issue(&Subject::client("gone"), &PrivateKey::p256());
    let list = clients.crl(&[&revoked.leaf], subject.window, 0xabcd);
    let volume = Volume::new(&[
        ("tls.crt", pair.chain.as_bytes()),
        ("tls.key", pair.key.as_bytes()),
        ("ca.crt", clients.pem.as_bytes()),
        ("ca.crl", &list.der),
    ])
    .private();
    let args = ["--client-ca", "--crl"].into_iter().zip(["ca.crt", "ca.crl"].map(|name| volume.path(name)));
    let mut command = command(&volume.dir());
    let ended = run(command.args(args.flat_map(|(flag, path)| [flag.into(), path.into_os_string()])));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let dir = volume.dir().display().to_string();
    let mut labels: Vec<_> = ended.lines().into_iter().map(|line| line.0).collect();
    labels.dedup();
    let way = ["path", "  link", "  end"];
    assert_eq!(labels, [&way[..], &way, &way, &way, &LABELS[3..11]].concat(), "{}", ended.stdout);
    for name in ["tls.crt", "tls.key", "ca.crt", "ca.crl"] {
        assert!(ended.texts("path").contains(&format!("{dir}/{name}").as_str()));
        assert!(ended.texts("  link").contains(&format!("{dir}/{name} -> ..data/{name}").as_str()));
        let end = format!("{dir}/..generation_0/{name}, a regular file");
        assert!(ended.texts("  end").contains(&end.as_str()), "{}", ended.stdout);
    }
    assert!(ended.texts("  link").contains(&format!("{dir}/..data -> ..generation_0").as_str()));
    let sizes = [pair.chain.len(), pair.key.len(), clients.pem.len(), list.der.len()];
    let sizes = sizes.map(|size| size.to_string()).join(", ");
    assert_eq!(ended.texts("snapshot"), [format!("{sizes} bytes, read in one snapshot")]);
    let [leaf, issuer] = ended.texts("chain")[..] else { panic!("{}", ended.stdout) };
    let reported = rustls_reload::ServerReloader::builder(volume.path("tls.crt"), volume.path("tls.key"));
    let reported = reported.load().unwrap().status().leaf.unwrap();
    let dates = [reported.not_before, reported.not_after].map(rustls_reload::Timestamp);
    assert_eq!(
        leaf,
        format!(
            "1 of 2, leaf; subject: CN=www.example.org; names: www.example.org; issuer: CN=between; \
             valid: {} to {}; serial: {}",
            dates[0], dates[1], reported.serial
        )
    );
    let begin =
        "2 of 2, intermediate; subject: CN=between; names: between; issuer: CN=root\\, of all; valid: ";
    assert!(issuer.starts_with(begin), "{issuer}");
    assert_eq!(ended.texts("key"), ["ECDSA P-256"]);
    assert_eq!(ended.texts("match"), ["the key belongs to the first certificate"]);
    let [ca] = ended.texts("client-ca")[..] else { panic!("{}", ended.stdout) };
    assert!(ca.starts_with("1 of 1, root; subject: CN=clients; "), "{ca}");
    let fields = rustls_reload::internal::crl::fields(&list.der).unwrap();
    let dates = [fields.this_update, fields.next_update.unwrap()].map(rustls_reload::Timestamp);
    let reported = format!(
        "{dir}/ca.crl; issuer: CN=clients; number: ABCD; issued: {}; next: {}; covers: all certificates; revoked: 1",
        dates[0], dates[1]
    );
    assert_eq!(ended.texts("crl"), [reported]);
    assert_eq!(ended.texts("rehearsal"), ["TLS 1.3 handshake passes", "TLS 1.2 handshake passes"]);
    let watched = ended.texts("watch");
    for dir in ["/", &dir, &format!("{dir}/..generation_0")] {
        assert!(watched.contains(&dir), "{watched:?}");
    }
}

/// Checks: INV-10, INV-11.
#[test]
fn inv10_inv11_check_rejects_a_set_at_the_layer_of_a_load() {
    // All sets run at once, because each may have to wait until its files are stable.
    let running = invalid_updates().into_iter().enumerate().map(|(i, update)| {
        let mut volume = Volume::of(&Generation::new(2 * i)).private();
        let next = Generation::new(2 * i + 1);
        volume.publish_invalid(&next.files(), |payload| (update.invalidate)(payload));
        let mut command = command(&volume.dir());
        command.args(["--warn-days", "0", "--client-ca"]).arg(volume.path("ca.crt"));
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (update, next, volume, running)
    });
    let mut counted = 0;
    for (update, next, volume, running) in running.collect::<Vec<_>>() {
        let what = format!("{}: {:?}", update.what, update.blamed);
        let ended = Ended::new(running.wait_with_output().unwrap());
        let (key, pem) = (next.server.key_der(), &next.server.key);
        assert!(!leaks((ended.stdout.clone() + &ended.stderr).as_bytes(), &key, pem), "{what}");
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let Err(error) = server.load() else {
            assert_eq!(update.layer, Layer::Validity, "{what}");
            ended.warns(Layer::Validity, &volume.path("tls.crt"), "has expired");
            continue;
        };
        counted += 1;
        assert_eq!(ended.code, Some(1), "{what}");
        // `check` prints the error of a server's first load, and nothing else.
        assert_eq!(ended.stderr, format!("rustls-reload: {error}\n"), "{what}");
        assert_eq!(error.layer(), update.layer, "{what}");
        assert_eq!(error.path(), update.blamed.map(|name| volume.path(name)).as_deref(), "{what}");
        // The last line names the last layer that passed.
        let last = ended.lines().last().map(|line| line.0);
        let expected = match (update.layer, update.blamed) {
            (Layer::Read, _) => "  end",
            (_, Some("tls.crt")) => "snapshot",
            (Layer::Match, _) => "key",
            (_, Some("tls.key")) => "chain",
            _ => "match",
        };
        assert_eq!(last, Some(expected), "{what}: {}", ended.stdout);
    }
    println!("broken sets: {counted}");
    assert!(counted >= 25, "{counted}");
}

#[test]
fn a_leaf_that_expires_within_the_days_asked_for_is_a_warning() {
    let dir = plain(&pair(3));
    let path = dir.path().join("tls.crt");
    run(&mut command(dir.path())).warns(Layer::Validity, &path, "the leaf expires at 20");
    run(command(dir.path()).args(["--warn-days", "4"])).warns(Layer::Validity, &path, "expires");
    for days in ["2", "0"] {
        let ended = run(command(dir.path()).args(["--warn-days", days]));
        assert_eq!((ended.code, ended.texts("warning")), (Some(0), vec![]), "{days}");
    }
}

#[test]
fn a_chain_out_of_order_and_a_leaf_outside_its_dates_are_warnings() {
    let (one, other, now) = (pair(90), Authority::root("other"), SystemTime::now());
    let dir = plain(&Pair { chain: one.chain.clone() + &other.pem, ..one });
    let path = dir.path().join("tls.crt");
    run(&mut command(dir.path())).warns(Layer::Chain, &path, "certificate 1 of 2 is not issued by");
    for (from, to, why) in
        [(now - 2 * DAY, now - DAY, "has expired"), (now + DAY, now + 90 * DAY, "valid only")]
    {
        let dir = plain(&other.issue(&Subject::server("localhost").valid(from, to), &PrivateKey::p256()));
        run(&mut command(dir.path())).warns(Layer::Validity, &dir.path().join("tls.crt"), why);
    }
}

#[test]
fn a_leaf_that_some_clock_within_the_skew_refuses_is_one_warning() {
    let (now, ca) = (SystemTime::now(), Authority::root("CA"));
    for (from, to, why) in [
        (now - DAY / 2, now + 90 * DAY, "valid only from 20"),
        (now - 90 * DAY, now + DAY / 2, "valid only until 20"),
    ] {
        let dir = plain(&ca.issue(&Subject::server("localhost").valid(from, to), &PrivateKey::p256()));
        let path = dir.path().join("tls.crt");
        let ended = run(command(dir.path()).args(["--clock-skew", "86400"]));
        ended.warns(Layer::Validity, &path, why);
        ended.warns(Layer::Validity, &path, "the clock may be wrong by 86400 s");
        assert_eq!(ended.texts("warning").len(), 1, "{}", ended.stdout);
    }
    let dir = plain(&pair(90));
    assert_eq!(run(command(dir.path()).args(["--clock-skew", "60"])).code, Some(0));
}

#[test]
fn control_characters_of_paths_begin_no_line() {
    let pair = pair(90);
    let dir = plain(&pair);
    let evil = "x\nwarning    read: \u{1b}[31m";
    let path = dir.path().join(evil);
    std::os::unix::fs::symlink("tls.crt", &path).unwrap();
    let key = dir.path().join("tls.key");
    let check =
        |path: &Path| run(Command::new(BINARY).args(["check", "--cert"]).arg(path).arg("--key").arg(&key));
    let ended = check(&path);
    assert_eq!((ended.code, ended.texts("warning")), (Some(0), vec![]), "{}", ended.stdout);
    assert!(
        ended.texts("  link")[0].contains(r"/x\nwarning    read: \u{1b}[31m -> tls.crt"),
        "{}",
        ended.stdout
    );
    let ended = check(&dir.path().join(format!("{evil}, missing")));
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{}", ended.stderr);
    assert!(!ended.stderr.trim_end().contains(char::is_control), "{:?}", ended.stderr);
}

#[test]
fn wrong_arguments_end_with_2_and_say_nothing_on_stdout() {
    let check = |args: &[&str]| run(Command::new(BINARY).arg("check").args(args));
    let pair = ["--cert", "tls.crt", "--key", "tls.key"];
    for args in [
        &pair[..2],
        &pair[2..],
        &[&pair[..], &["--client-auth", "optional"]].concat(),
        &[&pair[..], &["--client-ca", "ca.crt", "--client-auth", "perhaps"]].concat(),
        &[&pair[..], &["--warn-days", "-1"]].concat(),
        &[&pair[..], &["--crl-dir", "crl.d"]].concat(),
        &[&pair[..], &["--client-ca", "ca.crt", "--crl-unknown", "allow"]].concat(),
        &[&pair[..], &["--listen", "127.0.0.1:0"]].concat(),
    ] {
        let ended = check(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff.crt,\xff.key");
    let ended = run(Command::new(BINARY).arg("check").args(pair).arg("--pair").arg(odd));
    let names_it = ended.stderr.contains("--pair") && ended.stderr.contains("UTF-8");
    assert!(ended.code == Some(2) && names_it, "{}", ended.stderr);
    let ended = check(&["--help"]);
    assert_eq!(ended.code, Some(0));
    for code in 0..=3 {
        assert!(ended.stdout.contains(&format!("\n  {code}  ")), "{}", ended.stdout);
    }
}
