//! `check`: what a server of these files would load and watch, stage by stage.

use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};

use rustls_reload::{Inspection, Seen, Timestamp, crl, der};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{Failure, files::Files, say::one_line, server::ALPN};

/// It passes, and something should be looked after.
const WARNED: u8 = 3;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Warn where the leaf expires within so many days
    ///
    /// ACME clients renew a certificate of 90 days when 30 are left: at 14 something has been failing for two weeks.
    #[arg(long, value_name = "DAYS", default_value = "14")]
    warn_days: u32,
}

pub(crate) fn check(args: &Args) -> Result<ExitCode, Failure> {
    let soon = Duration::from_secs(u64::from(args.warn_days) * 86_400);
    let inspection = args.files.builder().alpn(ALPN).inspect(soon);
    let mut report = Report(BufWriter::new(io::stdout().lock()));
    report.all(&inspection)?;
    report.0.flush()?;
    match inspection.refused {
        Some(error) => Err(error.into()),
        None if inspection.warnings.is_empty() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(WARNED)),
    }
}

struct Report<W>(W);

impl<W: Write> Report<W> {
    fn all(&mut self, inspection: &Inspection) -> io::Result<()> {
        self.ways(inspection)?;
        let sizes: Vec<_> = inspection.sizes.iter().map(usize::to_string).collect();
        if !sizes.is_empty() {
            self.line("snapshot", format_args!("{} bytes, read together", sizes.join(", ")))?;
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
            let why = "may be searched but not read: a change of the way through it waits for the poll";
            self.line("unwatched", format_args!("{}, {why}", dir.display()))?;
        }
        for warning in &inspection.warnings {
            self.line("warning", warning)?;
        }
        Ok(())
    }

    /// Each link followed on the way to each file, and what is at the end.
    fn ways(&mut self, inspection: &Inspection) -> io::Result<()> {
        let Inspection { paths, walk, .. } = inspection;
        for (path, trace) in paths.iter().zip(&walk.traces) {
            self.line("path", path.display())?;
            for step in trace {
                let entry = &walk.entries[step.entry];
                if let Seen::Link(_, target) = &entry.seen {
                    self.line("  link", format_args!("{} -> {}", entry.path.display(), target.display()))?;
                }
            }
            let Some(last) = trace.last() else {
                self.line("  end", "nothing")?;
                continue;
            };
            let end = &walk.entries[last.entry];
            let at = end.path.display();
            let is_listed = walk.dirs.iter().any(|dir| dir.listed.is_some() && dir.path == end.path);
            match &end.seen {
                Seen::Node(_) if is_listed => {
                    self.line("  end", format_args!("{at}, a directory: each file in it counts"))?;
                }
                // More was to be looked up beneath it.
                Seen::Node(_) if last.as_directory => self.line("  end", format_args!("stops at {at}"))?,
                Seen::Node(stat) => self.line("  end", format_args!("{at}, {}", stat.kind.name()))?,
                _ => self.line("  end", format_args!("stops at {at}"))?,
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
            let own = fields.issuer == fields.subject;
            let role = match (label, i) {
                ("chain", 0) if fields.ca => ", leaf, although a CA's",
                ("chain", 0) => ", leaf",
                _ if own => ", root",
                _ if fields.ca => ", intermediate",
                _ => ", no CA's",
            };
            let name =
                |name| der::name(name).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
            self.line(
                label,
                format_args!(
                    "{place}{role}; subject: {}; names: {}; issuer: {}; valid: {} to {}; serial: {}",
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
                    "{}; issuer: {}; number: {}; issued: {}; next: {next}; revoked: {}",
                    path.display(),
                    der::name(fields.issuer)
                        .filter(|text| !text.is_empty())
                        .unwrap_or_else(|| "-".to_owned()),
                    fields.number.map_or_else(|| "-".to_owned(), der::serial_hex),
                    Timestamp(fields.this_update),
                    fields.revoked.len(),
                ),
            )?;
        }
        Ok(())
    }

    /// A label and what it is about, on one line whatever that holds.
    fn line(&mut self, label: &str, text: impl Display) -> io::Result<()> {
        writeln!(self.0, "{label:<10} {}", one_line(text))
    }
}
