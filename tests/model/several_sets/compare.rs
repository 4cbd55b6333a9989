//! Compares the observation of a reloader after a step with the model.

use std::time::Duration;

use rustls_reload::{Error, Event, Fingerprint, Reload, Status};

use super::{
    model::{Answer, Fact, Model, Set},
    play::{Action, Observation, dir, set_of},
};

type Compared = Result<(), String>;

/// Returns an error that describes the difference, unless both are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: impl FnOnce() -> String, is: T, wanted: T) -> Compared {
    if is == wanted { Ok(()) } else { Err(format!("{} is {is:?} in place of {wanted:?}", what())) }
}

/// Compares everything. The model then takes over the generation numbers, which it cannot know.
pub fn all(
    seen: &Observation,
    model: &mut Model,
    answer: Option<Answer>,
    action: Action,
    wall: Duration,
) -> Compared {
    events(seen, model, action)?;
    let status = &seen.status;
    for (number, set) in model.sets.iter().enumerate() {
        one(seen, (number, set), action, wall).map_err(|why| format!("set {number}: {why}"))?;
    }
    whole(status, model)?;
    model.sets.iter_mut().for_each(|set| set.fresh = [false; 2]);
    if action == Action::Reload {
        let builds = seen.status.builds - seen.before.builds;
        let snapshots = seen.status.snapshots - seen.before.snapshots;
        same(|| "the number of snapshots".to_owned(), snapshots, model.sets.len() as u64)?;
        if builds > snapshots {
            return Err(format!("{builds} builds in {snapshots} snapshots"));
        }
    }
    match (&seen.answer, answer) {
        (Some(is), Some(wanted)) => answers(is, wanted, status),
        (None, None) => Ok(()),
        other => Err(format!("answered: {other:?}")),
    }
}

fn answers(is: &Reload, wanted: Answer, status: &Status) -> Compared {
    let wanted = match wanted {
        Answer::Reloaded => Reload::Reloaded,
        Answer::Unchanged => Reload::Unchanged,
        Answer::Deferred(date) => Reload::Deferred(Duration::from_secs(date)),
        Answer::Refused(set) => match &status.sets[set].refused {
            Some(refused) => Reload::Refused(refused.error.clone()),
            None => return Err(format!("set {set} is not refused, and the answer is {is:?}")),
        },
    };
    same(|| "the answer".to_owned(), is, &wanted)
}

/// Compares the events in order: those of each set with the model's, and the generations, which
/// have no gap.
fn events(seen: &Observation, model: &mut Model, action: Action) -> Compared {
    let (mut generation, mut is_degraded) = (seen.before.generation, seen.before.degraded.is_some());
    let mut facts = vec![Vec::new(); model.sets.len()];
    let (mut order, mut runs, mut shrunk) = (Vec::new(), Vec::new(), seen.before.trust_reduced);
    for event in &seen.events {
        let (set, fact) = match event {
            Event::Published { generation: now, old, new, recovered, set } => {
                generation += 1;
                same(|| "the number of a generation".to_owned(), *now, generation)?;
                let digest =
                    |leaf: &Option<rustls_reload::Leaf>| leaf.as_ref().map(|leaf| leaf.fingerprint.0);
                let (old, new, recovered) = (digest(old), digest(new), *recovered);
                (set.as_deref(), Fact::Published { old, new, recovered })
            }
            Event::Refused { error, generation: now, set } => {
                same(|| "the generation beside a refusal".to_owned(), *now, generation)?;
                is_of(error, set.as_deref())?;
                (set.as_deref(), Fact::Refused(error.layer()))
            }
            Event::Recovered { set } => (set.as_deref(), Fact::Recovered),
            Event::Deferred { not_before, set } => (set.as_deref(), Fact::Deferred(not_before.as_secs())),
            Event::Expiring { certificate, within } => {
                (Some(certificate.path.as_path()), Fact::Expiring(within.as_secs()))
            }
            Event::Expired { certificate } => (Some(certificate.path.as_path()), Fact::Expired),
            // The model does not know whether the reloader was started.
            Event::Warning { warning } if warning.why().contains("never started") => continue,
            Event::Warning { warning } => (warning.path(), Fact::Warned(warning.layer())),
            Event::Degraded { .. } | Event::Restored => {
                let now = matches!(event, Event::Degraded { .. });
                same(|| format!("before {event}, degraded"), is_degraded, !now)?;
                is_degraded = now;
                continue;
            }
            Event::Stopped => {
                is_degraded = false;
                runs.push("stopped");
                continue;
            }
            Event::Started { .. } => {
                runs.push("started");
                continue;
            }
            Event::TrustReduced { generation: now, epoch, .. } => {
                same(|| "the generation of less trust".to_owned(), *now, generation)?;
                if *epoch > model.epoch {
                    return Err(format!("epoch {epoch} after {}", model.epoch));
                }
                shrunk = Some(*now);
                continue;
            }
            other => return Err(format!("reported for no reason: {other:?}")),
        };
        let set = set.and_then(set_of).ok_or_else(|| format!("an event of no set: {event:?}"))?;
        order.push(set);
        facts[set].push(fact);
    }
    for (number, set) in model.sets.iter_mut().enumerate() {
        let is_end = |fact: &Fact| matches!(fact, Fact::Expiring(_) | Fact::Expired);
        let (ends, facts): (Vec<_>, Vec<_>) = facts[number].drain(..).partition(is_end);
        same(|| format!("reported of set {number}"), &facts, &std::mem::take(&mut set.facts))?;
        let wanted = std::mem::take(&mut set.ends);
        if !agree(&wanted, &ends) {
            return Err(format!("reported of the end of set {number}: {ends:?} in place of {wanted:?}"));
        }
    }
    let [verifies_anew, shuts_out] = std::mem::take(&mut model.verifies_anew);
    let shrinks = shrunk != seen.before.trust_reduced;
    if shuts_out && !shrinks || shrinks && !verifies_anew {
        return Err(format!("less trust is reported: {shrinks}, clients are shut out: {shuts_out}"));
    }
    same(|| "the last generation of less trust".to_owned(), seen.status.trust_reduced, shrunk)?;
    same(|| "degraded by events".to_owned(), is_degraded, model.degraded)?;
    if action == Action::Reload && !order.is_sorted() {
        return Err(format!("the sets answer in the order {order:?}"));
    }
    let wanted = match action {
        Action::Restart | Action::RestartLater => &["stopped", "started"][..],
        _ => &[],
    };
    let wanted = if seen.before.running || wanted.is_empty() { wanted } else { &wanted[1..] };
    same(|| "the worker".to_owned(), &runs[..], wanted)?;
    same(|| "the generation".to_owned(), seen.status.generation, generation)
}

/// Returns whether the facts are the expected ones, with or without each uncertain one.
fn agree(wanted: &[Fact], facts: &[Fact]) -> bool {
    let Some((fact, rest)) = wanted.split_first() else { return facts.is_empty() };
    let is_next = |fact: &Fact| facts.first() == Some(fact) && agree(rest, &facts[1..]);
    match fact {
        Fact::Perhaps(fact) => agree(rest, facts) || is_next(fact),
        fact => is_next(fact),
    }
}

/// Checks that an error of a set names one of its files.
fn is_of(error: &Error, set: Option<&std::path::Path>) -> Compared {
    same(|| format!("the set of {error}"), error.path().and_then(set_of), set.and_then(set_of))
}

/// Compares the status of one set.
fn one(seen: &Observation, (number, set): (usize, &Set), action: Action, wall: Duration) -> Compared {
    let (was, is) = (&seen.before.sets[number], &seen.status.sets[number]);
    let own = |event: &&Event| matches!(event, Event::Published { set, .. } if set.as_deref().and_then(set_of) == Some(number));
    let published = seen.events.iter().rev().find(own).map(|event| match event {
        Event::Published { generation, .. } => *generation,
        _ => 0,
    });
    let what = |what: &'static str| move || what.to_owned();
    same(what("the path"), set_of(&is.path), Some(number))?;
    let leaf = |leaf: &rustls_reload::Leaf| {
        (leaf.fingerprint.0, leaf.not_before.as_secs(), leaf.not_after.as_secs())
    };
    let wanted = set.served.leaf.map(|leaf| (leaf.digest, leaf.from, leaf.to));
    same(what("the leaf"), is.leaf.as_ref().map(leaf), wanted)?;
    same(what("the generation"), is.generation, published.unwrap_or(was.generation))?;
    since(
        what("served"),
        Some(is.served_since),
        Some(was.served_since).filter(|_| published.is_none()),
        wall,
    )?;
    let refused = is.refused.as_ref();
    same(
        what("refused by"),
        refused.map(|refused| refused.error.layer()),
        set.refused.map(|(layer, _)| layer),
    )?;
    if let Some(refused) = refused {
        is_of(&refused.error, Some(&is.path))?;
        let old = was.refused.as_ref().filter(|_| !set.fresh[1]);
        since(what("refused"), Some(refused.since), old.map(|old| old.since), wall)?;
        let least = old.map_or(1, |old| old.count);
        let by_hand = action == Action::Reload;
        if refused.count < least || by_hand && refused.count != old.map_or(1, |old| old.count + 1) {
            return Err(format!("refused {} times after {least}", refused.count));
        }
    }
    same(what("deferred until"), is.deferred_until.map(|date| date.as_secs()), set.deferred)?;
    same(what("differs"), is.differs_since.is_some(), set.differs)?;
    since(what("differing"), is.differs_since, was.differs_since.filter(|_| !set.fresh[0]), wall)?;
    let nearing = is
        .expiring
        .as_ref()
        .map(|near| (near.certificate.fingerprint, near.within.map(|within| within.as_secs())));
    let wanted = set.nearing.zip(set.served.leaf);
    let wanted = wanted.map(|(within, leaf)| (Fingerprint(leaf.digest), within));
    same(what("how near the end is"), nearing, wanted)
}

/// Checks that a time recorded before stays, and that a new one belongs to this step.
fn since(what: impl Fn() -> String, is: Option<Duration>, was: Option<Duration>, wall: Duration) -> Compared {
    // The longest step takes eleven seconds and a jump of the clock.
    let early = wall.saturating_sub(Duration::from_secs(86_400 * 6 / 5 + 30));
    match (is, was) {
        (Some(is), Some(was)) => same(|| format!("since when it is {}", what()), is, was),
        (Some(is), None) if is > wall || is < early => {
            Err(format!("since when it is {}: {is:?} at {wall:?}", what()))
        }
        _ => Ok(()),
    }
}

/// Compares the status of all sets together.
fn whole(status: &Status, model: &Model) -> Compared {
    let what = |what: &'static str| move || format!("of all sets, {what}");
    let sets = &status.sets;
    same(what("the leaf"), &status.leaf, &sets[0].leaf)?;
    same(what("refused"), &status.refused, &sets.iter().find_map(|set| set.refused.clone()))?;
    let held = sets.iter().filter_map(|set| set.deferred_until).min();
    same(what("deferred until"), status.deferred_until, held)?;
    let differs = sets.iter().filter_map(|set| set.differs_since).min();
    same(what("differs since"), status.differs_since, differs)?;
    let first =
        sets.iter().filter_map(|set| set.expiring.clone()).min_by_key(|near| near.certificate.not_after);
    same(what("near the end"), &status.expiring, &first)?;
    let served = sets.iter().map(|set| set.served_since).max();
    same(what("served since"), Some(status.served_since), served)?;
    same(what("generation"), Some(status.generation), sets.iter().map(|set| set.generation).max())?;
    same(what("running"), status.running, model.running)?;
    same(what("stalled"), status.stalled_since, None)?;
    same(what("degraded"), status.degraded.is_some(), model.degraded)?;
    let cut = status.degraded.as_ref().and_then(|(error, _)| error.path()).and_then(set_of);
    if model.degraded && !cut.is_some_and(|cut| model.sets[cut].fault) {
        return Err(format!("degraded by {cut:?}"));
    }
    same(what("most directories"), status.directories, 3)?;
    for (number, set) in model.sets.iter().enumerate().filter(|(_, set)| !set.fault) {
        let own = status.watched.iter().filter(|path| set_of(path) == Some(number));
        if own.count() != 2 {
            return Err(format!(
                "watched of set {number}, which has no fault ({}): {:?}",
                set.cut, status.watched
            ));
        }
        if !status.watched.contains(&dir(number)) {
            return Err(format!("set {number} is not watched: {:?}", status.watched));
        }
    }
    Ok(())
}
