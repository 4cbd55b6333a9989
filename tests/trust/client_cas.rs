//! Client CAs: which of them let clients in, by OpenSSL, by rustls alone, and here.
//!
//! Checks: INV-14, INV-16.

mod changes;
mod rows;
mod x509;

use std::{fs, path::Path, sync::Arc, time::Duration};

use crate::common::{self, Generation, NamedFile, Volume, client_with, handshake};
use rows::{Row, SERVER_AUTH, authority, issued, mail_permitted, rows};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier, sign::CertifiedKey};
use rustls_reload::{ClientAuth, Error, Layer, Reload, ServerReloader, Timing, Warning, internal::pem};
use rustls_reload_testkit::Pair;
use x509::{Signer, basic, openssl, purposes};

fn files<'a>(pair: &'a Pair, bundle: &'a str) -> [NamedFile<'a>; 3] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes()), ("ca.crt", bundle.as_bytes())]
}

/// Loads a server that requires a client of this bundle. Returns it and its warnings.
fn server(generation: &Generation, bundle: &str) -> Result<(ServerReloader, Vec<Warning>), Error> {
    let volume = Volume::in_memory(&files(&generation.server, bundle)).private();
    // With the default settle time, a load would wait for files that were just written. Here no
    // writer is left.
    let at_once = Timing { settle: Duration::ZERO, tie_recheck: Duration::ZERO, ..common::quick() };
    let server = || volume.server().timing(at_once).client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let loaded = server().load()?;
    Ok((loaded, server().inspect(Duration::ZERO).warnings))
}

/// Returns whether the server lets a client in, with each version of the protocol.
fn lets_in(config: &Arc<ServerConfig>, generation: &Generation, client: &Pair) -> bool {
    let answers = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
        let client = client_with(&[&generation.ca], Some(client), &[version]);
        handshake(config, &client).is_ok_and(|connection| connection.client.is_some())
    });
    assert_eq!(answers[0], answers[1], "both versions agree");
    answers[0]
}

/// Returns whether the `openssl` command accepts the client.
fn openssl_lets_in(dir: &Path, row: &Row) -> bool {
    for (name, text) in [("ca", &row.ca), ("client", &row.client.chain), ("between", &row.between)] {
        fs::write(dir.join(name), text).unwrap();
    }
    let between = if row.between.is_empty() { "" } else { "-untrusted between" };
    openssl(dir, &format!("verify -partial_chain -purpose sslclient -CAfile ca {between} client"))
        .status
        .success()
}

/// Returns the configuration of rustls alone with the CA.
fn bare(generation: &Generation, row: &Row) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(pem::ca_bundle(row.ca.as_bytes()).unwrap().remove(0)).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = pem::chain(generation.server.chain.as_bytes()).unwrap();
    let key = CertifiedKey::from_der(chain, generation.server.key_der(), &provider).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let resolver = rustls::sign::SingleCertAndKey::from(key);
    Arc::new(config.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver)))
}

/// The results of a row.
struct Seen {
    name: &'static str,
    openssl: bool,
    rustls: bool,
    here: &'static str,
}

fn see(dir: &Path, generation: &Generation, row: &Row) -> Seen {
    let name = row.name;
    let openssl = openssl_lets_in(dir, row);
    let rustls = lets_in(&bare(generation, row), generation, &row.client);
    // The CA is loaded beside a valid one, and then alone.
    let beside = format!("{}{}", generation.ca.pem, row.ca);
    let (both, warnings) = server(generation, &beside).unwrap();
    assert!(lets_in(&both.config(), generation, &generation.client), "{name}: the CA beside it");
    let let_in = lets_in(&both.config(), generation, &row.client);
    let here = match server(generation, &row.ca) {
        Err(error) => {
            assert_eq!(error.layer(), Layer::ClientCa, "{name}: {error}");
            assert!(
                error.why().starts_with(
                    "no CA of the bundle can be used, so no client certificate would be accepted: CA 1 of 1 \
                     (CN="
                ),
                "{error}"
            );
            let [only] = &warnings[..] else { panic!("{name}: {warnings:?}") };
            let (_, reason) = error.why().split_once("): ").unwrap();
            let (named, effect) = only.why().split_once(") is ").unwrap();
            assert!(named.starts_with("CA 2 of 2 (CN="), "{only}");
            assert_eq!(
                effect,
                format!("ignored, so no client is accepted by it: {reason}"),
                "{only}, {error}"
            );
            assert!(!let_in, "{name}: accepted by an ignored CA");
            "ignored"
        }
        Ok((alone, alone_warned)) => {
            assert_eq!(lets_in(&alone.config(), generation, &row.client), let_in, "{name}");
            assert_eq!(alone_warned.len(), warnings.len(), "{name}: {alone_warned:?} {warnings:?}");
            match (let_in, warnings.is_empty()) {
                (true, true) => "accepts",
                (true, false) => "accepts, warns",
                (false, true) => "rejects",
                (false, false) => "rejects, warns",
            }
        }
    };
    let named = [format!("CN={}", name.replace(',', "\\,")), format!("CN={}", name.replace(' ', "_"))];
    for warned in &warnings {
        assert!(named.iter().any(|named| warned.why().contains(named)), "{name}: {warned}");
    }
    println!("{name}: {warnings:?}");
    Seen { name, openssl, rustls, here }
}

/// Rows in which OpenSSL and this crate differ, for a reason that the manual gives.
const EXCUSED: [&str; 4] = [
    "pathLen 0, another CA between",
    "extended key usage any",
    "CA:FALSE, the client's own certificate",
    "CA:TRUE, the client's own certificate",
];

/// Returns the rows that a way to check anchors gets wrong: a client is let in without a warning
/// that OpenSSL refuses, or is refused without a warning that OpenSSL accepts; or a CA is left out
/// by which OpenSSL and rustls both accept clients.
fn wrong(rows: &[Seen], field: impl Fn(&Seen) -> &'static str) -> Vec<&'static str> {
    let is_wrong = |row: &&Seen| match field(row) {
        "accepts" => !row.openssl,
        "rejects" => row.openssl,
        "ignored" => row.openssl && row.rustls,
        _ => false,
    };
    rows.iter().filter(|row| !EXCUSED.contains(&row.name)).filter(is_wrong).map(|row| row.name).collect()
}

/// Engine: generated.
#[test]
fn inv14_inv16_each_kind_of_client_ca_is_as_the_manual_says() {
    let dir = tempfile::tempdir().unwrap();
    let generation = Generation::new(0);
    let seen: Vec<_> = rows(dir.path()).iter().map(|row| see(dir.path(), &generation, row)).collect();
    let word = |lets_in| if lets_in { "accepts" } else { "rejects" };
    let table: Vec<_> = seen
        .iter()
        .map(|row| format!("| {} | {} | {} | {} |", row.name, word(row.openssl), word(row.rustls), row.here))
        .collect();
    let manual = include_str!("../../src/manual/client_cas.md");
    let written: Vec<_> = manual.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(written, table, "{}", table.join("\n"));
    assert_eq!(wrong(&seen, |row| row.here), [""; 0]);
    // Breaks: INV-14. An anchor that is checked only by parsing it: rustls alone decides about its
    // clients.
    let parsed = wrong(&seen, |row| word(row.rustls));
    println!("an anchor checked by parsing only: {parsed:?}");
    assert!(
        ["CA:FALSE", "P-521", "RSA of 2039 bits", "directory name permitted, client inside"]
            .iter()
            .all(|row| parsed.contains(row))
    );
    // Breaks: INV-16. The dates of a client CA count as those of its clients, as in an earlier
    // warning.
    let claimed = seen.iter().filter(|row| ["expired", "not valid yet"].contains(&row.name));
    assert!(claimed.clone().count() == 2 && claimed.into_iter().all(|row| row.here == "accepts, warns"));
}

/// A CA with a second certificate that is ignored or limited accepts clients by the first one, and
/// no warning says otherwise.
#[test]
fn inv14_inv16_a_second_certificate_of_a_ca_takes_no_client_away() {
    let generation = Generation::new(0);
    let (signer, _) = Signer::new();
    let certificate = |extensions: &[x509::Extension]| authority("CA", &signer, &signer.public(), extensions);
    let usable = certificate(&[basic(true, None)]);
    let ignored = "is ignored, while another certificate of this name and key is not";
    let limited = "another certificate of this name and key has other constraints, or none, and may accept such a chain";
    for (second, warned) in [
        (certificate(&[basic(false, None)]), ignored),
        (certificate(&[basic(true, None), purposes(&[SERVER_AUTH])]), ignored),
        (certificate(&mail_permitted()), limited),
    ] {
        let client = issued(&signer, "CA", &x509::der(0x81, &[b"a@example.net"]));
        // Without the usable certificate, the client is rejected.
        let beside = |bundle: &str| server(&generation, &format!("{}{bundle}", generation.ca.pem)).unwrap();
        let (alone, warnings) = beside(&second);
        assert!(!lets_in(&alone.config(), &generation, &client) && warnings.len() == 1, "{warnings:?}");
        assert!(!warnings[0].why().contains("another certificate"), "{warnings:?}");
        for both in [usable.clone() + &second, second.clone() + &usable] {
            let (both, warnings) = beside(&both);
            assert!(lets_in(&both.config(), &generation, &client), "{warnings:?}");
            assert!(warnings.len() == 1 && warnings[0].why().contains(warned), "{warnings:?}");
            assert!(!warnings[0].why().contains("no client"), "{warnings:?}");
        }
        // A copy of the limited certificate accepts no more than the certificate does.
        let (_, warnings) = beside(&second.repeat(2));
        assert!(warnings.iter().all(|warning| warning.why().contains("no client")), "{warnings:?}");
    }
}

/// Checks: INV-03.
#[test]
fn inv03_inv14_a_reload_to_a_bundle_of_no_use_keeps_the_old_one() {
    let generation = Generation::new(0);
    let mut volume = Volume::in_memory(&generation.files());
    let reloader = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap();
    let before = reloader.config();
    let (signer, _) = Signer::new();
    let bundles = [
        // The server's own certificate instead of the CA's.
        generation.server.chain.clone(),
        authority("compressed", &signer, &signer.reshaped(2), &[basic(true, None)])
            + &authority(
                "servers",
                &signer,
                &signer.public(),
                &[basic(true, None), purposes(&[SERVER_AUTH])],
            ),
    ];
    for bundle in &bundles {
        volume.publish_in_one_tick(&files(&generation.server, bundle));
        let Reload::Refused(error) = reloader.reload_now() else { panic!("{bundle}") };
        assert_eq!((error.layer(), error.path()), (Layer::ClientCa, Some(volume.path("ca.crt").as_path())));
        assert!(Arc::ptr_eq(&before, &reloader.config()));
        assert!(lets_in(&before, &generation, &generation.client));
    }
    let named = reloader.status().refused.unwrap().error.to_string();
    for part in
        ["CA 1 of 2 (CN=compressed): its key is ", "; CA 2 of 2 (CN=servers): its extended key usage "]
    {
        assert!(named.contains(part), "{named}");
    }
}

#[test]
fn inv16_a_hostile_subject_of_a_client_ca_stays_in_one_short_line() {
    let generation = Generation::new(0);
    let subject = format!("a\nCONFIG:RELOADED \u{1b}[2J\u{202e},{}", "x".repeat(20_000));
    let (signer, _) = Signer::new();
    let hostile = |extensions: &[x509::Extension]| authority(&subject, &signer, &signer.public(), extensions);
    let whole = hostile(&[basic(true, None)]);
    let mut volume = Volume::in_memory(&files(&generation.server, &(whole + &generation.ca.pem)));
    let reloader = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).load().unwrap();
    let mut events = reloader.events();
    let left_out = hostile(&[basic(false, None)]);
    volume.publish_in_one_tick(&files(&generation.server, &(left_out.clone() + &generation.ca.pem)));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    volume.publish_in_one_tick(&files(&generation.server, &left_out));
    let Reload::Refused(error) = reloader.reload_now() else { panic!("of no use") };
    let mut lines: Vec<_> =
        std::iter::from_fn(|| events.try_next()).map(|reported| reported.event.to_string()).collect();
    lines.push(error.to_string());
    lines.retain(|line| line.contains("CN=a"));
    for line in &lines {
        assert!(line.len() < 600 && !line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line}");
    }
    // The lines are the reduced trust, the warning, and the refusal twice.
    assert_eq!(lines.len(), 4, "{lines:#?}");
}
