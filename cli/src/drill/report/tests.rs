#![allow(clippy::unwrap_used)] // reason: a test

use super::*;
use crate::drill::model::{
    Expectation, Lane, Outcome, Publication, Record, Shown, Verdict, Version, Violation, Who,
};

const HOSTILE: &str = "<script>alert(1)</script> & \"quoted\"\u{7}";

fn publication(chain: usize, at: u64) -> Publication {
    let at = Duration::from_millis(at);
    Publication {
        chain,
        serial: format!("SERIAL{chain}"),
        valid: true,
        admits: vec![Who::Member],
        begun: at,
        done: Some(at),
        seen: Some(at + Duration::from_millis(5)),
    }
}

fn played(index: usize, verdict: Verdict) -> Played {
    let scenario = super::super::rows::all().nth(index).unwrap();
    let mut played = Played::without_run(scenario, verdict);
    played.publications = vec![publication(0, 0), publication(1, 40)];
    let record = |outcome: Outcome, chain: usize, at: u64| Record {
        lane: Lane { who: Who::Member, version: Version::Tls13, resuming: false },
        begun: Duration::from_millis(at - 5),
        ended: Duration::from_millis(at),
        resumed: false,
        shown: Shown::Chain(chain),
        outcome,
    };
    played.records = vec![
        record(Outcome::Accepted, 0, 30),
        record(Outcome::Accepted, 1, 50),
        record(Outcome::Failed("reset".to_owned()), 1, 80),
    ];
    played
}

fn violation() -> Verdict {
    let at = Duration::from_millis(80);
    Verdict::Failed(vec![Violation { expectation: Expectation::Completed, at, why: HOSTILE.to_owned() }])
}

fn report(verdicts: impl IntoIterator<Item = Verdict>, strict: bool) -> Report {
    let mut report = Report::new(false, strict, "a server".to_owned());
    report.played = verdicts.into_iter().enumerate().map(|(index, verdict)| played(index, verdict)).collect();
    report
}

#[test]
fn the_exit_code_is_that_of_the_worst_result() {
    let skipped = || Verdict::Skipped("no {ca}".to_owned());
    let broken = || Verdict::Broken("no port".to_owned());
    let code = |verdicts: Vec<Verdict>, strict| format!("{:?}", report(verdicts, strict).exit_code());
    let exit = |code: u8| format!("{:?}", ExitCode::from(code));
    assert_eq!(code(vec![Verdict::Passed, skipped()], false), exit(0));
    assert_eq!(code(vec![Verdict::Passed, skipped()], true), exit(1));
    assert_eq!(code(vec![broken(), Verdict::Passed], false), exit(2));
    assert_eq!(code(vec![broken(), violation()], false), exit(1));
}

#[test]
fn advice_counts_with_strict_alone() {
    let index = super::super::rows::all().position(|scenario| scenario.advice).unwrap();
    for (strict, wanted) in [(false, ExitCode::SUCCESS), (true, ExitCode::FAILURE)] {
        let mut report = report([], strict);
        report.played = vec![played(index, violation())];
        assert_eq!(format!("{:?}", report.exit_code()), format!("{wanted:?}"));
    }
}

#[test]
fn page_has_no_scripts_and_escapes_the_text_of_servers() {
    let mut report = report([Verdict::Passed, violation()], false);
    report.played[1].log = HOSTILE.to_owned();
    let page = report.html();
    assert!(!page.contains("<script") && !page.contains("http") && !page.contains('\u{7}'), "{page}");
    assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot;").count(), 2);
    for one in &report.played {
        assert!(page.contains(&format!("<section id=\"{}\">", one.scenario.id())));
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn timeline_has_sets_on_disk_and_served_gaps_and_handshakes() {
    let svg = svg::timeline(&played(0, Verdict::Passed));
    assert_eq!(svg.matches("<circle").count(), 3);
    assert_eq!(svg.matches("class=\"failed\"").count(), 1);
    assert_eq!(svg.matches("class=\"s0\"").count(), 3, "two bars and a dot: {svg}");
    assert_eq!(svg.matches("class=\"s1\"").count(), 3, "two bars and a dot: {svg}");
    // The timeline begins when the first set is served, at 5 ms, and ends at 80 ms.
    let gap = svg.lines().find(|line| line.contains("class=\"gap\"")).unwrap();
    assert!(gap.contains("x=\"46.67%\"") && gap.contains("width=\"6.67%\""), "{gap}");
    assert!(gap.contains("set 2 served after 5 ms"), "{gap}");
}

#[test]
fn junit_counts_each_result_once() {
    let skipped = Verdict::Skipped("no {ca}".to_owned());
    let broken = Verdict::Broken("no port".to_owned());
    let xml = report([Verdict::Passed, violation(), skipped, broken], false).junit();
    assert!(xml.contains("tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""), "{xml}");
    for (element, count) in [("<testcase ", 4), ("<failure ", 1), ("<error ", 1), ("<skipped ", 1)] {
        assert_eq!(xml.matches(element).count(), count, "{element}: {xml}");
    }
    assert!(!xml.contains("<script") && !xml.contains('\u{7}'), "{xml}");
}

#[test]
fn json_has_each_handshake_with_the_serial_number_it_showed() {
    let json = report([violation()], false).to_json();
    let one = &json["scenarios"][0];
    assert_eq!(
        (&one["result"], &one["violations"][0]["expectation"]),
        (&"failed".into(), &"completed".into())
    );
    assert_eq!(one["handshakes"].as_array().unwrap().len(), 3);
    assert_eq!(one["handshakes"][1]["serial"], "SERIAL1");
    assert_eq!(one["handshakes"][2]["outcome"], "failed");
    assert_eq!(one["sets"][1]["served"], 45.0);
}
