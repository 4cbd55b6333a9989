//! The `openssl` command as an oracle: the content that it reads from a file, and the fields that
//! it prints of a certificate.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use rustls_reload::internal::pem;
use rustls_reload_harness::fuzz::Role;

use super::Read;

/// Returns the output of a command with this input; `None` if it fails.
fn run(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The command may end before it has read its whole input.
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    })
}

pub(crate) fn is_there() -> bool {
    run(&["version"], b"").is_some()
}

pub(crate) fn read(role: Role, text: &[u8]) -> Read {
    match role {
        Role::Key => run(&["pkey", "-passin", "pass:", "-pubout", "-outform", "DER"], text)
            .map_or(Read::Refused, Read::Key),
        // Servers and clients of OpenSSL read every certificate in a file of chains or CAs.
        _ => {
            let found = run(&["crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER"], text)
                .and_then(|bag| run(&["pkcs7", "-inform", "DER", "-print_certs"], &bag))
                .and_then(|printed| pem::chain(&printed).ok());
            found
                .map_or(Read::Refused, |all| Read::Certificates(all.iter().map(|one| one.to_vec()).collect()))
        }
    }
}

/// Returns serial number, dates and names of a certificate as printed; the names in lower case and
/// in one line.
pub(crate) fn print(certificate: &[u8]) -> BTreeMap<&'static str, String> {
    let args = "x509 -inform DER -noout -serial -dates -dateopt iso_8601 -ext subjectAltName";
    let args: Vec<_> = args.split(' ').collect();
    let printed = run(&args, certificate).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let mut found = BTreeMap::new();
    for name in ["serial", "notBefore", "notAfter"] {
        let value = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.extend(value.map(|value| (name, value.to_owned())));
    }
    let names = printed.split_once("Subject Alternative Name").and_then(|(_, rest)| rest.lines().nth(1));
    // Only lists of DNS names are compared, because the format of other names is ambiguous.
    let plain = |names: &&str| names.split(", ").all(|name| name.trim().starts_with("DNS:"));
    if let Some(names) = names.filter(plain) {
        let names = names.split(", ").filter_map(|name| name.trim().strip_prefix("DNS:"));
        found.insert("names", names.map(str::to_lowercase).collect::<Vec<_>>().join(" "));
    }
    found
}

/// Returns whether the numbers of a private key are consistent.
pub(crate) fn is_consistent(text: &[u8]) -> bool {
    run(&["pkey", "-passin", "pass:", "-check", "-noout"], text).is_some()
}

/// Returns a private key as OpenSSL writes it, in DER.
pub(crate) fn written(text: &[u8], traditional: bool) -> Option<Vec<u8>> {
    let form: &[&str] = if traditional { &["-traditional"] } else { &[] };
    run(&[&["pkey", "-passin", "pass:", "-outform", "DER"], form].concat(), text)
}

/// Returns whether OpenSSL accepts a certificate as a CA for client certificates.
pub(crate) fn issues_clients(certificate: &[u8]) -> bool {
    let printed = run(&["x509", "-inform", "DER", "-noout", "-purpose"], certificate).unwrap_or_default();
    String::from_utf8_lossy(&printed).contains("SSL client CA : Yes")
}

/// Returns whether OpenSSL reads a certificate to its end.
pub(crate) fn reads(certificate: &[u8]) -> bool {
    run(&["x509", "-inform", "DER", "-noout"], certificate).is_some()
}
