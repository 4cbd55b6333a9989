//! One client CA for each row of the manual's table, with a client that it issued.

use std::{fs, path::Path};

use rustls::pki_types::CertificateDer;
use rustls_reload_testkit::Pair;

use super::x509::{
    ALTERNATIVE, CONSTRAINTS, Certificate, Extension, FUTURE, KEY_USAGE, NETSCAPE_TYPE, NOW, PAST, Signer,
    basic, bits, der, digest, extension, key_cert_sign, made, pem, purposes, rsa_for,
};

pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const ANY_PURPOSE: &[u8] = &[0x55, 29, 37, 0];
/// Tags of names (RFC 5280 section 4.2.1.6).
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const DIRECTORY: u8 = 0xa4;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
const OTHER: u8 = 0xa0;
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// PEM of the CA's certificate.
    pub(crate) ca: String,
    pub(crate) client: Pair,
    /// PEM of the certificates between both.
    pub(crate) between: String,
}

fn client(chain: &[u8], key: String) -> Pair {
    Pair { chain: pem(chain), key, leaf: CertificateDer::from(chain.to_vec()) }
}

/// Makes a client's certificate with these names beside the usual ones.
pub(crate) fn issued(ca: &Signer, issuer: &str, names: &[u8]) -> Pair {
    let (own, key) = Signer::new();
    let public = own.public();
    let certificate = |serial| leaf(issuer, names, &public, serial).signed_by(ca);
    client(&certificate(7), key)
}

fn leaf<'a>(issuer: &'a str, names: &[u8], key: &'a [u8], serial: u8) -> Issued<'a> {
    let mut extensions = vec![basic(false, None), purposes(&[CLIENT_AUTH])];
    if !names.is_empty() {
        extensions.push(extension(ALTERNATIVE, der(0x30, &[names])));
    }
    Issued { issuer, key, serial, extensions }
}

struct Issued<'a> {
    issuer: &'a str,
    key: &'a [u8],
    serial: u8,
    extensions: Vec<Extension>,
}

impl Issued<'_> {
    fn signed_by(&self, signer: &Signer) -> Vec<u8> {
        Certificate {
            version_3: true,
            serial: self.serial,
            issuer: self.issuer,
            subject: "client",
            dates: NOW,
            key: self.key,
            extensions: &self.extensions,
        }
        .signed_by(signer)
    }
}

/// Makes a CA with this name, this key and these extensions.
pub(crate) fn authority(name: &str, signer: &Signer, key: &[u8], extensions: &[Extension]) -> String {
    let certificate =
        Certificate { version_3: true, serial: 1, issuer: name, subject: name, dates: NOW, key, extensions };
    pem(&certificate.signed_by(signer))
}

fn usage(name: &'static str, extensions: &[Extension]) -> Row {
    constrained(name, extensions, &[])
}

fn constrained(name: &'static str, extensions: &[Extension], names: &[u8]) -> Row {
    let (signer, _) = Signer::new();
    Row {
        name,
        ca: authority(name, &signer, &signer.public(), extensions),
        client: issued(&signer, name, names),
        between: String::new(),
    }
}

fn version_1(name: &'static str, issuer: &str) -> Row {
    let (signer, _) = Signer::new();
    let key = signer.public();
    let ca = Certificate {
        version_3: false,
        serial: 1,
        issuer,
        subject: name,
        dates: NOW,
        key: &key,
        extensions: &[],
    };
    Row { name, ca: pem(&ca.signed_by(&signer)), client: issued(&signer, name, &[]), between: String::new() }
}

fn dated(name: &'static str, dates: [&str; 2]) -> Row {
    let (signer, _) = Signer::new();
    let (key, extensions) = (signer.public(), [basic(true, None)]);
    let ca = Certificate {
        version_3: true,
        serial: 1,
        issuer: name,
        subject: name,
        dates,
        key: &key,
        extensions: &extensions,
    };
    Row { name, ca: pem(&ca.signed_by(&signer)), client: issued(&signer, name, &[]), between: String::new() }
}

/// Makes a CA that may not issue a CA, a CA that it issued anyway, and a client of the latter.
fn too_long(name: &'static str) -> Row {
    let ((signer, _), (lower, _)) = (Signer::new(), Signer::new());
    let (key, extensions) = (lower.public(), [basic(true, None), key_cert_sign()]);
    let between = Certificate {
        version_3: true,
        serial: 2,
        issuer: name,
        subject: "lower",
        dates: NOW,
        key: &key,
        extensions: &extensions,
    };
    let between = pem(&between.signed_by(&signer));
    let mut client = issued(&lower, "lower", &[]);
    client.chain += &between;
    let ca = authority(name, &signer, &signer.public(), &[basic(true, Some(0)), key_cert_sign()]);
    Row { name, ca, client, between }
}

/// Makes a client's self-signed certificate, which the bundle contains.
fn own(name: &'static str, ca: bool) -> Row {
    let (signer, key) = Signer::new();
    let (public, extensions) = (signer.public(), [basic(ca, None), purposes(&[CLIENT_AUTH])]);
    let certificate = Certificate {
        version_3: true,
        serial: 1,
        issuer: name,
        subject: name,
        dates: NOW,
        key: &public,
        extensions: &extensions,
    };
    let certificate = certificate.signed_by(&signer);
    Row { name, ca: pem(&certificate), client: client(&certificate, key), between: String::new() }
}

fn reshaped(name: &'static str, form: u8) -> Row {
    let (signer, _) = Signer::new();
    Row {
        name,
        ca: authority(name, &signer, &signer.reshaped(form), &[basic(true, None)]),
        client: issued(&signer, name, &[]),
        between: String::new(),
    }
}

fn rsa(name: &'static str, bits: usize, exponent: &[u8]) -> Row {
    let (own, key) = Signer::new();
    let public = own.public();
    let found = (1..=127).find_map(|serial| {
        let issued = leaf(name, &[], &public, serial);
        let unsigned = issued.signed_by(&Signer::Rsa(vec![0]));
        // The signed part is the first value of the certificate.
        let tbs = within(&unsigned);
        let (ca, signature) = rsa_for(&digest(tbs), bits, exponent)?;
        Some((ca, issued.signed_by(&Signer::Rsa(signature))))
    });
    let (public, leaf) = found.unwrap();
    // The signature of an anchor is not verified.
    let ca = authority(name, &Signer::Rsa(vec![0; 256]), &public, &[basic(true, None)]);
    Row { name, ca, client: client(&leaf, key), between: String::new() }
}

/// Returns the first value in a SEQUENCE, with its tag and length.
fn within(sequence: &[u8]) -> &[u8] {
    // Lengths of 128 and more begin with the number of their bytes.
    let header = |value: &[u8]| 2 + usize::from(value[1].saturating_sub(0x80));
    let first = &sequence[header(sequence)..];
    let length = match header(first) {
        2 => usize::from(first[1]),
        bytes => first[2..bytes].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    &first[..header(first) + length]
}

/// Makes a row that only the `openssl` command can make; `key` are the arguments of genpkey.
fn by_command(dir: &Path, name: &'static str, key: &str, digest: &str) -> Row {
    let dir = dir.join(name.replace(' ', "-"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ext"), "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
    let (_, own) = Signer::new();
    fs::write(dir.join("key"), &own).unwrap();
    made(&dir, &format!("genpkey {key} -out ca.key"));
    made(
        &dir,
        &format!(
            "req -x509 -new -key ca.key -subj /CN={} -days 9 {digest} -out ca.crt",
            name.replace(' ', "_")
        ),
    );
    made(&dir, "req -new -key key -subj /CN=client -out csr");
    made(
        &dir,
        &format!(
            "x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial 7 -days 9 -extfile ext {digest} -out crt"
        ),
    );
    let chain = fs::read_to_string(dir.join("crt")).unwrap();
    let leaf = rustls_reload::internal::pem::chain(chain.as_bytes()).unwrap().remove(0);
    Row {
        name,
        ca: fs::read_to_string(dir.join("ca.crt")).unwrap(),
        client: Pair { chain, key: own, leaf },
        between: String::new(),
    }
}

/// Makes name constraints with subtrees of this tag and one base. The bytes after the base have no
/// meaning.
fn subtree(subtrees: u8, base: &[u8], behind: &[u8]) -> [Extension; 2] {
    let subtrees = der(subtrees, &[&der(0x30, &[base, behind])]);
    [basic(true, None), (CONSTRAINTS, true, der(0x30, &[&subtrees]))]
}

/// Makes constraints on e-mail addresses, which rustls cannot apply.
pub(crate) fn mail_permitted() -> [Extension; 2] {
    subtree(PERMITTED, &der(EMAIL, &[b"example.com"]), &[])
}

pub(crate) fn rows(dir: &Path) -> Vec<Row> {
    let ca = || basic(true, None);
    let text = |tag, text: &str| der(tag, &[text.as_bytes()]);
    let dns = subtree(PERMITTED, &text(DNS, "example.com"), &[]);
    let wildcard = subtree(EXCLUDED, &text(DNS, "*.example.net"), &[]);
    let (mail, mail_excluded) = (mail_permitted(), subtree(EXCLUDED, &text(EMAIL, "example.net"), &[]));
    let uri = subtree(PERMITTED, &text(URI, ".example.com"), &[]);
    let uri_excluded = subtree(EXCLUDED, &text(URI, ".example.net"), &[]);
    let other_name = der(OTHER, &[&der(6, &[&[0x2a, 3, 4]]), &der(0xa0, &[&der(0x0c, &[b"x"])])]);
    let directory = der(DIRECTORY, &[&super::x509::name("client")]);
    let elsewhere = der(DIRECTORY, &[&super::x509::name("elsewhere")]);
    let address = der(IP, &[&[10, 0, 0, 1]]);
    let network = der(IP, &[&[10, 0, 0, 0, 255, 0, 0, 0]]);
    let holes = der(IP, &[&[10, 0, 0, 0, 255, 0, 255, 0]]);
    let minimum = der(0x80, &[&[1]]);
    let curve = |curve: &str| format!("-algorithm EC -pkeyopt ec_paramgen_curve:{curve}");
    vec![
        version_1("version 1, self-issued", "version 1, self-issued"),
        version_1("version 1, issued by another CA", "another"),
        usage("CA:TRUE", &[ca()]),
        usage("CA:TRUE, keyCertSign", &[ca(), key_cert_sign()]),
        usage("CA:TRUE, key usage without keyCertSign", &[ca(), bits(KEY_USAGE, 7, 0x80)]),
        usage("CA:TRUE, cRLSign alone", &[ca(), bits(KEY_USAGE, 1, 0x02)]),
        usage("CA:FALSE", &[basic(false, None)]),
        usage("CA:FALSE, keyCertSign", &[basic(false, None), key_cert_sign()]),
        own("CA:FALSE, the client's own certificate", false),
        own("CA:TRUE, the client's own certificate", true),
        usage("no basicConstraints, no key usage", &[purposes(&[CLIENT_AUTH])]),
        usage("no basicConstraints, key usage without keyCertSign", &[bits(KEY_USAGE, 7, 0x80)]),
        usage("no basicConstraints, keyCertSign", &[key_cert_sign()]),
        usage("no basicConstraints, Netscape type SSL CA", &[bits(NETSCAPE_TYPE, 2, 0x04)]),
        usage("extended key usage serverAuth", &[ca(), purposes(&[SERVER_AUTH])]),
        usage("extended key usage serverAuth and clientAuth", &[ca(), purposes(&[SERVER_AUTH, CLIENT_AUTH])]),
        usage("extended key usage any", &[ca(), purposes(&[ANY_PURPOSE])]),
        usage("pathLen 0, client below", &[basic(true, Some(0)), key_cert_sign()]),
        too_long("pathLen 0, another CA between"),
        usage("unknown critical extension", &[ca(), (&[0x2a, 3, 4], true, der(5, &[]))]),
        dated("expired", PAST),
        dated("not valid yet", FUTURE),
        constrained("DNS permitted, client inside", &dns, &text(DNS, "a.example.com")),
        constrained("DNS permitted, client outside", &dns, &text(DNS, "a.example.net")),
        constrained("DNS excluded by a wildcard, client elsewhere", &wildcard, &text(DNS, "a.example.com")),
        constrained(
            "DNS permitted, an address as the name",
            &subtree(PERMITTED, &text(DNS, "10.0.0.1"), &[]),
            &text(DNS, "a.example.com"),
        ),
        constrained("IP permitted, client inside", &subtree(PERMITTED, &network, &[]), &address),
        constrained("IP by a mask with holes, client with an IP", &subtree(PERMITTED, &holes, &[]), &address),
        constrained("IP by a mask with holes, client without an IP", &subtree(PERMITTED, &holes, &[]), &[]),
        constrained("e-mail permitted, client inside", &mail, &text(EMAIL, "a@example.com")),
        constrained("e-mail permitted, client without an e-mail", &mail, &text(DNS, "a.example.com")),
        constrained("e-mail excluded, client elsewhere", &mail_excluded, &text(EMAIL, "a@example.com")),
        constrained("URI permitted, client inside", &uri, &text(URI, "spiffe://a.example.com/x")),
        constrained("URI permitted, client without a URI", &uri, &[]),
        constrained("URI excluded, client elsewhere", &uri_excluded, &text(URI, "spiffe://a.example.com/x")),
        constrained(
            "other name permitted, client with one",
            &subtree(PERMITTED, &other_name, &[]),
            &other_name,
        ),
        constrained("other name permitted, client without one", &subtree(PERMITTED, &other_name, &[]), &[]),
        constrained("directory name permitted, client inside", &subtree(PERMITTED, &directory, &[]), &[]),
        constrained("directory name excluded, client elsewhere", &subtree(EXCLUDED, &elsewhere, &[]), &[]),
        constrained(
            "DNS permitted with a minimum",
            &subtree(PERMITTED, &text(DNS, "example.com"), &minimum),
            &[],
        ),
        rsa("RSA of 2039 bits", 2039, &[3]),
        rsa("RSA of 2048 bits", 2048, &[3]),
        rsa("RSA of 2048 bits, exponent with a superfluous zero", 2048, &[0, 3]),
        rsa("RSA of 8192 bits", 8192, &[3]),
        rsa("RSA of 8195 bits", 8195, &[3]),
        reshaped("P-256, compressed point", 2),
        reshaped("P-256, hybrid point", 6),
        reshaped("P-256, point beside the curve", 4),
        by_command(dir, "P-384", &curve("P-384"), ""),
        by_command(dir, "P-521", &curve("P-521"), ""),
        by_command(dir, "secp256k1", &curve("secp256k1"), ""),
        by_command(
            dir,
            "P-256 given by its parameters",
            &(curve("P-256") + " -pkeyopt ec_param_enc:explicit"),
            "",
        ),
        by_command(dir, "RSA-PSS key", "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", ""),
        by_command(dir, "Ed25519", "-algorithm ED25519", ""),
        by_command(dir, "Ed448", "-algorithm ED448", ""),
    ]
}
