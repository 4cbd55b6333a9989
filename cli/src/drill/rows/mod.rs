//! The scenarios, a table for each group.

mod detection;
mod invalid;
mod load;
mod publishers;
mod revocation;
mod sessions;
mod torn;
mod trust;

use super::{
    model::{Ca, Files, Group, Load, Scenario, Start, Step, Who},
    publisher::Layout,
};

/// Returns all scenarios, in the order in which they are listed.
pub(super) fn all() -> impl Iterator<Item = &'static Scenario> {
    let groups = [
        publishers::ROWS,
        detection::ROWS,
        torn::ROWS,
        invalid::ROWS,
        trust::ROWS,
        revocation::ROWS,
        sessions::ROWS,
        load::ROWS,
    ];
    groups.into_iter().flatten()
}

const PAIR: Start = Start { files: Files::Pair, trust: &[Ca::A], revoked: &[] };
const TRUST: Start = Start { files: Files::Trust, trust: &[Ca::A], revoked: &[] };
const LISTS: Start = Start { files: Files::Lists, trust: &[Ca::A], revoked: &[] };

/// Returns a scenario of a server's pair.
const fn row(
    group: Group,
    name: &'static str,
    source: &'static str,
    what: &'static str,
    layout: Layout,
    steps: &'static [Step],
) -> Scenario {
    Scenario {
        name,
        group,
        source,
        what,
        layout,
        start: PAIR,
        clients: &[],
        load: Load::Usual,
        advice: false,
        steps,
    }
}

impl Scenario {
    const fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    const fn clients(self, clients: &'static [Who]) -> Self {
        Self { clients, ..self }
    }

    const fn advice(self) -> Self {
        Self { advice: true, ..self }
    }

    const fn heavy(self) -> Self {
        Self { load: Load::Heavy, ..self }
    }
}

#[cfg(test)]
mod tests;
