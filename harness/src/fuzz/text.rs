//! PEM in each role, and the fields of certificates.

use rustls::{RootCertStore, pki_types::CertificateDer, server::ParsedCertificate};

use super::served::{self, Role};
use rustls_reload::{
    Error, Reload,
    internal::{der, pem},
};
use rustls_reload_testkit::armor::encode;

/// Checks PEM in every role: accepted certificates are equal after they are encoded and parsed
/// again.
pub fn pem_parse(data: &[u8]) {
    let chain = pem::chain(data);
    let bundle = pem::ca_bundle(data);
    if let Ok(chain) = &chain {
        whole(data);
        assert_eq!(pem::chain(&encode("CERTIFICATE", chain)).as_ref(), Ok(chain));
        bounded(chain, data);
    }
    // A bundle is a chain that allows fewer sections beside the certificates.
    if bundle.is_ok() {
        assert_eq!(chain, bundle);
    }
    one_key(data);
}

/// Checks a chain, alone and as the file of a server.
pub fn chain_parse(data: &[u8]) {
    let parsed = pem::chain(data);
    let answer = served::apply(Role::Chain, data);
    agrees(&answer, parsed.as_ref().err(), Role::Chain);
    let Ok(chain) = parsed else { return };
    whole(data);
    bounded(&chain, data);
    let encoded = encode("CERTIFICATE", &chain);
    assert_eq!(pem::chain(&encoded).as_ref(), Ok(&chain));
    let again = served::apply(Role::Chain, &encoded);
    let accepted = |answer: &Reload| !matches!(answer, Reload::Refused(_));
    assert_eq!(
        accepted(&answer),
        accepted(&again),
        "what lies beside the certificates decides: {answer:?}, {again:?}"
    );
    let parses = |one: &CertificateDer<'static>| ParsedCertificate::try_from(one).is_ok() || anchor(one);
    assert!(
        !accepted(&answer) || chain.iter().all(parses),
        "a certificate that rustls does not read is served"
    );
}

/// Checks a bundle of CAs, alone and as the file of a server. It has to be rejected if rustls
/// cannot parse one of its certificates. Otherwise it may be rejected only if none of them can
/// verify a client, with the reasons.
pub fn ca_bundle(data: &[u8]) {
    let parsed = pem::ca_bundle(data);
    let answer = served::apply(Role::ClientCa, data);
    agrees(&answer, parsed.as_ref().err(), Role::ClientCa);
    let Ok(bundle) = parsed else { return };
    whole(data);
    bounded(&bundle, data);
    assert_eq!(pem::ca_bundle(&encode("CERTIFICATE", &bundle)).as_ref(), Ok(&bundle));
    let each = bundle.iter().all(anchor);
    match answer {
        Reload::Refused(error) if each => {
            let first = format!(
                "no CA of the bundle can be used, so no client certificate would be accepted: CA 1 of {} (",
                bundle.len()
            );
            assert!(error.why().starts_with(&first), "rustls reads each certificate of it: {error}");
        }
        answer => assert_eq!(
            !matches!(answer, Reload::Refused(_)),
            each,
            "a bundle is served of which rustls does not read a certificate"
        ),
    }
}

/// Checks private keys, alone and as the file of a server.
pub fn key_parse(data: &[u8]) {
    one_key(data);
    agrees(&served::apply(Role::Key, data), pem::key(data).err().as_ref(), Role::Key);
}

fn anchor(certificate: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

/// Checks that an accepted file has as many `END` as `BEGIN` lines, and does not end within the
/// dashes of one. A truncated file has to be rejected, even if a crash filled it up with zeros.
pub(super) fn whole(data: &[u8]) {
    let lines = data.split(|byte| matches!(byte, b'\n' | b'\r')).map(String::from_utf8_lossy);
    let (mut begins, mut ends, mut last) = (0, 0, String::new());
    for line in lines {
        // Bytes that are not printed do not turn a marker into text.
        let line = line.trim_matches(|edge: char| !edge.is_ascii_graphic());
        begins += usize::from(line.starts_with("-----BEGIN "));
        ends += usize::from(line.starts_with("-----END "));
        line.clone_into(&mut last);
    }
    assert!(begins == ends && begins > 0, "{begins} sections begin and {ends} end");
    assert!(
        last.is_empty() || last.len() > 5 || last.chars().any(|char| char != '-'),
        "it ends with {last:?}"
    );
}

/// Checks that an accepted key is equal wherever in the file it is, and that a second key is an
/// error.
fn one_key(data: &[u8]) {
    let Ok(key) = pem::key(data) else { return };
    whole(data);
    let twice = [data, b"\n", data].concat();
    assert!(pem::key(&twice).is_err(), "one of two keys was picked");
    let spaced = [b"# a comment\n", data, b"\ntrailing text\n"].concat();
    let again = pem::key(&spaced).map(|key| key.clone_der().secret_der().to_vec());
    let text_before = !data.starts_with(b"\xef\xbb\xbf");
    assert!(!text_before || again.is_ok_and(|again| again == key.clone_der().secret_der()));
}

/// Checks that the fields of a certificate are bounded, and independent of bytes after its end.
pub fn der_fields(data: &[u8]) {
    let Some(fields) = der::fields(data) else { return };
    assert!(fields.serial.len() <= data.len() && fields.names.len() <= data.len());
    assert!(fields.names.iter().all(|name| !name.chars().any(char::is_control)));
    for name in [fields.subject, fields.issuer] {
        assert!(der::name(name).is_none_or(|name| !name.chars().any(char::is_control)));
    }
    assert_eq!(der::fields(&[data, &[0]].concat()), None, "bytes after the certificate were passed over");
    assert_eq!(der::serial_hex(fields.serial).trim_start_matches('-').len() % 2, 0);
}

/// Checks that parsed certificates are not larger than the file.
fn bounded(certificates: &[CertificateDer<'_>], data: &[u8]) {
    assert!(certificates.len() <= pem::SECTION_LIMIT);
    assert!(certificates.iter().map(|certificate| certificate.len()).sum::<usize>() <= data.len());
}

/// Checks that a server rejects a file that does not parse, for the same reason.
pub(super) fn agrees(answer: &Reload, error: Option<&Error>, role: Role) {
    if let Some(error) = error {
        assert_eq!(*answer, Reload::Refused(error.clone().at(role.path())));
    }
}
