//! The timeline of a scenario: what was on disk, what was served, each handshake, and the gap
//! between a set and its first handshake.
//!
//! Positions are percentages, so that a narrow page moves the marks together and leaves texts and
//! dots as large as they are.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use crate::drill::model::{Lane, Outcome, Played, Publication, Record, Shown};

/// Heights and places in pixels.
const BAR: u32 = 14;
const DISK: u32 = 14;
const GAP: u32 = DISK + BAR + 2;
const SERVED: u32 = GAP + 8;
const LANES: u32 = SERVED + BAR + 16;
const LANE: u32 = 24;
/// Handshakes of one lane and kind that are closer than this share of the width are one dot.
const SHARES: f64 = 150.0;
/// Colours of sets, which repeat.
const COLOURS: usize = 4;

/// Returns the timeline of a scenario that was run.
pub(super) fn timeline(played: &Played) -> String {
    let ends = played.records.iter().map(|record| record.ended);
    let publications = played.publications.iter().flat_map(|one| [one.done, one.seen]).flatten();
    let end = ends.chain(publications).max().unwrap_or_default();
    // The start of the server says nothing about reloads.
    let begin = played.publications.first().and_then(|first| first.seen).unwrap_or_default();
    let end = end.saturating_sub(begin).max(Duration::from_millis(1));
    let place = |time: Duration| 100.0 * time.saturating_sub(begin).as_secs_f64() / end.as_secs_f64();
    let mut lanes: Vec<Lane> = Vec::new();
    for record in &played.records {
        if !lanes.contains(&record.lane) {
            lanes.push(record.lane);
        }
    }
    lanes.sort_by_key(ToString::to_string);
    let height = LANES + LANE * u32::try_from(lanes.len()).unwrap_or_default() + 16;
    let mut svg = format!(
        "<svg width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"Timeline of {}\">\n",
        played.scenario.name
    );
    let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">on disk</text>", DISK - 3);
    let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">served</text>", SERVED + BAR + 12);
    bars(&mut svg, &played.publications, &place);
    for (index, lane) in lanes.iter().enumerate() {
        let y = LANES + LANE * u32::try_from(index).unwrap_or_default();
        let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">{lane}</text>", y + 9);
        dots(&mut svg, played.records.iter().filter(|one| one.lane == *lane), played, (y + 17, &place));
    }
    let seconds = end.as_secs_f64();
    let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">0 s</text>", height - 3);
    let _ = writeln!(
        svg,
        "<text x=\"100%\" y=\"{}\" text-anchor=\"end\">{seconds:.1} s</text>\n</svg>",
        height - 3
    );
    svg
}

/// Draws the sets on disk, those served, and the gaps.
fn bars(svg: &mut String, publications: &[Publication], place: &dyn Fn(Duration) -> f64) {
    let mut bar = |y: u32, height: u32, from: f64, to: f64, class: &str, title: &str| {
        let width = (to - from).max(0.15);
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.2}%\" y=\"{y}\" width=\"{width:.2}%\" height=\"{height}\" \
             class=\"{class}\"><title>{title}</title></rect>"
        );
    };
    for (index, one) in publications.iter().enumerate() {
        let number = index + 1;
        let next = publications[number..].iter().find_map(|next| next.done);
        let until = next.map_or(100.0, place);
        let class = if one.valid { format!("s{}", one.chain % COLOURS) } else { "invalid".to_owned() };
        if let Some(done) = one.done {
            let validity = if one.valid { "" } else { ", invalid" };
            let title = format!("set {number}, serial {}{validity}", one.serial);
            bar(DISK, BAR, place(done), until, &class, &title);
        }
        // An interrupted publication shows as long as it is unfinished.
        let unfinished = one.done.map_or(until, place);
        if unfinished - place(one.begun) > 0.3 {
            bar(
                DISK,
                BAR / 2,
                place(one.begun),
                unfinished,
                "unfinished",
                &format!("set {number}, unfinished"),
            );
        }
        if let (Some(seen), Some(done)) = (one.seen, one.done) {
            let later = publications[number..].iter().find_map(|next| next.seen);
            bar(
                SERVED,
                BAR,
                place(seen),
                later.map_or(100.0, place),
                &class,
                &format!("set {number} served"),
            );
            let gap = seen.saturating_sub(done).as_millis();
            if number > 1 {
                bar(GAP, 6, place(done), place(seen), "gap", &format!("set {number} served after {gap} ms"));
            }
        }
    }
}

/// Draws the handshakes of one lane. Those that show the same at the same place are one dot.
fn dots<'a>(
    svg: &mut String,
    records: impl Iterator<Item = &'a Record>,
    played: &Played,
    (y, place): (u32, &dyn Fn(Duration) -> f64),
) {
    let mut drawn = BTreeSet::new();
    for record in records {
        let (x, class) = (place(record.ended), class(record, played));
        // No place is larger than 100 %.
        #[allow(clippy::cast_possible_truncation)] // reason: as above
        let share = (x / 100.0 * SHARES) as i64;
        if drawn.insert((share, class.clone())) {
            let _ = writeln!(svg, "<circle cx=\"{x:.2}%\" cy=\"{y}\" r=\"2.5\" class=\"{class}\"/>");
        }
    }
}

/// Returns the class of a dot: by the set, and by the outcome where that is no answer.
fn class(record: &Record, played: &Played) -> String {
    let refused = matches!(record.outcome, Outcome::Refused(_) | Outcome::Closed(_));
    let invalid = |chain: usize| played.publications.iter().any(|one| one.chain == chain && !one.valid);
    match (&record.shown, &record.outcome) {
        (_, Outcome::Failed(_)) => "failed".to_owned(),
        (Shown::Half(_) | Shown::Altered(_) | Shown::WrongKey(_) | Shown::Unknown, _) => "failed".to_owned(),
        (Shown::Chain(chain), _) if invalid(*chain) => "failed".to_owned(),
        (Shown::Chain(chain), _) if refused => format!("refused r{}", chain % COLOURS),
        (Shown::Chain(chain), _) => format!("s{}", chain % COLOURS),
        (Shown::Nothing, _) if refused => "refused".to_owned(),
        (Shown::Nothing, _) => "resumed".to_owned(),
    }
}
