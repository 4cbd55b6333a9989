//! Compares the accepted keys, chains and client CAs with those of OpenSSL, and the reader of
//! certificates with x509-parser.
//!
//! An input that is accepted here is accepted there, with the same certificates, public key and
//! names, except for a short list of forms. An input that is refused here and accepted there is
//! refused for a reason on another short list. Each reason is looked for in the input itself, not
//! in the message.
//!
//! The inputs are the committed seeds of the fuzz targets, the keys of `tests/load/vectors`, and
//! edits of both. `scripts/differential` adds public vectors and inputs that fuzzing found, by
//! these variables:
//!
//! - `DIFFERENTIAL_DIRS`: more directories with inputs, separated by colons.
//! - `DIFFERENTIAL_EDITS`: the number of edits.

mod inputs;
mod openssl;
mod reader;
mod reasons;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use rustls::{crypto::ring, pki_types::CertificateDer};
use rustls_reload::{
    Layer, Reload, Timestamp,
    internal::{der, pem},
};
use rustls_reload_harness::fuzz::{self, Role};

use inputs::Input;

const ROLES: [Role; 3] = [Role::Key, Role::Chain, Role::ClientCa];

/// The result of reading an input on either side.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Refused,
    /// The public key, as a SubjectPublicKeyInfo.
    Key(Vec<u8>),
    /// The certificates, in the order of the file.
    Certificates(Vec<Vec<u8>>),
}

/// The result of comparing one input in one role.
enum Outcome {
    Agree,
    /// The sides differ for a listed reason.
    Listed(&'static str),
    Unexplained(String),
}

/// Returns how a server reads a file, regardless of its other files.
fn ours(role: Role, text: &[u8]) -> Read {
    let accepted = match fuzz::apply(role, text) {
        Reload::Refused(error) => !matches!(
            (role, error.layer()),
            (_, Layer::Pem)
                | (Role::Chain, Layer::Chain)
                | (Role::Key, Layer::Key)
                | (Role::ClientCa, Layer::ClientCa)
        ),
        _ => true,
    };
    let owned = |found: Vec<CertificateDer<'_>>| found.iter().map(|one| one.to_vec()).collect();
    match role {
        _ if !accepted => Read::Refused,
        Role::Key => {
            let key = pem::key(text).unwrap().clone_der();
            // A key that is completed from its certificate is refused by the layer that compares
            // the two. The key alone has no public part.
            let key = ring::default_provider().key_provider.load_private_key(key);
            key.map_or(Read::Refused, |key| Read::Key(key.public_key().unwrap().to_vec()))
        }
        Role::Chain => Read::Certificates(owned(pem::chain(text).unwrap())),
        Role::ClientCa => Read::Certificates(owned(pem::ca_bundle(text).unwrap())),
        Role::Crl => unreachable!("not one of those compared"),
    }
}

fn compare(role: Role, input: &Input) -> Outcome {
    let (ours, theirs) = (ours(role, &input.text), openssl::read(role, &input.text));
    match (&ours, &theirs) {
        (ours, theirs) if ours == theirs => match ours {
            Read::Certificates(all) => all
                .iter()
                .find_map(|one| fields(one).err())
                .map_or(Outcome::Agree, |why| Outcome::Unexplained(format!("{}: {why}", input.name))),
            _ => Outcome::Agree,
        },
        (Read::Refused, theirs) => match reasons::to_refuse(role, &input.text, theirs) {
            Some(reason) => Outcome::Listed(reason),
            None => Outcome::Unexplained(format!("{} as {role:?} is refused here only", input.name)),
        },
        (ours, theirs) => match reasons::to_accept(role, &input.text, ours, theirs) {
            Some(reason) => Outcome::Listed(reason),
            None => {
                Outcome::Unexplained(format!("{} as {role:?}: here {ours:?}, there {theirs:?}", input.name))
            }
        },
    }
}

/// Compares the fields of a certificate with those that OpenSSL prints.
fn fields(certificate: &[u8]) -> Result<(), String> {
    let Some(fields) = der::fields(certificate) else { return Ok(()) };
    let printed = openssl::print(certificate);
    let date = |date| Timestamp(date).to_string().replace('T', " ");
    let reported = [
        ("serial", der::serial_hex(fields.serial)),
        ("notBefore", date(fields.not_before)),
        ("notAfter", date(fields.not_after)),
    ];
    for (name, reported) in reported {
        let theirs = printed.get(name).ok_or_else(|| format!("{name} is reported and not printed"))?;
        // Dates before 1970 are read as 1970, as documented.
        let before = name.starts_with("not") && theirs.as_str() < "1970";
        if reported != *theirs && !before {
            return Err(format!("{name}: reported {reported}, printed {theirs}"));
        }
    }
    if let Some(names) = printed.get("names") {
        let reported = fields.names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
        let reported = reported.join(" ");
        if reported.contains(char::is_control) || printable(&reported) != printable(names) {
            return Err(format!("names: reported {reported:?}, printed {names:?}"));
        }
    }
    Ok(())
}

/// Replaces unprintable characters by one mark. The readers may differ in their number, and in the
/// control characters that they print.
fn printable(name: &str) -> String {
    let mut text: Vec<char> =
        name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    text.dedup_by(|a, b| a == b && *a == char::REPLACEMENT_CHARACTER);
    text.into_iter().collect()
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Engine: generated.
#[test]
fn inv02_openssl_accepts_all_accepted_and_differences_are_listed() {
    if !openssl::is_there() {
        return say("no openssl on this machine: nothing to compare with");
    }
    let inputs = inputs::texts();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut listed, mut unexplained, mut agreed) = (BTreeMap::new(), Vec::new(), 0);
        while let Some(input) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
            for role in ROLES {
                match compare(role, input) {
                    Outcome::Agree => agreed += 1,
                    Outcome::Listed(reason) => *listed.entry(reason).or_insert(0) += 1,
                    Outcome::Unexplained(why) => unexplained.push(why),
                }
            }
        }
        (agreed, listed, unexplained)
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (mut agreed, mut listed, mut unexplained) = (0, BTreeMap::<_, usize>::new(), Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (more, reasons, why) = worker.join().unwrap();
            agreed += more;
            unexplained.extend(why);
            for (reason, count) in reasons {
                *listed.entry(reason).or_default() += count;
            }
        }
    });
    say(&format!("differential: {} inputs in 3 roles, {agreed} agreements", inputs.len()));
    for (reason, count) in &listed {
        say(&format!("differential: {count} disagreements: {reason}"));
    }
    assert!(unexplained.is_empty(), "{} unexplained: {unexplained:#?}", unexplained.len());
    assert!(agreed > 2 * inputs.len(), "they hardly ever agree");
}
