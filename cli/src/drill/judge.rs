//! The judge: compares the handshakes of a scenario with what was on disk.

use super::model::{Expectation, Outcome, Publication, Record, Shown, Violation, Who};

/// Returns whether a handshake is one that a server of this publication makes.
///
/// Sets that differ in their client CAs or lists alone show one chain, so the client that was
/// accepted or refused tells them apart.
pub(super) fn fits(record: &Record, publication: &Publication) -> bool {
    let accepted = match record.outcome {
        Outcome::Accepted => true,
        Outcome::Refused(_) | Outcome::Closed(_) => false,
        Outcome::Failed(_) => return false,
    };
    record.shown == Shown::Chain(publication.chain) && accepted == admits(publication, record.lane.who)
}

fn admits(publication: &Publication, who: Who) -> bool {
    publication.admits.contains(&who)
}

/// Returns what does not hold of these handshakes.
///
/// Each handshake gets the earliest publication that explains it and is none before those of the
/// handshakes that had ended when it began. A server is thus accused only of what no order of
/// reloads explains.
pub(super) fn violations(records: &[Record], publications: &[Publication]) -> Vec<Violation> {
    let mut by_begin: Vec<_> = records.iter().collect();
    by_begin.sort_by_key(|record| record.begun);
    let mut by_end: Vec<usize> = (0..by_begin.len()).collect();
    by_end.sort_by_key(|index| by_begin[*index].ended);
    let (mut explained, mut floor, mut ended) = (vec![0; by_begin.len()], 0, by_end.into_iter().peekable());
    let mut violations = Vec::new();
    for (index, record) in by_begin.iter().enumerate() {
        while let Some(before) = ended.next_if(|before| by_begin[*before].ended <= record.begun) {
            floor = floor.max(explained[before]);
        }
        explained[index] = floor;
        match explain(record, publications, floor) {
            Ok(publication) => explained[index] = publication,
            Err((expectation, why)) => {
                let why = format!("{why} ({})", record.lane);
                violations.push(Violation { expectation, at: record.ended, why });
            }
        }
    }
    violations
}

type Accusation = (Expectation, String);

/// Returns the publication that explains a handshake.
fn explain(record: &Record, publications: &[Publication], floor: usize) -> Result<usize, Accusation> {
    // A publication that began later cannot have been served.
    let possible = || publications.iter().enumerate().filter(|(_, one)| one.begun <= record.ended);
    let fitting = |(_, one): &(usize, &Publication)| fits(record, one);
    if record.resumed {
        if let Some(index) = drained(record, possible()) {
            return Ok(index.max(floor));
        }
        return resumed(record, possible().skip(floor), floor);
    }
    if let Some((index, publication)) = possible().filter(fitting).find(|(index, _)| *index >= floor) {
        let is_done = publication.done.is_some_and(|done| done <= record.ended);
        return match publication.valid {
            false => Err((Expectation::Harmless, format!("the invalid set {} is served", index + 1))),
            true if !is_done => {
                let why = format!("set {} is served before it is written to its end", index + 1);
                Err((Expectation::Unfinished, why))
            }
            true => Ok(index),
        };
    }
    if let Some((index, _)) = possible().rfind(fitting) {
        let why = format!("set {} is served after set {}", index + 1, floor + 1);
        return Err((Expectation::Ordered, why));
    }
    if let Some(index) = drained(record, possible()) {
        return Ok(index.max(floor));
    }
    Err(unexplained(record, publications, floor))
}

/// Returns the publication under which a connection was made that the server closed since a later
/// publication trusts less.
///
/// Such a server cannot know which connections depend on what is trusted no more, and closes those
/// that are older than the change. The first request may be under way at that moment.
fn drained<'a>(
    record: &Record,
    mut possible: impl Iterator<Item = (usize, &'a Publication)> + Clone,
) -> Option<usize> {
    let is_closed = matches!(record.outcome, Outcome::Closed(_));
    let is_shown = |one: &Publication| record.resumed || record.shown == Shown::Chain(one.chain);
    // Before its first handshake the change may have come at any time.
    let is_late = |new: &Publication| new.seen.is_none_or(|seen| seen >= record.begun);
    let trusts_less = |old: &Publication, new: &Publication| {
        new.valid && is_late(new) && old.admits.iter().any(|who| !new.admits.contains(who))
    };
    let later = possible.clone();
    let is_drained = |(index, one): &(usize, &Publication)| {
        is_shown(one) && later.clone().any(|(new, next)| new > *index && trusts_less(one, next))
    };
    possible.find(is_drained).filter(|_| is_closed).map(|(index, _)| index)
}

/// Judges a handshake that resumed a session, which shows no chain.
fn resumed<'a>(
    record: &Record,
    mut possible: impl Iterator<Item = (usize, &'a Publication)> + Clone,
    floor: usize,
) -> Result<usize, Accusation> {
    let who = record.lane.who;
    let is_admitted = |(_, one): (usize, &Publication)| one.valid && admits(one, who);
    match &record.outcome {
        Outcome::Accepted if possible.clone().any(is_admitted) => Ok(floor),
        Outcome::Accepted => {
            let why = format!("a session resumes although set {} does not admit the client", floor + 1);
            Err((Expectation::Ends, why))
        }
        _ if possible.any(|one| !is_admitted(one)) => Ok(floor),
        outcome => Err((Expectation::Completed, format!("a resumed session was not served: {outcome:?}"))),
    }
}

/// Returns the accusation for a handshake that no publication explains.
fn unexplained(record: &Record, publications: &[Publication], floor: usize) -> Accusation {
    let number = |chain| publications.iter().position(|one| one.chain == chain).map_or(0, |index| index + 1);
    match (&record.shown, &record.outcome) {
        (Shown::WrongKey(_), _) => {
            let why = "the signature in the handshake is not by the key of the certificate".to_owned();
            (Expectation::Whole, why)
        }
        (Shown::Half(chain), _) => {
            let why = format!("the chain of set {} is served without its end", number(*chain));
            (Expectation::Unfinished, why)
        }
        (Shown::Altered(chain), _) => {
            let why = format!("the leaf of set {} is served with another rest of the chain", number(*chain));
            (Expectation::Whole, why)
        }
        (Shown::Unknown, _) => (Expectation::Whole, "a chain is served that was never published".to_owned()),
        (_, Outcome::Failed(why)) => (Expectation::Completed, why.clone()),
        (_, Outcome::Accepted) => {
            let why = format!("a client is accepted that set {} does not admit", floor + 1);
            (Expectation::Refused, why)
        }
        (_, Outcome::Refused(why) | Outcome::Closed(why)) => {
            (Expectation::Completed, format!("a client that is admitted was not served: {why}"))
        }
    }
}

#[cfg(test)]
mod tests;
