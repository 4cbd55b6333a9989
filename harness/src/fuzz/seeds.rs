//! The seeds of the fuzz corpus, equal in every run.

use std::{
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use rustls_reload::internal::pem;
use rustls_reload_testkit::{Authority, Crl, CrlVariant, Pair, PrivateKey, Subject, Windows, armor, value};

/// Chain, key and client CAs.
pub(super) type Good = (String, String, String);

/// Returns the authority of the clients.
fn client_root() -> Authority {
    Authority::seeded("client root", 4)
}

/// Issues a CRL of this authority that revokes these leaves, with the same dates as the
/// certificates.
fn list(authority: &Authority, revoked: &[&Pair], number: u64) -> Crl {
    authority.crl(&revoked.iter().map(|pair| &pair.leaf).collect::<Vec<_>>(), subject("").window, number)
}

/// Returns the CRL that the server of the targets serves, which is empty.
pub(super) fn good_crl() -> &'static str {
    static GOOD: OnceLock<String> = OnceLock::new();
    GOOD.get_or_init(|| list(&client_root(), &[], 1).pem)
}

/// A key as PEM, and its windows.
pub(super) type Key = (&'static str, Windows);

const RSA: &str = include_str!("keys/rsa.pem");
const P256: &str = include_str!("keys/p256.pem");
const SEC1: &str = include_str!("keys/sec1.pem");

/// Seconds since the Unix epoch, from and to.
type Window = (u64, u64);

/// From 2020 to 2048.
const USUAL: Window = (1_577_836_800, 2_493_072_000);

fn subject(name: &str) -> Subject {
    subject_in(name, USUAL)
}

fn subject_in(name: &str, (from, to): Window) -> Subject {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    Subject::server(name).valid(at(from), at(to))
}

fn issue(name: &str, identity: &PrivateKey) -> Pair {
    issue_in(name, identity, USUAL)
}

fn issue_in(name: &str, identity: &PrivateKey, window: Window) -> Pair {
    let root = Authority::seeded("root", 1);
    root.intermediate_seeded("intermediate", 2).issue_with_chain(&subject_in(name, window), identity)
}

/// Returns the files that the server of the targets serves.
pub(super) fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let pair = issue("example.test", &PrivateKey::seeded(3));
        (pair.chain, pair.key, client_root().pem)
    })
}

/// Returns the keys of which no window may be reported.
pub(super) fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| {
        #[allow(clippy::expect_used)] // reason: fixed texts
        let key = |text: &'static str| {
            let der = pem::key(text.as_bytes()).expect("a key").clone_der();
            (text, Windows::of(&der, text))
        };
        vec![key(&good().1), key(P256), key(SEC1), key(RSA)]
    })
}

/// A seed: the name of its target, its own name, and its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Returns every seed. `cargo test` compares them with the ones in `fuzz/corpus`.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let texts = texts();
    for target in ["pem_parse", "chain_parse", "key_parse", "ca_bundle"] {
        seeds.extend(texts.iter().map(|(name, text)| (target, format!("{name}.pem"), text.clone())));
    }
    let certificates = certificates();
    seeds.extend(certificates.into_iter().map(|(name, der)| ("der_fields", format!("{name}.der"), der)));
    seeds.extend(lists().into_iter().map(|(name, list)| ("crl_parse", name, list)));
    for target in ["machine_steps", "plan_walk", "redaction", "snapshot_ops"] {
        seeds.extend((0..16).map(|number| (target, format!("random{number:02}"), random(number))));
    }
    // One seed for each publisher, with random pauses and events.
    seeds.extend((0..28).map(|number| {
        let mut bytes = random(100 + number);
        bytes[0] = number;
        ("snapshot_ops", format!("publisher{number:02}"), bytes)
    }));
    seeds.extend(names().map(|(name, text)| ("server_names", name.to_owned(), text.into())));
    // `a -> a`, read as `/a`, and a chain of symlinks that is too long.
    let own = vec![0, 0, 0, 0x04, 0, 0, 0];
    let chain = [vec![0, 0, 0], [4, 0, 31].into_iter().chain([0x55; 16]).collect()].concat();
    seeds.extend([("plan_walk", "loop".to_owned(), own), ("plan_walk", "up".to_owned(), chain)]);
    seeds
}

/// Returns lines that assign names to holders and look names up.
fn names() -> [(&'static str, &'static str); 5] {
    [
        ("exact", "0example.test\n1www.example.test\nexample.test\nWWW.Example.TEST.\nother.test\n"),
        (
            "wildcard",
            "0*.example.test\n1a.example.test\na.example.test\nb.example.test\na.b.example.test\nexample.test",
        ),
        ("taken", "0a.test\n1A.test.\n1*.a.test\n0*.A.test\n0b.a.test\nb.a.test"),
        ("refused", "0\n0.\n0*\n0*.\n0a..b\n0127.0.0.1\n0a b.test\n0*.*.test\n0f*.test\n0-.test"),
        ("odd", "0xn--nxasmq6b.test\n0_sip.test\n9a\n*.a\n.a\n9*.a\n*.a\n.a\nb.a"),
    ]
}

/// Returns files as operators make them.
fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let (chain, key, ca) = good();
    let label = |text: &str, from: &str, to: &str| text.replace(from, to).into_bytes();
    let parameters = SEC1.split_once("-----BEGIN EC PRIVATE KEY").map_or("", |(parameters, _)| parameters);
    let (leaf, issuer) = chain.split_at(chain.find("END CERTIFICATE-----").map_or(0, |at| at + 21));
    vec![
        ("chain", chain.clone().into()),
        ("leaf", leaf.into()),
        ("leaf-last", format!("{issuer}{leaf}").into()),
        ("twice", format!("{chain}{chain}").into()),
        ("ca", ca.clone().into()),
        ("bundle", format!("{ca}{}", Authority::seeded("another", 5).pem).into()),
        ("ed25519", key.clone().into()),
        ("p256", P256.into()),
        ("rsa", RSA.into()),
        ("sec1", SEC1.into()),
        ("combined", format!("{key}{chain}").into()),
        ("parameters", format!("{parameters}{key}").into()),
        ("another-pair", issue("another.test", &PrivateKey::from_pem(P256)).chain.into()),
        ("two-keys", format!("{key}{P256}").into()),
        ("encrypted", label(key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
        (
            "encrypted-of-old",
            label(
                SEC1,
                "BEGIN EC PRIVATE KEY-----\n",
                "BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n",
            ),
        ),
        ("trusted", label(chain, "CERTIFICATE", "TRUSTED CERTIFICATE")),
        ("crlf", label(chain, "\n", "\r\n")),
        ("mark", format!("\u{feff}{chain}").into()),
        ("mark-blank", format!("\u{feff}\u{c}{SEC1}").into()),
        ("mark-blank-within", format!("{leaf}\u{feff}\t{}", &issuer[..issuer.len() / 2]).into()),
        ("zeros", format!("{leaf}\n--{}", "\0".repeat(issuer.len() - 3)).into()),
        ("text", format!("subject=CN=example.test\n{chain}\ntrailing\n").into()),
        ("cut", chain[..chain.len() / 2].into()),
        ("cut-marker", format!("{chain}--").into()),
        ("no-begin", chain.as_bytes()[28..].to_vec()),
        ("other-end", label(chain, "END CERTIFICATE", "END X509 CRL")),
        ("bad-base64", label(chain, "MII", "M*I")),
        ("bad-label", b"-----BEGIN \xff\xfe-----\n-----END X-----\n".to_vec()),
        ("empty-block", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec()),
        ("bad-key-base64", label(key, "\nM", "\n*")),
        ("bad-padding", label(key, "\n-----END", "===\n-----END")),
        ("odd-base64", label(key, "\n-----END", "A\n-----END")),
        ("garbage", GARBAGE.replace("{}", "CERTIFICATE").into()),
        ("garbage-key", GARBAGE.replace("{}", "PRIVATE KEY").into()),
        ("garbage-behind", format!("{leaf}\n{}", GARBAGE.replace("{}", "CERTIFICATE")).into()),
        (
            "expired",
            issue_in("example.test", &PrivateKey::seeded(3), (1_000_000_000, 1_000_100_000)).chain.into(),
        ),
        (
            "early",
            issue_in("example.test", &PrivateKey::seeded(3), (2_400_000_000, 2_493_072_000)).chain.into(),
        ),
        ("nameless", armor::encode("CERTIFICATE", &[nameless(&PrivateKey::seeded(3))])),
        ("cut-behind", chain[..chain.len() * 3 / 4].into()),
        ("begin-twice", format!("-----BEGIN CERTIFICATE-----\n{chain}").into()),
        ("no-pem", b"nothing\n".to_vec()),
        ("der", vec![0x30, 0x03, 0x02, 0x01, 0x00]),
        ("public-key", label(key, "PRIVATE KEY", "PUBLIC KEY")),
        ("empty", Vec::new()),
    ]
}

/// Returns CRL files: usual, unusual and damaged ones.
fn lists() -> Vec<(String, Vec<u8>)> {
    let root = client_root();
    let clients: Vec<_> =
        (10..13).map(|seed| root.issue(&subject("client"), &PrivateKey::seeded(seed))).collect();
    let (one, three) =
        (list(&root, &[&clients[0]], 2), list(&root, &clients.iter().collect::<Vec<_>>(), 0xfedc_ba98));
    let other = list(&Authority::seeded("another", 5), &[], 1);
    let mut all = vec![
        ("none.pem", good_crl().into()),
        ("one.pem", one.pem.clone().into()),
        ("one.der", one.der.to_vec()),
        ("three.der", three.der.to_vec()),
        ("of-another.pem", other.pem.clone().into()),
        ("bundle.pem", format!("{}{}", three.pem, other.pem).into()),
        ("twice.pem", format!("{0}{0}", one.pem).into()),
        ("other-key.pem", list(&Authority::seeded("client root", 5), &[], 3).pem.into()),
        ("text.pem", format!("Certificate Revocation List (CRL):\n{}", one.pem).into()),
        ("crlf.pem", one.pem.replace('\n', "\r\n").into()),
        ("mark.pem", format!("\u{feff}{}", one.pem).into()),
        ("cut.pem", one.pem[..one.pem.len() / 2].into()),
        ("cut.der", one.der[..one.der.len() / 2].to_vec()),
        ("longer.der", [&one.der[..], &[0]].concat()),
        ("with-ca.pem", format!("{}{}", one.pem, root.pem).into()),
        ("certificate.der", root.der().to_vec()),
        ("nothing.pem", Vec::new()),
        ("bad-base64.pem", one.pem.replace("MI", "M*").into()),
        ("empty-block.pem", b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n".to_vec()),
    ];
    let named = |odd: &CrlVariant| (format!("{odd:?}.der"), root.odd_crl(&one, *odd).der.to_vec());
    all.drain(..)
        .map(|(name, list)| (name.to_owned(), list))
        .chain(CrlVariant::ALL.iter().map(named))
        .collect()
}

/// A block that holds three zeros.
const GARBAGE: &str = "-----BEGIN {}-----\nAAAA\n-----END {}-----\n";

/// Returns a certificate without subject and alternative names, valid from 1975 on.
fn nameless(key: &PrivateKey) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(1975, 1, 1), rcgen::date_time_ymd(2049, 1, 1));
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    self_signed(key, params)
}

/// A certificate that this key signs for itself, DER.
#[allow(clippy::expect_used)] // reason: fixed parameters
fn self_signed(key: &PrivateKey, params: rcgen::CertificateParams) -> Vec<u8> {
    let key = rcgen::KeyPair::from_pem(&key.pem()).expect("a key");
    params.self_signed(&key).expect("a certificate").der().to_vec()
}

/// Returns certificates whose fields are each parsed in another way.
#[allow(clippy::expect_used)] // reason: fixed parameters
fn certificates() -> Vec<(&'static str, Vec<u8>)> {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, SanType, string};
    let key = PrivateKey::seeded(6);
    let named = |name: DistinguishedName, sans: Vec<SanType>, from, to| {
        let mut params = CertificateParams::default();
        (params.distinguished_name, params.subject_alt_names) = (name, sans);
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(from, 1, 31), rcgen::date_time_ymd(to, 12, 31));
        self_signed(&key, params)
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name"));
    let mut rich = DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, DnValue::PrintableString("DE".try_into().expect("text"))),
        (
            DnType::OrganizationName,
            DnValue::TeletexString(string::TeletexString::try_from("A, B").expect("text")),
        ),
        (
            DnType::LocalityName,
            DnValue::BmpString(string::BmpString::try_from("\u{e9}\u{4e2d}").expect("text")),
        ),
        (
            DnType::OrganizationalUnitName,
            DnValue::UniversalString(string::UniversalString::try_from("\u{1f511}").expect("text")),
        ),
        (DnType::CommonName, DnValue::Utf8String("a\\b\u{202e}c".to_owned())),
        (DnType::CustomDnType(vec![2, 5, 4, 5]), DnValue::Utf8String("1".to_owned())),
    ] {
        rich.push(kind, value);
    }
    let addresses = [[192, 0, 2, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].map(SanType::IpAddress);
    let mail = SanType::Rfc822Name("a@b.test".try_into().expect("a name"));
    vec![
        ("leaf", issue("example.test", &key).leaf.to_vec()),
        ("root", Authority::seeded("root", 1).der().to_vec()),
        ("rich", named(rich.clone(), Vec::new(), 1975, 2049)),
        (
            "names",
            named(
                rich,
                [dns("*.a.test"), dns("b.test"), mail].into_iter().chain(addresses).collect(),
                2050,
                9999,
            ),
        ),
        ("nameless", named(DistinguishedName::new(), Vec::new(), 1950, 1969)),
        ("ancient", ancient(&[0x80, 0x01], b"\x17\x0d490101000000Z\x18\x0f20500101000060Z")),
        ("bad-month", ancient(&[0], b"\x17\x0d001301000000Z\x17\x0d010101000000Z")),
        ("bad-hour", ancient(&[1], b"\x17\x0d000101240000Z\x17\x0d010101000000Z")),
        ("bad-time", ancient(&[1], b"\x17\x0b0001010000Z\x17\x0d010101000000Z")),
        ("high-tag", ancient(&[1], b"\x1f\x0d000101000000Z\x17\x0d010101000000Z")),
        ("long-length", ancient(&[1], b"\x17\x840001010000Z\x17\x0d010101000000Z")),
        ("longer-length", ancient(&[1], b"\x17\x81\x0d000101000000Z\x17\x0d010101000000Z")),
    ]
}

/// Returns a certificate of version 1 with unique identifiers, up to the last field that is read.
fn ancient(serial: &[u8], validity: &[u8]) -> Vec<u8> {
    let pair = value(0x30, &[&[6, 3, 0x55, 4, 3], &value(0x0c, &[b"old"])]);
    let name = value(0x30, &[&value(0x31, &[&pair])]);
    let (integer, dates) = (value(2, &[serial]), value(0x30, &[validity]));
    let (empty, unique) = (value(0x30, &[]), value(0x81, &[&[0, 1]]));
    let tbs = value(0x30, &[&integer, &empty, &name, &dates, &name, &empty, &unique]);
    value(0x30, &[&tbs, &empty, &value(3, &[&[0]])])
}

/// Returns 64 pseudo-random bytes (xorshift) that depend only on the number.
fn random(number: u8) -> Vec<u8> {
    let mut state = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..64).map(|_| draw()).collect()
}
