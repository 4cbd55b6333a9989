//! Roots: which of them a client accepts servers by, by OpenSSL, by rustls alone, and here.
//!
//! Checks: INV-14, INV-16.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use rustls_reload::{ClientBuilder, ClientReloader, Error, Event, Layer, Reload, Warning, internal::pem};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    common::{Generation, handshake, quick, sessions::KINDS},
    world::server,
    x509::{
        self, ALTERNATIVE, CONSTRAINTS, Certificate, Extension, KEY_USAGE, NOW, Signer, basic, bits, der,
        extension, key_cert_sign, openssl, purposes,
    },
};

const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: &[u8] = &[0x55, 29, 37, 0];
/// Purposes of servers from the time of export ciphers: 2.16.840.1.113730.4.1 of Netscape, and
/// 1.3.6.1.4.1.311.10.3.3 of Microsoft.
const NS_STEP_UP: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1];
const MS_STEP_UP: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3];
const UNKNOWN: &[u8] = &[0x2a, 3, 4];
const DNS: u8 = 0x82;
pub const DIRECTORY: u8 = 0xa4;
pub const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;

const MANUAL: &str = include_str!("../../src/manual/clients.md");

/// The outcome for the servers of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// Accepted, with a warning that has these words.
    Warned(&'static str),
    /// The root is ignored for this reason.
    Ignored(&'static str),
}

pub use Outcome::{Accepted, Ignored, Warned};

pub struct Row {
    pub name: &'static str,
    version_3: bool,
    extensions: Vec<Extension>,
    openssl: bool,
    pub here: Outcome,
}

pub fn row(name: &'static str, extensions: impl Into<Vec<Extension>>, openssl: bool, here: Outcome) -> Row {
    Row { name, version_3: true, extensions: extensions.into(), openssl, here }
}

/// Name constraints that permit one base.
pub fn permitted(base: &[u8]) -> [Extension; 2] {
    let subtrees = der(0xa0, &[&der(0x30, &[base])]);
    [basic(true, None), (CONSTRAINTS, true, der(0x30, &[&subtrees]))]
}

fn rows() -> Vec<Row> {
    let ca = || basic(true, None);
    let critical = (UNKNOWN, true, vec![5, 0]);
    vec![
        row("CA:TRUE", [ca()], true, Accepted),
        row("CA:TRUE, keyCertSign", [ca(), key_cert_sign()], true, Accepted),
        row("CA:FALSE", [basic(false, None)], false, Ignored("CA:FALSE")),
        row("no basicConstraints", [], false, Ignored("no basicConstraints")),
        row("CA:TRUE, cRLSign alone", [ca(), bits(KEY_USAGE, 1, 0x02)], false, Ignored("keyCertSign")),
        row("extended key usage serverAuth", [ca(), purposes(&[SERVER_AUTH])], true, Accepted),
        row("extended key usage clientAuth", [ca(), purposes(&[CLIENT_AUTH])], false, Ignored("serverAuth")),
        // RFC 5280 section 4.2.1.12 takes it for every purpose, and OpenSSL does not.
        row("extended key usage any", [ca(), purposes(&[ANY_PURPOSE])], false, Accepted),
        // OpenSSL takes both for serverAuth, and the section does not name them.
        row("extended key usage nsSGC", [ca(), purposes(&[NS_STEP_UP])], true, Ignored("serverAuth")),
        row("extended key usage msSGC", [ca(), purposes(&[MS_STEP_UP])], true, Ignored("serverAuth")),
        row("nsSGC and serverAuth", [ca(), purposes(&[NS_STEP_UP, SERVER_AUTH])], true, Accepted),
        row(
            "unknown critical extension",
            [ca(), critical],
            false,
            Warned("no server certificate is rejected"),
        ),
        row("DNS permitted, server inside", permitted(&der(DNS, &[b"localhost"])), true, Accepted),
        row(
            "e-mail permitted, server without an e-mail",
            permitted(&der(EMAIL, &[b"example.com"])),
            true,
            Warned("e-mail addresses"),
        ),
        row(
            "directory name permitted, server inside",
            permitted(&der(DIRECTORY, &[&x509::name("localhost")])),
            true,
            Ignored("directory names"),
        ),
        Row { version_3: false, ..row("version 1, self-issued", [], true, Accepted) },
    ]
}

/// Makes the root of a row, and a server's pair that it issued.
pub fn issued(row: &Row) -> (String, Pair) {
    issued_with(row, &[], Signer::public)
}

/// Does so, with a further name in the server's certificate, and the root's key in this form.
pub fn issued_with(row: &Row, further: &[u8], form: impl Fn(&Signer) -> Vec<u8>) -> (String, Pair) {
    let ((signer, _), (own, key)) = (Signer::new(), Signer::new());
    let (root_key, public) = (form(&signer), own.public());
    let root = Certificate {
        version_3: row.version_3,
        serial: 1,
        issuer: row.name,
        subject: row.name,
        dates: NOW,
        key: &root_key,
        extensions: &row.extensions,
    };
    let names = extension(ALTERNATIVE, der(0x30, &[&der(DNS, &[b"localhost"]), further]));
    let leaf = Certificate {
        version_3: true,
        serial: 7,
        subject: "localhost",
        key: &public,
        extensions: &[basic(false, None), purposes(&[SERVER_AUTH]), names],
        ..root
    };
    let leaf = leaf.signed_by(&signer);
    let chain = x509::pem(&leaf);
    (x509::pem(&root.signed_by(&signer)), Pair { chain, key, leaf: CertificateDer::from(leaf) })
}

/// Loads a client of this bundle; returns it with its warnings.
fn load(dir: &Path, roots: &str) -> Result<(ClientReloader, Vec<Warning>), Error> {
    let path = dir.join("ca.crt");
    fs::write(&path, roots).unwrap();
    warned(ClientReloader::builder().roots(&path))
}

/// Loads a client; returns it with its warnings.
pub fn warned(client: ClientBuilder) -> Result<(ClientReloader, Vec<Warning>), Error> {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&reported);
    let on_event = move |event: &Event| {
        if let Event::Warning { warning } = event {
            keep.lock().unwrap().push(warning.clone());
        }
    };
    let client = client.timing(quick()).on_event(on_event).load()?;
    let reported = std::mem::take(&mut *reported.lock().unwrap());
    Ok((client, reported))
}

/// Whether the client accepts the server, by each version of the protocol.
pub fn accepts(client: &Arc<ClientConfig>, pair: &Pair) -> bool {
    let [one, other] = [KINDS[0], KINDS[2]].map(|kind| handshake(&server(pair, &[], kind), client).is_ok());
    assert_eq!(one, other, "both versions agree");
    one
}

fn openssl_accepts(dir: &Path, root: &str, pair: &Pair) -> bool {
    fs::write(dir.join("root"), root).unwrap();
    fs::write(dir.join("server"), &pair.chain).unwrap();
    openssl(dir, "verify -partial_chain -purpose sslserver -CAfile root server").status.success()
}

/// Whether rustls alone accepts the server by this root.
fn rustls_accepts(root: &str, pair: &Pair) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(pem::ca_bundle(root.as_bytes()).unwrap().remove(0)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    accepts(&Arc::new(config), pair)
}

#[test]
fn inv14_inv16_root_that_may_not_issue_servers_warns() {
    let dir = tempfile::tempdir().unwrap();
    let beside = Generation::new(0);
    let (mut without_a_check, mut table) = (0, String::new());
    for row in rows() {
        let (root, pair) = issued(&row);
        let name = row.name;
        assert_eq!(openssl_accepts(dir.path(), &root, &pair), row.openssl, "{name}: OpenSSL");
        let alone = rustls_accepts(&root, &pair);
        without_a_check += usize::from(matches!(row.here, Ignored(_)) && alone);
        let [openssl, alone] =
            [row.openssl, alone].map(|accepts| if accepts { "accepts" } else { "rejects" });
        let here = match row.here {
            Accepted => "accepts",
            Warned(_) => "accepts, warns",
            Ignored(_) => "ignored",
        };
        table += &format!("| {name} | {openssl} | {alone} | {here} |\n");
        let (both, warnings) = load(dir.path(), &(beside.ca.pem.clone() + &root)).unwrap();
        assert!(accepts(&both.config(), &beside.server), "{name}: the root beside it");
        assert_eq!(accepts(&both.config(), &pair), !matches!(row.here, Ignored(_)), "{name}");
        let alone = load(dir.path(), &root);
        let words = match row.here {
            Accepted => {
                assert_eq!(warnings, [], "{name}");
                assert!(accepts(&alone.unwrap().0.config(), &pair), "{name}");
                continue;
            }
            Warned(words) => {
                assert!(accepts(&alone.unwrap().0.config(), &pair), "{name}");
                words
            }
            Ignored(words) => {
                let error = alone.map(drop).unwrap_err();
                assert_eq!((error.layer(), error.path()), (Layer::RootCa, Some(&*dir.path().join("ca.crt"))));
                assert!(error.why().starts_with(
                    "no CA of the bundle can be used, so no server certificate would be accepted: CA 1 of 1"
                ));
                assert!(error.why().contains(words), "{name}: {error}");
                words
            }
        };
        let [warning] = &warnings[..] else { panic!("{name}: {warnings:?}") };
        assert_eq!(warning.layer(), Layer::RootCa, "{name}");
        assert!(warning.why().starts_with("CA 2 of 2 (CN=") && warning.why().contains(words), "{warning}");
    }
    // Breaks: INV-14. rustls alone takes any certificate for a root.
    assert!(without_a_check >= 4, "{without_a_check}");
    let (_, written) =
        MANUAL.split_once("| root | OpenSSL | rustls alone | here |\n|---|---|---|---|\n").unwrap();
    let (written, _) = written.split_once("\n\n").unwrap();
    assert_eq!(written, table.trim_end(), "the manual's table");
}

#[test]
fn inv16_added_useless_root_warns_and_changes_no_trust() {
    let dir = tempfile::tempdir().unwrap();
    let (root, pair) = issued(&row("CA:FALSE", [basic(false, None)], false, Ignored("CA:FALSE")));
    let beside = Generation::new(0);
    let (client, _) = load(dir.path(), &beside.ca.pem).unwrap();
    fs::write(dir.path().join("ca.crt"), beside.ca.pem.clone() + &root).unwrap();
    let mut events = client.events();
    assert_eq!(client.reload_now(), Reload::Reloaded);
    let reported = crate::common::drain(&mut events);
    assert!(
        reported.iter().any(|event| event
            .to_string()
            .contains("is ignored, so no server certificate is accepted by it")),
        "{reported:?}"
    );
    assert!(!accepts(&client.config(), &pair));
    assert_eq!(client.current().value.trust_epoch(), 1, "nothing that is trusted has changed");
    // Alone it is no bundle.
    let error = load(dir.path(), &root).map(drop).unwrap_err();
    assert_eq!(error.layer(), Layer::RootCa);
}

/// Name constraints that rustls cannot apply, with servers that have such a name and not.
#[test]
fn inv14_inv16_inapplicable_name_constraints_reject_servers() {
    let dir = tempfile::tempdir().unwrap();
    for (base, name) in [
        (der(EMAIL, &[b"example.com"]), der(EMAIL, &[b"me@example.com"])),
        (der(URI, &[b".example.com"]), der(URI, &[b"https://www.example.com"])),
    ] {
        let constrained = row("constrained", permitted(&base), true, Accepted);
        let (root, without) = issued(&constrained);
        let (client, warnings) = load(dir.path(), &root).unwrap();
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.why().contains("accepts no server certificate whose chain has a name"), "{warning}");
        assert!(accepts(&client.config(), &without));
        let (root, with) = issued_with(&constrained, &name, Signer::public);
        let (client, _) = load(dir.path(), &root).unwrap();
        assert!(!accepts(&client.config(), &with), "{warning}");
        assert!(!rustls_accepts(&root, &with), "{warning}");
    }
    let beside = Generation::new(0);
    for (base, why) in [
        (der(DIRECTORY, &[&x509::name("localhost")]), "it accepts no server certificate by such a CA"),
        // A base of a kind that no name has.
        (der(0x9f, &[b"x"]), "rustls accepts no server certificate by such a CA"),
    ] {
        let (root, pair) = issued(&row("constrained", permitted(&base), true, Accepted));
        assert!(!rustls_accepts(&root, &pair), "{why}");
        let (client, warnings) = load(dir.path(), &(beside.ca.pem.clone() + &root)).unwrap();
        assert!(warnings.iter().any(|warning| warning.why().contains(why)), "{why}: {warnings:?}");
        assert!(!accepts(&client.config(), &pair) && accepts(&client.config(), &beside.server), "{why}");
    }
}

/// rustls-webpki gives up after 100 signatures.
#[test]
fn inv14_a_bundle_with_too_many_roots_of_one_name_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let roots: Vec<_> = (0..101).map(|_| Authority::root("servers")).collect();
    let last = roots[100].issue(&Subject::server("localhost"), &PrivateKey::p256());
    for (count, accepted, warned) in [(90, true, 0), (100, true, 1), (101, false, 1)] {
        let bundle: String = roots[101 - count..].iter().map(|root| root.pem.as_str()).collect();
        let (client, warnings) = load(dir.path(), &bundle).unwrap();
        assert_eq!((accepts(&client.config(), &last), warnings.len()), (accepted, warned), "{count}");
        let says = format!("has {count} CAs with the subject CN=servers");
        assert!(warnings.iter().all(|warning| warning.why().contains(&says)), "{warnings:?}");
    }
}
