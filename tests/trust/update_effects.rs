//! Effects that broken and unusual updates must not have on which clients are let in, with
//! handshakes of either version.

mod step_by_step;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, NamedFile, Volume, client_showing, generations, handshake};
use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Layer, Reload, ServerReloader};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Returns a chain, its key and a bundle of client CAs as files.
fn files<'a>(pair: &'a Pair, bundle: &'a str) -> [NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", bundle.as_bytes())]
}

/// Loads a server of the volume that requires client certificates.
fn strict(volume: &Volume) -> ServerReloader {
    volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap()
}

/// Returns whether clients with the certificates of these generations are let in (`None` is a
/// client without one). The result has to be the same in both versions, with full handshakes.
fn let_in<const N: usize>(
    server: &Arc<ServerConfig>,
    trusted: &[&Generation],
    shown: [Option<&Generation>; N],
) -> [bool; N] {
    shown.map(|shown| {
        let [old, new] = VERSIONS.map(|version| {
            let connection = handshake(server, &client_showing(trusted, shown, &[version]));
            if let Ok(connection) = &connection {
                assert_eq!((connection.version, connection.resumed), (version.version, false));
                assert_eq!(connection.client.as_ref(), shown.map(|shown| &shown.client.leaf));
            }
            connection.is_ok()
        });
        assert_eq!(old, new, "the versions differ");
        old
    })
}

/// Makes two generations. The second has the key of the first, another leaf and another client CA.
fn renewed_with_the_same_key() -> [Generation; 2] {
    let mut both = [Generation::new(0), Generation::new(1)];
    let identity = PrivateKey::p256();
    for generation in &mut both {
        generation.server = generation.ca.issue(&Subject::server("localhost"), &identity);
    }
    both
}

/// Returns the served generation, in both versions, if leaf and client CA are of one.
fn served(server: &Arc<ServerConfig>, generations: &[Generation; 2]) -> Result<usize, String> {
    let [one, two] = generations;
    let mut seen = None;
    for version in VERSIONS {
        let shown = [one, two].map(|shown| {
            let connection = handshake(server, &client_showing(&[one, two], Some(shown), &[version])).ok()?;
            [one, two].iter().position(|generation| generation.server.leaf == *connection.leaf())
        });
        let now = match shown {
            [Some(0), None] => 0,
            [None, Some(1)] => 1,
            mixed => return Err(format!("mixed: the leaves that clients of 0 and of 1 see are {mixed:?}")),
        };
        assert_eq!(*seen.get_or_insert(now), now, "the versions differ");
    }
    Ok(seen.unwrap())
}

#[test]
fn inv03_empty_or_cut_file_keeps_what_is_served_and_accepted() {
    let [old, new] = &renewed_with_the_same_key();
    let mut volume = Volume::of(old);
    let reloader = strict(&volume);
    let before = reloader.current();
    type Cut = fn(&str) -> usize;
    let cuts: [(&str, Cut); 5] = [
        ("empty", |_| 0),
        ("half a label", |_| 15),
        ("half a block", |text| text.len() / 2 / 65 * 65 + 28),
        ("half a quantum", |text| text.len() / 2 / 65 * 65 + 29),
        ("no last line", |text| text.trim_end().rfind('\n').unwrap() + 1),
    ];
    for (name, bytes) in new.files() {
        for (what, cut) in cuts {
            let text = std::str::from_utf8(bytes).unwrap();
            let short = &text[..cut(text)];
            let files = new
                .files()
                .map(|(other, bytes)| (other, if other == name { short.as_bytes() } else { bytes }));
            volume.publish_in_one_tick(&files);
            let Reload::Refused(error) = reloader.reload_now() else { panic!("{name}, {what}: taken") };
            assert!([Layer::Pem, Layer::Key].contains(&error.layer()), "{name}, {what}: {error}");
            assert_eq!(error.path(), Some(volume.path(name).as_path()), "{what}");
            assert!(Arc::ptr_eq(&before, &reloader.current()));
        }
        assert_eq!(let_in(&reloader.config(), &[old], [Some(old), Some(new), None]), [true, false, false]);
    }
    volume.publish_in_one_tick(&new.files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(let_in(&reloader.config(), &[new], [Some(old), Some(new), None]), [false, true, false]);
}

#[test]
fn inv03_malformed_block_rejects_its_bundle_and_keeps_the_trust() {
    let all = generations(4);
    let pems: Vec<&str> = all.iter().map(|generation| generation.ca.pem.as_str()).collect();
    let mut volume = Volume::new(&files(&all[0].server, &pems[..2].concat()));
    let reloader = strict(&volume);
    let before = reloader.current();
    type Damage = fn(&str) -> String;
    let damages: [(&str, Damage); 5] = [
        ("no base64", |pem| pem.replacen("MI", "*I", 1)),
        ("no certificate", |_| "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        ("cut DER", |pem| {
            let lines: Vec<_> = pem.lines().collect();
            [&lines[..2], &lines[lines.len() - 1..]].concat().join("\n") + "\n"
        }),
        ("another label", |pem| pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
        ("no END line", |pem| pem.replace("-----END CERTIFICATE-----", "")),
    ];
    // The bundle gets a third CA. One of the other two, or the data after them, is damaged.
    for (what, damage) in damages {
        for place in 0..4 {
            let damaged = damage(pems[place]);
            let bundle: String =
                (0..4).map(|i| if i == place { damaged.as_str() } else { pems[i] }).collect();
            volume.publish_in_one_tick(&files(&all[0].server, &bundle));
            let Reload::Refused(error) = reloader.reload_now() else { panic!("{what} at {place}: taken") };
            assert!([Layer::Pem, Layer::ClientCa].contains(&error.layer()), "{what} at {place}: {error}");
            assert_eq!(error.path(), Some(volume.path("ca.crt").as_path()));
            assert!(Arc::ptr_eq(&before, &reloader.current()));
        }
        let shown = [Some(&all[0]), Some(&all[1]), Some(&all[2]), Some(&all[3]), None];
        let seen = let_in(&reloader.config(), &[&all[0]], shown);
        assert_eq!(seen, [true, true, false, false, false], "{what}");
    }
}

#[test]
fn inv03_missing_or_unreadable_client_ca_file_keeps_the_cas() {
    let all = generations(2);
    let (old, new) = (&all[0], &all[1]);
    type InvalidUpdate = fn(&Path);
    let invalid_updates: [(&str, InvalidUpdate); 5] = [
        ("missing", |_| {}),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a link to nothing", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ("a link to itself", |path| std::os::unix::fs::symlink(path, path).unwrap()),
        ("a fifo", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ];
    for mode in [ClientAuth::Required, ClientAuth::Optional] {
        for (what, invalidate) in invalid_updates {
            let mut volume = Volume::of(old);
            let reloader = volume.server().client_ca(volume.path("ca.crt"), mode).load().unwrap();
            let mut events = reloader.events();
            reloader.start().unwrap();
            common::started(&mut events);
            let before = reloader.current();
            volume.publish_invalid(&new.files(), |payload| {
                fs::remove_file(payload.join("ca.crt")).unwrap();
                invalidate(&payload.join("ca.crt"));
            });
            let error = common::refused(&mut events);
            assert_eq!(
                (error.layer(), error.path()),
                (Layer::Read, Some(volume.path("ca.crt").as_path())),
                "{what}"
            );
            assert!(Arc::ptr_eq(&before, &reloader.current()), "{what}");
            let wanted = [true, false, mode == ClientAuth::Optional];
            assert_eq!(let_in(&reloader.config(), &[old], [Some(old), Some(new), None]), wanted, "{what}");
            // Once the file is there again, the new set is served.
            volume.publish(&new.files());
            common::published(&mut events);
            let wanted = [false, true, mode == ClientAuth::Optional];
            assert_eq!(let_in(&reloader.config(), &[new], [Some(old), Some(new), None]), wanted, "{what}");
        }
    }
}

#[test]
fn inv05_a_key_may_change_its_kind_at_each_renewal() {
    let one = Generation::new(0);
    let genpkey = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".split(' ');
    let rsa = String::from_utf8(Command::new("openssl").args(genpkey).output().unwrap().stdout).unwrap();
    let rsa = PrivateKey::from_pem(&rsa);
    let first = one.ca.issue(&Subject::server("localhost"), &rsa);
    let mut volume = Volume::new(&files(&first, &one.ca.pem));
    let reloader = strict(&volume);
    let (p256, ed25519) = (PrivateKey::p256(), PrivateKey::ed25519());
    for key in [&rsa, &p256, &ed25519, &rsa, &ed25519, &p256, &rsa] {
        let pair = one.ca.issue(&Subject::server("localhost"), key);
        volume.publish_in_one_tick(&files(&pair, &one.ca.pem));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert_eq!(let_in(&reloader.config(), &[&one], [Some(&one), None]), [true, false]);
        assert_eq!(common::presented(&reloader)[0], pair.leaf);
    }
}

#[test]
fn inv05_an_unrelated_ca_that_has_expired_does_not_hold_up_a_reload() {
    let all = generations(2);
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let expired = Authority::root("unrelated").twin("unrelated", (now - 2 * day, now - day));
    let mut volume = Volume::new(&files(&all[0].server, &(expired.clone() + &all[0].ca.pem)));
    let reloader = strict(&volume);
    let shown = [Some(&all[0]), Some(&all[1]), None];
    assert_eq!(let_in(&reloader.config(), &[&all[0]], shown), [true, false, false]);
    for bundle in [all[0].ca.pem.clone() + &expired + &all[1].ca.pem, all[1].ca.pem.clone() + &expired] {
        volume.publish_in_one_tick(&files(&all[0].server, &bundle));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        let wanted = [bundle.contains(&all[0].ca.pem), true, false];
        assert_eq!(let_in(&reloader.config(), &[&all[0]], shown), wanted);
    }
}

/// The CA is gone from the files, and waiting for the date would go on accepting its clients.
#[test]
fn inv05_client_cas_do_not_wait_for_the_date_of_a_served_leaf() {
    let (all, hour) = (generations(2), Duration::from_secs(3600));
    let now = SystemTime::now();
    let subject = Subject::server("localhost").valid(now + hour, now + 9 * hour);
    let early = all[0].ca.issue(&subject, &PrivateKey::p256());
    let both = format!("{}{}", all[0].ca.pem, all[1].ca.pem);
    let mut volume = Volume::new(&files(&early, &both));
    let server = strict(&volume);
    let later = (now + 2 * hour).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let accepts = |shown: &Generation| {
        let client = client_showing(&[&all[0]], Some(shown), rustls::ALL_VERSIONS);
        handshake(&server.config(), &common::at_time(&client, later)).is_ok()
    };
    assert!(accepts(&all[0]) && accepts(&all[1]));
    volume.publish(&files(&early, &all[1].ca.pem));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!accepts(&all[0]) && accepts(&all[1]));
    // Another leaf that is early is waited for, as ever.
    let next = all[0].ca.issue(&subject, &PrivateKey::p256());
    volume.publish(&files(&next, &all[1].ca.pem));
    assert!(matches!(server.reload_now(), Reload::Deferred(_)));
}

/// Certificates of one CA that differ in their permissions: an implementation that merges CAs of
/// one name and key keeps only one of them.
#[test]
fn inv09_cas_of_one_name_and_key_are_both_kept_in_either_order() {
    let one = Generation::new(0);
    let (root, inner) = (Authority::root("root"), Authority::root("root").intermediate("CA"));
    let [left, right] = ["left.test", "right.test"].map(|name| root.certify_again_for(&inner, "CA", name));
    let clients = ["left.test", "right.test"].map(|name| Generation {
        client: inner.issue(&Subject::client(name), &PrivateKey::p256()),
        ..Generation::new(9)
    });
    let [of_left, of_right] = &clients;
    let mut volume = Volume::new(&files(&one.server, &left));
    let reloader = strict(&volume);
    let shown = [Some(of_left), Some(of_right), None];
    assert_eq!(let_in(&reloader.config(), &[&one], shown), [true, false, false]);
    for (bundle, wanted) in [
        (left.clone() + &right, [true, true, false]),
        (right.clone(), [false, true, false]),
        (right.clone() + &left, [true, true, false]),
        (left.clone(), [true, false, false]),
    ] {
        let epoch = reloader.current().value.trust_epoch();
        volume.publish_in_one_tick(&files(&one.server, &bundle));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert_eq!(let_in(&reloader.config(), &[&one], shown), wanted);
        assert_eq!(reloader.current().value.trust_epoch(), epoch + 1, "another trust");
    }
}

#[test]
fn inv09_removed_ca_is_trusted_no_longer_and_the_others_are() {
    let all = generations(3);
    let pems: Vec<&str> = all.iter().map(|generation| generation.ca.pem.as_str()).collect();
    let mut volume = Volume::new(&files(&all[0].server, &pems.concat()));
    let reloader = strict(&volume);
    let shown = [Some(&all[0]), Some(&all[1]), Some(&all[2]), None];
    assert_eq!(let_in(&reloader.config(), &[&all[0]], shown), [true, true, true, false]);
    for kept in [&[0, 2][..], &[2], &[1], &[0, 1, 2]] {
        let bundle: String = kept.iter().map(|i| pems[*i]).collect();
        volume.publish_in_one_tick(&files(&all[0].server, &bundle));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        let wanted = [0, 1, 2, 3].map(|i| kept.contains(&i));
        assert_eq!(let_in(&reloader.config(), &[&all[0]], shown), wanted, "{kept:?}");
    }
}

/// Returns the settings outside of the files that a handshake shows.
fn shows(server: &Arc<ServerConfig>, one: &Generation) -> Vec<String> {
    let mut seen = Vec::new();
    for version in VERSIONS {
        for (shown, offers) in
            [(Some(one), "h2"), (Some(one), "http/1.1"), (None, "http/1.1"), (Some(one), "other")]
        {
            let mut client: ClientConfig = client_showing(&[one], shown, &[version]).as_ref().clone();
            client.alpn_protocols = vec![offers.as_bytes().to_vec()];
            seen.push(match handshake(server, &Arc::new(client)) {
                Ok(connection) => format!(
                    "{:?} {:?} {:?}",
                    connection.version,
                    connection.alpn.map(|alpn| String::from_utf8(alpn).unwrap()),
                    connection.client.is_some()
                ),
                Err(error) => error.to_string(),
            });
        }
    }
    seen.push(format!("{:?} {}", server.max_fragment_size, server.send_tls13_tickets));
    seen
}

#[test]
fn inv02_a_reload_changes_nothing_but_what_is_in_the_files() {
    let one = Generation::new(0);
    let renewals: Vec<Pair> = (0..3)
        .map(|i| {
            let key = if i == 1 { PrivateKey::ed25519() } else { PrivateKey::p256() };
            one.ca.issue(&Subject::server("localhost"), &key)
        })
        .collect();
    let mut differ = std::collections::BTreeSet::new();
    for mode in [None, Some(ClientAuth::Optional), Some(ClientAuth::Required)] {
        for versions in [&VERSIONS[..], &VERSIONS[1..], &VERSIONS[..1]] {
            for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
                let mut volume = Volume::of(&one);
                let server =
                    volume.server().versions(versions).alpn(alpn.iter().copied()).configure(|config| {
                        config.max_fragment_size = Some(1234);
                        config.send_tls13_tickets = 3;
                    });
                let server = match mode {
                    Some(mode) => server.client_ca(volume.path("ca.crt"), mode),
                    None => server,
                };
                let reloader = server.load().unwrap();
                let before = shows(&reloader.config(), &one);
                for pair in &renewals {
                    volume.publish_in_one_tick(&files(pair, &one.ca.pem));
                    assert_eq!(reloader.reload_now(), Reload::Reloaded);
                    assert_eq!(shows(&reloader.config(), &one), before, "{mode:?} {versions:?} {alpn:?}");
                }
                differ.insert(before);
            }
        }
    }
    assert_eq!(differ.len(), 27, "every setting shows in a handshake");
}
