//! Compares the reader of certificates with x509-parser in this process: thousands of edits a
//! second.

use std::collections::BTreeMap;

use rustls::{RootCertStore, pki_types::CertificateDer, server::ParsedCertificate};
use rustls_reload::internal::der;
use x509_parser::{
    error::X509Error,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

use super::{
    inputs::{self, Dice},
    openssl, say,
};

/// The fields that both readers return.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reported {
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    not_before: u64,
    not_after: u64,
    /// The DNS names and addresses.
    names: Vec<String>,
    ca: bool,
    public_key: Vec<u8>,
    signed: Vec<u8>,
}

fn ours(certificate: &[u8]) -> Option<Reported> {
    let fields = der::fields(certificate)?;
    // Without alternative names our reader returns the common name.
    let names = if fields.alternative.is_some() { fields.names } else { Vec::new() };
    Some(Reported {
        serial: fields.serial.to_vec(),
        issuer: fields.issuer.to_vec(),
        subject: fields.subject.to_vec(),
        not_before: fields.not_before.as_secs(),
        not_after: fields.not_after.as_secs(),
        names,
        ca: fields.ca,
        public_key: fields.public_key.to_vec(),
        signed: fields.signed.to_vec(),
    })
}

/// Returns the fields by x509-parser, and whether it skipped an extension as malformed.
fn theirs(certificate: &[u8]) -> Result<(Reported, bool), X509Error> {
    let (rest, found) = X509Certificate::from_der(certificate).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        x509_parser::nom::Err::Incomplete(_) => X509Error::Generic,
    })?;
    if !rest.is_empty() {
        return Err(X509Error::InvalidCertificate);
    }
    let content = |name: &[u8]| der_content(name).to_vec();
    let seconds = |at: x509_parser::time::ASN1Time| u64::try_from(at.timestamp()).unwrap_or(0);
    let mut reported = Reported {
        serial: found.raw_serial().to_vec(),
        issuer: content(found.issuer().as_raw()),
        subject: content(found.subject().as_raw()),
        not_before: seconds(found.validity().not_before),
        not_after: seconds(found.validity().not_after),
        names: Vec::new(),
        ca: false,
        public_key: content(found.public_key().raw),
        signed: found.tbs_certificate.as_ref().to_vec(),
    };
    let mut passed_over = false;
    for extension in found.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(all) => {
                reported.names = all.general_names.iter().filter_map(name).collect();
            }
            ParsedExtension::BasicConstraints(basic) => reported.ca = basic.ca,
            ParsedExtension::ParseError { .. } => passed_over = true,
            _ => {}
        }
    }
    Ok((reported, passed_over))
}

/// Returns the content of a DER value.
fn der_content(der: &[u8]) -> &[u8] {
    let head = if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) };
    &der[head..]
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(address) => match <[u8; 4]>::try_from(*address) {
            Ok(four) => Some(std::net::IpAddr::from(four).to_string()),
            Err(_) => <[u8; 16]>::try_from(*address).ok().map(|six| std::net::IpAddr::from(six).to_string()),
        },
        _ => None,
    }
}

/// Returns why x509-parser refuses a certificate that our reader reads: it checks fields that our
/// reader leaves to rustls.
fn to_read(certificate: &[u8], error: &X509Error) -> Option<&'static str> {
    match error {
        X509Error::InvalidDate if certificate.windows(3).any(|window| window == b"60Z") => {
            Some("read here: a date with a leap second")
        }
        X509Error::InvalidAlgorithmIdentifier | X509Error::InvalidSignatureValue | X509Error::InvalidSPKI => {
            Some("read here: the algorithm, the key or the signature is malformed")
        }
        X509Error::InvalidExtensions | X509Error::DuplicateExtensions => {
            Some("read here: an extension is malformed, or there twice")
        }
        X509Error::InvalidIssuerUID | X509Error::InvalidSubjectUID => {
            Some("read here: a unique identifier is malformed")
        }
        X509Error::InvalidVersion => Some("read here: of a version that there is not"),
        X509Error::InvalidX509Name => Some("read here: a name that is reported nowhere"),
        X509Error::Der(_) | X509Error::NomError(_) | X509Error::Generic => {
            Some("read here: malformed behind what is reported")
        }
        _ => None,
    }
}

/// Returns why both read a certificate with different fields.
fn to_differ(ours: &Reported, theirs: &Reported) -> Option<&'static str> {
    let cut = |ours: &[u8], theirs: &[u8]| ours != theirs && ours.starts_with(theirs);
    if cut(&ours.issuer, &theirs.issuer) || cut(&ours.subject, &theirs.subject) {
        return Some("read otherwise: a malformed name, of which x509-parser keeps the part before that");
    }
    let only_ca = Reported { ca: ours.ca, names: ours.names.clone(), ..theirs.clone() } == *ours;
    (only_ca && !ours.ca && theirs.ca)
        .then_some("read otherwise: an authority by a boolean that is neither (X.690 11.1)")
}

/// Returns whether rustls accepts the certificate as a leaf or as an anchor.
fn rustls_reads(certificate: &[u8]) -> bool {
    let certificate = CertificateDer::from(certificate);
    ParsedCertificate::try_from(&certificate).is_ok() || RootCertStore::empty().add(certificate).is_ok()
}

/// Returns one of the certificates with some bytes changed.
fn edited(number: usize, all: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Dice::new(number as u64);
    let mut certificate = all[dice.below(all.len())].clone();
    for _ in 0..=dice.below(3) {
        let at = dice.below(certificate.len());
        match dice.below(8) {
            0 => drop(certificate.remove(at)),
            1 => certificate.insert(at, dice.below(256) as u8),
            2..4 => certificate[at] ^= 1 << dice.below(8),
            _ => certificate[at] = dice.below(256) as u8,
        }
        if certificate.is_empty() {
            break;
        }
    }
    certificate
}

/// The result of comparing one certificate.
enum Outcome {
    Both,
    Neither,
    /// Both differ for a listed reason.
    Listed(&'static str),
    Unexplained(String),
}

fn compare(certificate: &[u8]) -> Outcome {
    let reason = match (ours(certificate), theirs(certificate)) {
        (None, Err(_)) => return Outcome::Neither,
        (Some(mut ours), Ok((mut theirs, passed_over))) => {
            // Our reader replaces names that would break out of a line, and x509-parser omits names
            // that are not ASCII.
            let plain = |name: &String| name.len() < 256 && name.bytes().all(|byte| byte.is_ascii_graphic());
            ours.names.retain(plain);
            theirs.names.retain(plain);
            // Our reader returns the common name where no alternative name is of a returned kind.
            if theirs.names.is_empty() {
                ours.names.clear();
            }
            // x509-parser omits bytes after the bits of a public key.
            if ours.public_key.starts_with(&theirs.public_key) {
                ours.public_key.clone_from(&theirs.public_key);
            }
            if ours == theirs {
                return Outcome::Both;
            }
            let passed_over =
                passed_over.then_some("read otherwise: an extension is malformed, and passed over there");
            to_differ(&ours, &theirs)
                .or(passed_over)
                .ok_or_else(|| format!("here {ours:?}, there {theirs:?}"))
        }
        (Some(_), Err(error)) => {
            to_read(certificate, &error).ok_or_else(|| format!("read here only: {error:?}"))
        }
        (None, Ok((_, true))) => Ok("read there: an extension is malformed, and passed over there"),
        (None, Ok((theirs, _))) if theirs.serial.is_empty() => Ok("read there: no serial"),
        // For example, x509-parser ignores the class of a tag.
        (None, Ok(_)) if !rustls_reads(certificate) => Ok("read there: rustls refuses it as well"),
        (None, Ok(_)) if !openssl::reads(certificate) => Ok("read there: OpenSSL refuses it as well"),
        (None, Ok((theirs, _))) => Err(format!("read there only {theirs:?}")),
    };
    match reason {
        Ok(reason) => Outcome::Listed(reason),
        Err(why) => {
            let hex: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
            Outcome::Unexplained(format!("{why} {hex}"))
        }
    }
}

/// Engine: generated.
#[test]
fn inv11_reader_agrees_with_another_parser_but_for_listed_reasons() {
    if !openssl::is_there() {
        return say("no openssl on this machine: nobody to ask where the two differ");
    }
    let all = inputs::certificates();
    let edits = inputs::edits() * 200;
    let (mut both, mut neither) = (0, 0);
    let (mut listed, mut unexplained) = (BTreeMap::<_, usize>::new(), Vec::new());
    for certificate in all.iter().cloned().chain((0..edits).map(|number| edited(number, &all))) {
        match compare(&certificate) {
            Outcome::Both => both += 1,
            Outcome::Neither => neither += 1,
            Outcome::Listed(reason) => *listed.entry(reason).or_default() += 1,
            Outcome::Unexplained(why) => unexplained.push(why),
        }
    }
    let count = all.len();
    say(&format!(
        "reader: {count} certificates, {edits} edits: {both} read alike by both, {neither} by neither"
    ));
    for (reason, count) in &listed {
        say(&format!("reader: {count} disagreements: {reason}"));
    }
    let first = &unexplained[..unexplained.len().min(12)];
    assert!(unexplained.is_empty(), "{} unexplained: {first:#?}", unexplained.len());
    assert!(both > edits / 100 && neither > edits / 100, "they hardly ever agree: {both}, {neither}");
}
