//! `check`: reports what a server of these files would load and watch, stage by stage.

mod json;

use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use rustls_reload::{
    Inspection, Timestamp,
    internal::{
        Entry, Lookup, Step, covered_certificates, crl,
        der::{self, Fields},
        inspected_walk, one_line,
    },
};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{Failure, files::Files, limits, server::ALPN};

/// Exit code of a check that passes with warnings.
const WARNED: u8 = 3;

/// Arguments of `check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Warn if a leaf or a CRL expires within this number of days
    ///
    /// ACME clients renew a certificate of 90 days when 30 are left. At 14, renewals have probably
    /// been failing for two weeks.
    #[arg(long, value_name = "DAYS", default_value = "14")]
    warn_days: u32,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &Args) -> Result<ExitCode, Failure> {
    limits::raise();
    let soon = Duration::from_secs(u64::from(args.warn_days) * 86_400);
    let inspection = args.files.builder().alpn(ALPN).inspect(soon);
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", json::of(&inspection))?;
    } else {
        Report(&mut out).all(&inspection)?;
    }
    out.flush()?;
    match inspection.refused {
        Some(error) => Err(error.into()),
        None if inspection.warnings.is_empty() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(WARNED)),
    }
}

/// Path lookup of one file.
struct Way<'a> {
    path: &'a Path,
    links: Vec<(&'a Path, &'a Path)>,
    /// Path of the last name that was looked up.
    end: Option<&'a Path>,
    /// Kind of the file there; `None` where the lookup stops before the file.
    kind: Option<&'static str>,
}

fn ways<'i>(inspection: &'i Inspection) -> Vec<Way<'i>> {
    let walk = inspected_walk(inspection);
    let way = |(path, trace): (&'i PathBuf, &'i Vec<Step>)| {
        let link = |step: &Step| match &walk.entries[step.entry] {
            Entry { path, seen: Lookup::Link(_, target), .. } => Some((path.as_path(), target.as_path())),
            _ => None,
        };
        let last = trace.last().map(|step| (step, &walk.entries[step.entry]));
        let kind = last.and_then(|(step, end)| {
            let is_listed = walk.dirs.iter().any(|dir| dir.listed.is_some() && dir.path == end.path);
            match &end.seen {
                Lookup::Node(_) if is_listed => Some("a directory: each file in it is loaded"),
                // `as_directory` says that more names were to follow: the lookup stopped there.
                Lookup::Node(stat) if !step.as_directory => Some(stat.kind.name()),
                _ => None,
            }
        });
        let links = trace.iter().filter_map(link).collect();
        Way { path, links, end: last.map(|(_, end)| end.path.as_path()), kind }
    };
    inspection.paths.iter().zip(&walk.traces).map(way).collect()
}

/// Returns a distinguished name as text, or `-`.
fn name(der: &[u8]) -> String {
    der::name(der).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Returns the role of the certificate at a place of the chain or of the client CAs.
fn role(label: &str, place: usize, fields: &Fields<'_>) -> &'static str {
    match (label, place) {
        ("chain", 0) if fields.ca => "leaf, although a CA certificate",
        ("chain", 0) => "leaf",
        _ if fields.issuer == fields.subject => "root",
        _ if fields.ca => "intermediate",
        _ => "no CA certificate",
    }
}

struct Report<W>(W);

impl<W: Write> Report<W> {
    fn all(&mut self, inspection: &Inspection) -> io::Result<()> {
        self.ways(inspection)?;
        for sizes in &inspection.sizes {
            let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
            self.line("snapshot", format_args!("{} bytes, read in one snapshot", sizes.join(", ")))?;
        }
        self.certificates("chain", &inspection.chain)?;
        if let Some(kind) = inspection.key {
            self.line("key", kind)?;
        }
        match inspection.matched {
            Some(true) => self.line("match", "the key belongs to the first certificate")?,
            Some(false) => self.line("match", "left to the rehearsal: the provider cannot compare them")?,
            None => {}
        }
        self.certificates("client-ca", &inspection.client_cas)?;
        self.crls(inspection)?;
        for version in &inspection.rehearsed {
            self.line("rehearsal", format_args!("{version} handshake passes"))?;
        }
        for dir in &inspection.watched {
            self.line("watch", dir.display())?;
        }
        for dir in &inspection.unwatched {
            let why = "may be searched but not read: the next poll finds changes of a path through it";
            self.line("unwatched", format_args!("{}, {why}", dir.display()))?;
        }
        for warning in &inspection.warnings {
            self.line("warning", warning)?;
        }
        Ok(())
    }

    /// Prints each link followed on the way to each file, and where the lookup ends.
    fn ways(&mut self, inspection: &Inspection) -> io::Result<()> {
        for way in ways(inspection) {
            self.line("path", way.path.display())?;
            for (link, target) in &way.links {
                self.line("  link", format_args!("{} -> {}", link.display(), target.display()))?;
            }
            match (way.end, way.kind) {
                (None, _) => self.line("  end", "nothing")?,
                (Some(at), Some(kind)) => self.line("  end", format_args!("{}, {kind}", at.display()))?,
                (Some(at), None) => self.line("  end", format_args!("stops at {}", at.display()))?,
            }
        }
        Ok(())
    }

    fn certificates(&mut self, label: &str, certificates: &[CertificateDer<'_>]) -> io::Result<()> {
        for (i, certificate) in certificates.iter().enumerate() {
            let place = format!("{} of {}", i + 1, certificates.len());
            let Some(fields) = der::fields(certificate) else {
                self.line(label, format_args!("{place}: without the usual fields"))?;
                continue;
            };
            let role = role(label, i, &fields);
            self.line(
                label,
                format_args!(
                    "{place}, {role}; subject: {}; names: {}; issuer: {}; valid: {} to {}; serial: {}",
                    name(fields.subject),
                    fields.names.join(", "),
                    name(fields.issuer),
                    Timestamp(fields.not_before),
                    Timestamp(fields.not_after),
                    der::serial_hex(fields.serial),
                ),
            )?;
        }
        Ok(())
    }

    fn crls(&mut self, inspection: &Inspection) -> io::Result<()> {
        for (path, list) in &inspection.crls {
            let Some(fields) = crl::fields(list) else { continue };
            let next = fields.next_update.map_or_else(|| "-".to_owned(), |next| Timestamp(next).to_string());
            self.line(
                "crl",
                format_args!(
                    "{}; issuer: {}; number: {}; issued: {}; next: {next}; covers: {}; revoked: {}",
                    path.display(),
                    name(fields.issuer),
                    fields.number.map_or_else(|| "-".to_owned(), der::serial_hex),
                    Timestamp(fields.this_update),
                    covered_certificates(&fields),
                    fields.revoked.len(),
                ),
            )?;
        }
        Ok(())
    }

    /// Prints a label and a text on one line; control characters of the text are escaped.
    fn line(&mut self, label: &str, text: impl Display) -> io::Result<()> {
        writeln!(self.0, "{label:<10} {}", one_line(text))
    }
}
