//! Client CAs: which of them let clients in, by OpenSSL, by rustls alone, and here.
//!
//! Checks: INV-14, INV-16.

mod rows;
mod x509;

use std::{fs, path::Path, sync::Arc, time::Duration};

use crate::common::{
    self, Generation, NamedFile, Volume, client_with, handshake,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use rows::{CLIENT_AUTH, Row, SERVER_AUTH, authority, rows};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier, sign::CertifiedKey};
use rustls_reload::{
    ClientAuth, Error, Event, Layer, Reload, RemovedTrust, ServerReloader, Timing, Warning, internal::pem,
};
use rustls_reload_testkit::Pair;
use x509::{Signer, basic, key_cert_sign, openssl, purposes};

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

/// A client CA before and after a change: the bundles, and a client that the first bundle lets in.
struct Change {
    what: &'static str,
    bundles: [String; 2],
    client: Pair,
    /// Whether the anchors are equal.
    same: bool,
}

fn changes() -> Vec<Change> {
    let ((signer, _), (other, _)) = (Signer::new(), Signer::new());
    let ca = [basic(true, None), key_cert_sign()];
    let lax = |(id, _, value): &x509::Extension| x509::extension(id, value.clone());
    let public = signer.public();
    let client = rows::issued(&signer, "CA", b"\x82\x0da.example.com");
    let of = |subject: &str, signer: &Signer, key: &[u8], extensions: &[x509::Extension]| {
        authority(subject, signer, key, extensions)
    };
    let made = |version_3, serial, issuer, dates, extensions: &[x509::Extension]| {
        let key = &public;
        x509::pem(
            &x509::Certificate { version_3, serial, issuer, subject: "CA", dates, key, extensions }
                .signed_by(&signer),
        )
    };
    let first = of("CA", &signer, &public, &ca);
    let constrained = |name: &[u8]| {
        let base = x509::der(0x82, &[name]);
        let subtrees = x509::der(0xa0, &[&x509::der(0x30, &[&base])]);
        let constraints = (x509::CONSTRAINTS, true, x509::der(0x30, &[&subtrees]));
        of("CA", &signer, &public, &[&ca[..], &[constraints]].concat())
    };
    let (com, net) = (constrained(b"example.com"), constrained(b"example.net"));
    let spare = Generation::new(9).ca.pem;
    let change = |what, from: &str, to: &str, same| Change {
        what,
        bundles: [from, to].map(|bundle| format!("{bundle}{spare}")),
        client: client.clone(),
        same,
    };
    vec![
        change("another serial and dates", &first, &made(true, 2, "CA", x509::FUTURE, &ca), true),
        change("expired", &first, &made(true, 3, "CA", x509::PAST, &ca), true),
        change("fewer extensions", &first, &made(true, 4, "CA", x509::NOW, &ca[..1]), true),
        change(
            "more extensions",
            &first,
            &made(true, 5, "CA", x509::NOW, &[&ca[..], &[purposes(&[CLIENT_AUTH])]].concat()),
            true,
        ),
        change(
            "no critical extension",
            &first,
            &of("CA", &signer, &public, &[lax(&ca[0]), lax(&ca[1])]),
            true,
        ),
        change("a shorter path", &first, &made(true, 5, "CA", x509::NOW, &[basic(true, Some(0))]), true),
        change("version 1", &first, &made(false, 6, "CA", x509::NOW, &[]), true),
        change("cross-signed", &first, &made(true, 7, "another", x509::NOW, &ca), true),
        change(
            "twice, and the renewed one first",
            &first,
            &(made(true, 8, "CA", x509::NOW, &ca) + &first),
            true,
        ),
        change("the old one of two", &(first.clone() + &made(true, 8, "CA", x509::NOW, &ca)), &first, true),
        change("the same constraints", &com, &(com.clone() + &com), true),
        change("another key", &first, &of("CA", &other, &other.public(), &ca), false),
        change("another string type of the name", &first, &of("printable:CA", &signer, &public, &ca), false),
        change("another name", &first, &of("other CA", &signer, &public, &ca), false),
        change("no CA any more", &first, &made(true, 9, "CA", x509::NOW, &[basic(false, None)]), false),
        change("gone", &first, "", false),
        change("constraints that let it in", &first, &com, false),
        change("constraints that do not", &first, &net, false),
        change("other constraints", &com, &net, false),
        change("constraints that have gone", &com, &first, false),
    ]
}

/// The results of a change, with each kind of session.
struct After {
    let_in: bool,
    resumed: bool,
    lost: Vec<RemovedTrust>,
    drained: bool,
}

fn publish(change: &Change, kind: Kind, generation: &Generation) -> After {
    let [first, next] = &change.bundles;
    let mut server = Sessions::new(&files(&generation.server, first), "localhost", kind.1, Rule::Shipped);
    let client = client_with(&[&generation.ca], Some(&change.client), &[kind.0]);
    for resumed in [false, true] {
        assert_eq!(handshake(&server.current(), &client).unwrap().resumed, resumed, "{}", change.what);
    }
    let (mut events, before) = (server.reloader.events(), server.reloader.current());
    assert_eq!(server.publish(&files(&generation.server, next), "localhost"), Reload::Reloaded);
    let connection = handshake(&server.current(), &client);
    let lost = std::iter::from_fn(|| events.try_next()).find_map(|reported| match &*reported.event {
        Event::TrustReduced { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    let same = server.reloader.current().value.trust_epoch() == before.value.trust_epoch();
    assert_eq!(same, change.same, "{}", change.what);
    After {
        let_in: connection.is_ok(),
        resumed: connection.is_ok_and(|connection| connection.resumed),
        lost: lost.unwrap_or_default(),
        drained: server.reloader.trust_reduced_since(before.generation),
    }
}

/// Checks that a comparison of trust agrees with handshakes: a client that is refused now was
/// reported, and nothing is reported while the anchors are equal.
fn agrees(change: &Change, seen: &After, reported: bool) -> Result<(), &'static str> {
    match (reported, seen.let_in) {
        (false, false) => Err("a client is refused and nothing was reported"),
        (true, true) if change.same => Err("reported, and the trust is the same"),
        _ => Ok(()),
    }
}

#[test]
fn inv09_inv16_trust_is_compared_by_anchors_in_handshakes() {
    let generation = Generation::new(0);
    let (mut by_bytes, mut by_name) = (Vec::new(), Vec::new());
    for change in changes() {
        let certificates = change.bundles.each_ref().map(|bundle| pem::ca_bundle(bundle.as_bytes()).unwrap());
        for kind in KINDS {
            let seen = publish(&change, kind, &generation);
            let what = format!("{}, {kind:?}", change.what);
            assert_eq!(agrees(&change, &seen, !seen.lost.is_empty()), Ok(()), "{what}");
            assert_eq!(seen.resumed, change.same, "{what}: a session goes on exactly while its anchors do");
            let widened = change.what == "constraints that have gone";
            assert_eq!(seen.lost.is_empty(), change.same || widened, "{what}: {:?}", seen.lost);
            assert_eq!(seen.drained, !seen.lost.is_empty(), "{what}");
            for lost in &seen.lost {
                let RemovedTrust::ClientCa { subject, fingerprint } = lost else { panic!("{what}: {lost}") };
                let printed = x509::fingerprint(&certificates[0][0]);
                assert_eq!((subject.as_str(), fingerprint.to_string()), ("CN=CA", printed), "{what}");
                assert_eq!(lost.to_string(), format!("client CA CN=CA ({fingerprint})"));
            }
            // Breaks: INV-09, INV-16. Trust compared by the bytes of certificates.
            let bytes = certificates[0].iter().any(|ca| !certificates[1].contains(ca));
            by_bytes.extend(agrees(&change, &seen, bytes).err().map(|_| change.what));
            // Breaks: INV-09, INV-16. Trust compared by the names of CAs.
            let subjects = certificates.each_ref().map(|bundle| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(bundle.iter().cloned());
                roots.subjects().iter().map(|name| name.as_ref().to_vec()).collect::<Vec<_>>()
            });
            let names = subjects[0].iter().any(|name| !subjects[1].contains(name));
            by_name.extend(agrees(&change, &seen, names).err().map(|_| change.what));
        }
    }
    by_bytes.dedup();
    by_name.dedup();
    println!("by bytes: {by_bytes:?}\nby name: {by_name:?}");
    assert!(
        ["another serial and dates", "cross-signed", "version 1"].iter().all(|what| by_bytes.contains(what))
    );
    assert_eq!(by_name, ["another key", "no CA any more", "constraints that do not", "other constraints"]);
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
