//! The results as one page without scripts: a table, and a timeline of each scenario.

use std::fmt::Write;

use super::{Report, Status, escaped, figures, seconds, svg};
use crate::drill::model::{Expectation, Group, Played, Verdict};

/// Violations shown of one scenario.
const VIOLATIONS: usize = 20;

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --dim: #5c636b; --line: #d5d9de;
  --s0: #2f6fb5; --s1: #b8620e; --s2: #2d7d46; --s3: #8a4aa8; --bad: #c21f2c; --good: #2d7d46;
  --gap: #c9a20b; --none: #8d949c; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --text: #e4e7ea; --dim: #a0a8b0;
  --line: #383e46; --s0: #6aa5e8; --s1: #e89a4a; --s2: #62bd80; --s3: #c48be0; --bad: #ff6b73;
  --good: #62bd80; --gap: #e5c545; --none: #8d949c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
a { color: inherit; } p { margin: .2rem 0; } .dim, td small { color: var(--dim); }
table { width: 100%; border-collapse: collapse; }
td, th { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; }
td small { display: block; }
.passed { color: var(--good); } .failed, .broken { color: var(--bad); }
.weak { color: var(--gap); } .skipped { color: var(--dim); }
section { border-top: 1px solid var(--line); }
svg { display: block; margin: .4rem 0; overflow: visible; }
svg text { font-size: 11px; fill: var(--dim); }
svg .s0 { fill: var(--s0); } svg .s1 { fill: var(--s1); } svg .s2 { fill: var(--s2); }
svg .s3 { fill: var(--s3); } svg .invalid { fill: none; stroke: var(--bad); stroke-width: 1.5; }
svg .unfinished { fill: var(--none); } svg .gap { fill: var(--gap); }
svg .resumed { fill: var(--none); } svg .failed { fill: var(--bad); stroke: var(--bad); stroke-width: 4; }
svg .refused { fill: none; stroke: var(--none); stroke-width: 1.5; }
svg .r0 { stroke: var(--s0); } svg .r1 { stroke: var(--s1); } svg .r2 { stroke: var(--s2); }
svg .r3 { stroke: var(--s3); }
pre { overflow-x: auto; font-size: 12px; }
ul { padding-left: 1.2rem; margin: .3rem 0; }
";

/// Explains the timelines.
const LEGEND: &str = "<p class=\"dim\">Above, each timeline has the sets on disk and the sets that \
    were served, each in a colour; an invalid set has a red frame, an unfinished one is grey. The \
    yellow bar between them is the time until the first handshake with the set. Below, each dot is a \
    handshake: a dot in the colour of the set that it showed, a grey dot where a session was resumed, \
    a ring where the client was refused, a large red dot where something is wrong.</p>\n";

impl Report {
    pub(in crate::drill) fn html(&self) -> String {
        let mut page =
            String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        let title = "Certificate rotation drill";
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             <p>{}</p>\n",
            escaped(&self.sum())
        );
        self.table(&mut page);
        page.push_str("<h2>What must hold</h2>\n<ul>\n");
        for one in Expectation::ALL {
            let _ = writeln!(page, "<li><b>{}</b>: {}</li>", one.name(), one.text());
        }
        let _ = write!(page, "</ul>\n<h2>Timelines</h2>\n{LEGEND}");
        self.played.iter().for_each(|played| section(&mut page, played));
        page + "</body>\n</html>\n"
    }

    fn table(&self, page: &mut String) {
        for group in Group::ALL {
            let mut played = self.of_group(group).peekable();
            if played.peek().is_none() {
                continue;
            }
            let _ = write!(page, "<h2>{}</h2>\n<table>\n", group.name());
            page.push_str("<tr><th>result</th><th>scenario</th></tr>\n");
            for one in played {
                let status = Status::of(one).name();
                let _ = writeln!(
                    page,
                    "<tr><td class=\"{status}\">{status}</td><td><a href=\"#{}\">{}</a> \
                     <small>{} {}</small></td></tr>",
                    one.scenario.id(),
                    one.scenario.name,
                    escaped(one.scenario.what),
                    figures(one)
                );
            }
            page.push_str("</table>\n");
        }
    }
}

/// Writes the part of the page about one scenario.
fn section(page: &mut String, played: &Played) {
    let (scenario, status) = (played.scenario, Status::of(played).name());
    let holds: Vec<_> = scenario.holds().iter().map(|one| one.name()).collect();
    let _ = write!(
        page,
        "<section id=\"{0}\">\n<h3>{0}: <span class=\"{status}\">{status}</span></h3>\n<p>{1}</p>\n\
         <p class=\"dim\">Source: {2}. Holds: {3}. {4}</p>\n",
        scenario.id(),
        escaped(scenario.what),
        escaped(scenario.source),
        holds.join(", "),
        figures(played)
    );
    match &played.verdict {
        Verdict::Passed => {}
        Verdict::Skipped(why) | Verdict::Broken(why) => {
            let _ = writeln!(page, "<pre>{}</pre>", escaped(why));
        }
        Verdict::Failed(violations) => {
            page.push_str("<ul>\n");
            for one in violations.iter().take(VIOLATIONS) {
                let (name, at, why) = (one.expectation.name(), seconds(one.at), escaped(&one.why));
                let _ = writeln!(page, "<li class=\"failed\">{name} at {at}: {why}</li>");
            }
            page.push_str("</ul>\n");
            if violations.len() > VIOLATIONS {
                let _ = writeln!(page, "<p>and {} more</p>", violations.len() - VIOLATIONS);
            }
            if !played.log.is_empty() {
                let _ = writeln!(page, "<pre>{}</pre>", escaped(&played.log));
            }
        }
    }
    if !played.records.is_empty() {
        page.push_str(&svg::timeline(played));
    }
    page.push_str("</section>\n");
}
