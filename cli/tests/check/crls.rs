//! Warnings about CRLs, and the flags that decide about them.

use std::{fs, time::SystemTime};

use rustls_reload::Layer;
use rustls_reload_testkit::Authority;

use crate::{DAY, command, pair, plain, run};

#[test]
fn faulty_crl_is_a_warning_unless_a_load_rejects_it() {
    let (now, clients) = (SystemTime::now(), Authority::root("clients"));
    let list = |of: &Authority, from, days: u32| of.crl(&[], (from, now + days * DAY), 1).pem;
    let ours = list(&clients, now - DAY, 90);
    let cases = [
        (list(&clients, now - DAY, 3), "ca.crl", "the CRL expires at "),
        (list(&clients, now + DAY, 90), "ca.crl", "the CRL is dated in the future, "),
        (clients.crl(&[], (now - 2 * DAY, now - DAY), 1).pem, "ca.crl", " has expired at "),
        (
            ours.clone() + &list(&Authority::root("other"), now - DAY, 90),
            "ca.crl",
            "is of none of the client CAs",
        ),
    ];
    let dir = plain(&pair(90));
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca.crt"), &clients.pem).unwrap();
    let check = |lists: &str| {
        fs::write(path("ca.crl"), lists).unwrap();
        let mut command = command(dir.path());
        run(command.arg("--client-ca").arg(path("ca.crt")).arg("--crl").arg(path("ca.crl")))
    };
    for (lists, blamed, why) in &cases {
        check(lists).warns(Layer::Crl, &path(blamed), why);
    }
    assert_eq!(check(&ours).code, Some(0));
    let ended = check("nobody\n");
    let begin = format!("rustls-reload: pem: {}: ", path("ca.crl").display());
    assert!(ended.code == Some(1) && ended.stderr.starts_with(&begin), "{}", ended.stderr);
    assert_eq!(ended.lines().last().map(|line| line.0), Some("client-ca"), "{}", ended.stdout);
}

#[test]
fn inv16_check_shows_which_files_were_read_together() {
    let (now, clients, pair) = (SystemTime::now(), Authority::root("clients"), pair(90));
    let dir = plain(&pair);
    let path = |name: &str| dir.path().join(name);
    let list = clients.crl(&[], (now - DAY, now + 90 * DAY), 1).pem;
    ["pki", "crl.d"].iter().for_each(|dir| fs::create_dir(path(dir)).unwrap());
    fs::write(path("pki/ca.crt"), &clients.pem).unwrap();
    fs::write(path("crl.d/a"), &list).unwrap();
    let size = |text: &String| text.len().to_string();
    let [chain, key, ca, list] = [&pair.chain, &pair.key, &clients.pem, &list].map(size);
    let [chain, key, ca, list] = [chain.as_str(), &key, &ca, &list];
    let cases: [(&[&str], &[&[&str]]); 4] = [
        (&[], &[&[chain, key, ca], &[list]]),
        (&["--separate-client-ca"], &[&[chain, key], &[ca], &[list]]),
        (&["--crls-with-client-ca"], &[&[chain, key, ca, list]]),
        (&["--separate-client-ca", "--crls-with-client-ca"], &[&[chain, key], &[ca, list]]),
    ];
    for (flags, sets) in cases {
        let mut command = command(dir.path());
        command.arg("--client-ca").arg(path("pki/ca.crt")).arg("--crl-dir").arg(path("crl.d"));
        let ended = run(command.args(flags));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{flags:?}");
        let lines: Vec<_> =
            sets.iter().map(|sizes| format!("{} bytes, read in one snapshot", sizes.join(", "))).collect();
        assert_eq!(ended.texts("snapshot"), lines, "{flags:?}");
    }
}

#[test]
fn flags_decide_for_clients_with_an_expired_crl_or_none() {
    let (now, clients) = (SystemTime::now(), Authority::root("clients"));
    let dir = plain(&pair(90));
    let path = |name: &str| dir.path().join(name);
    let foreign = Authority::root("other").crl(&[], (now - DAY, now + 90 * DAY), 1).pem;
    let expired = clients.crl(&[], (now - 2 * DAY, now - DAY), 1).pem;
    fs::write(path("ca.crt"), &clients.pem).unwrap();
    fs::create_dir(path("crl.d")).unwrap();
    let check = |list: &str, flags: &[&str]| {
        fs::write(path("crl.d/a"), list).unwrap();
        let mut command = command(dir.path());
        command.arg("--client-ca").arg(path("ca.crt")).arg("--crl-dir").arg(path("crl.d")).args(flags);
        let ended = run(&mut command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""), "{flags:?}");
        ended.texts("warning").join("\n")
    };
    let (nobody, all_the_same) = ("no client of it is let in", "it counts all the same");
    for flags in [&[][..], &["--crl-expired", "refuse"], &["--crl-unknown", "allow"]] {
        assert!(check(&expired, flags).contains(nobody), "{flags:?}");
    }
    // Clients below an intermediate are let in then.
    let leaf_only = "each client whose certificate it issued itself is rejected";
    assert!(check(&expired, &["--crl-leaf-only"]).contains(leaf_only));
    assert!(check(&expired, &["--crl-expired", "use"]).contains(all_the_same));
    for flags in [&[][..], &["--crl-unknown", "refuse"], &["--crl-expired", "use"]] {
        assert!(check(&foreign, flags).contains(nobody), "{flags:?}");
    }
    assert!(!check(&foreign, &["--crl-unknown", "allow"]).contains(nobody));
}
