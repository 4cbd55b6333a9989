//! The results as JUnit XML: a suite for each group, as CI systems read it.

use std::fmt::Write;

use super::{Report, Status, escaped};
use crate::drill::model::{Group, Played, Verdict};

impl Report {
    pub(in crate::drill) fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for group in Group::ALL {
            let played: Vec<_> = self.of_group(group).collect();
            if played.is_empty() {
                continue;
            }
            let count = |counted: &[&str]| {
                let elements = played.iter().map(|one| element(one, self.strict).0);
                elements.filter(|element| counted.contains(element)).count()
            };
            // Writing to a String does not fail.
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
                group.name(),
                played.len(),
                count(&["failure"]),
                count(&["error"]),
                count(&["skipped"])
            );
            played.iter().for_each(|one| case(&mut xml, one, self.strict));
            xml.push_str("  </testsuite>\n");
        }
        xml + "</testsuites>\n"
    }
}

/// Returns the element that says how a case ended, and its text.
fn element(played: &Played, strict: bool) -> (&'static str, String) {
    let text = match &played.verdict {
        Verdict::Passed => String::new(),
        Verdict::Skipped(why) | Verdict::Broken(why) => why.clone(),
        Verdict::Failed(violations) => {
            let line = |one: &crate::drill::model::Violation| {
                format!("{} at {}: {}", one.expectation.name(), super::seconds(one.at), one.why)
            };
            violations.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    let name = match Status::of(played) {
        Status::Passed => "",
        Status::Failed => "failure",
        Status::Broken => "error",
        Status::Weak | Status::Skipped if strict => "failure",
        Status::Weak | Status::Skipped => "skipped",
    };
    (name, text)
}

fn case(xml: &mut String, played: &Played, strict: bool) {
    let (name, time) = (played.scenario.name, played.took.as_secs_f64());
    let group = played.scenario.group.name();
    let _ = write!(xml, "    <testcase classname=\"{group}\" name=\"{name}\" time=\"{time:.3}\"");
    let _ = match element(played, strict) {
        ("", _) => writeln!(xml, "/>"),
        (element, text) => {
            let first = escaped(text.lines().next().unwrap_or_default());
            let text = escaped(&text);
            writeln!(xml, ">\n      <{element} message=\"{first}\">{text}</{element}>\n    </testcase>")
        }
    };
}
