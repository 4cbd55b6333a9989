//! The tables, which `README.md` repeats.

use std::{fmt::Write, fs, path::Path};

use frameworks::AnyError;

use crate::{
    clients,
    rows::{Case, Row},
    servers,
    verdict::Verdict,
};

/// The runs of a row, and a verdict of each for each check.
pub struct Outcome {
    pub row: &'static Row,
    pub runs: Vec<(Case, Vec<Verdict>)>,
}

impl Outcome {
    fn checks(&self) -> &'static [&'static str] {
        if self.row.is_client() { &clients::CHECKS } else { &servers::CHECKS }
    }

    /// Returns a line for each check that ended in another way than expected.
    pub fn unexpected(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (case, verdicts) in &self.runs {
            for (verdict, number) in verdicts.iter().zip(1..) {
                let (title, check) = (self.row.title(), self.checks()[number - 1]);
                let run = format!("{:?}, {:?}", case.mode, case.version.version);
                let place = format!("{title}, {run}, check {number} ({check})");
                match (verdict, case.has_to_fail(number)) {
                    (Ok(()), true) => lines.push(format!("{place}: passed, and has to fail")),
                    (Err(why), false) => lines.push(format!("{place}: {why}")),
                    _ => {}
                }
            }
        }
        lines
    }

    /// Returns whether this check passed in each of these runs.
    fn passed(runs: &[(Case, Vec<Verdict>)], number: usize) -> bool {
        runs.iter().all(|(_, verdicts)| verdicts[number - 1].is_ok())
    }

    /// Returns `yes` if these checks passed in all runs.
    fn all(&self, numbers: &[usize]) -> &'static str {
        if numbers.iter().all(|number| Self::passed(&self.runs, *number)) { "yes" } else { "no" }
    }

    /// Counts the checks of each way of publishing that passed in each version of TLS.
    pub fn count(&self) -> String {
        let (modes, checks) = (self.runs.chunks(self.runs.len() / 2), self.checks().len());
        let passed = modes.map(|runs| (1..=checks).filter(|number| Self::passed(runs, *number)).count());
        format!("{} of {}", passed.sum::<usize>(), 2 * checks)
    }
}

/// Returns the tables of servers, of clients and of the wrong ones.
pub fn tables(outcomes: &[Outcome]) -> Result<String, AnyError> {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"))?;
    let [mut servers, mut clients, mut wrong] = [(); 3].map(|()| String::new());
    for outcome in outcomes {
        let row = outcome.row;
        if let Some(kind) = row.wrong {
            let title = row.title().replace(kind, row.why);
            let fails: Vec<_> = row.fails.iter().map(usize::to_string).collect();
            writeln!(wrong, "| {title} | {} | {} |", fails.join(", "), outcome.count())?;
            continue;
        }
        let (version, lines) = (version(&lock, row.package)?, lines(row.example)?);
        let file = format!("[`{0}`](examples/{0}.rs)", row.example);
        let rotated: &[&[usize]] =
            if row.is_client() { &[&[2], &[4, 5]] } else { &[&[2], &[6, 7], &[9, 10]] };
        let rotated: Vec<_> = rotated.iter().map(|numbers| outcome.all(numbers)).collect();
        let (rotated, passed) = (rotated.join(" | "), outcome.count());
        let table = if row.is_client() { &mut clients } else { &mut servers };
        writeln!(table, "| {} | {version} | {file} | {lines} | {rotated} | {passed} |", row.title)?;
    }
    Ok(format!(
        "| server | version | example | lines | certificate | client CAs | CRLs | passed |\n\
         |---|---|---|---|---|---|---|---|\n{servers}\n\
         | client | version | example | lines | identity | roots | passed |\n\
         |---|---|---|---|---|---|---|\n{clients}\n\
         | mistake | has to fail | passed |\n|---|---|---|\n{wrong}"
    ))
}

/// Returns the version of a package in the lock file.
fn version(lock: &str, package: &str) -> Result<String, AnyError> {
    let (_, rest) =
        lock.split_once(&format!("name = \"{package}\"\nversion = \"")).ok_or("not in Cargo.lock")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

/// Counts the lines of an example between `// TLS: begin` and `// TLS: end` that are neither blank
/// nor comments.
fn lines(example: &str) -> Result<usize, AnyError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).with_extension("rs");
    let (mut inside, mut count) = (false, 0);
    for line in fs::read_to_string(path)?.lines().map(str::trim) {
        match line {
            "// TLS: begin" => inside = true,
            "// TLS: end" => inside = false,
            line => count += usize::from(inside && !line.is_empty() && !line.starts_with("//")),
        }
    }
    Ok(count)
}

/// Returns the text of `README.md` as it is, and with these tables.
pub fn readme(text: &str, tables: &str) -> Result<(String, String), AnyError> {
    let (begin, end) = ("<!-- tables: begin -->\n", "<!-- tables: end -->\n");
    let (before, rest) = text.split_once(begin).ok_or("README.md has no place for the tables")?;
    let (_, after) = rest.split_once(end).ok_or("README.md has no place for the tables")?;
    Ok((text.to_owned(), format!("{before}{begin}{tables}{end}{after}")))
}
