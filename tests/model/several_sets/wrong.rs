//! Wrong designs, by their observable state. The comparison has to find each.

use rustls_reload::{Event, Reload};

use super::play::{Falsify, Observation, set_of};

/// A wrong design of several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Breaks: INV-16. A refusal names the generation of its set instead of the served one.
    GenerationOfTheSet,
    /// Breaks: INV-11. The near end of a further pair is not reported.
    EndOfTheFirst,
    /// Breaks: INV-11. The whole has the state of the first set.
    StateOfTheFirst,
    /// Breaks: INV-11. A standing refusal is reported repeatedly.
    RepeatsRefusals,
    /// Breaks: INV-11. The answer is that of the first set that answered.
    FirstAnswer,
    /// Breaks: INV-11. The time since which disk and served files differ is never reset.
    DiffersForEver,
    /// Breaks: INV-11. The end of trouble in one set is reported for the first set.
    RecoversTheFirst,
}

impl Wrong {
    pub const ALL: [Self; 7] = [
        Self::GenerationOfTheSet,
        Self::EndOfTheFirst,
        Self::StateOfTheFirst,
        Self::RepeatsRefusals,
        Self::FirstAnswer,
        Self::DiffersForEver,
        Self::RecoversTheFirst,
    ];

    /// Returns the function that shows an observation as this design would.
    pub fn falsify(self) -> Falsify {
        Box::new(move |seen| self.show(seen))
    }

    fn show(self, seen: &mut Observation) {
        let (before, status) = (&seen.before, &mut seen.status);
        match self {
            Self::GenerationOfTheSet => {
                for event in &mut seen.events {
                    if let Event::Refused { generation, set, .. } = event {
                        let set = set.as_deref().and_then(set_of).unwrap();
                        *generation = before.sets[set].generation;
                    }
                }
            }
            Self::EndOfTheFirst => seen.events.retain(|event| match event {
                Event::Expiring { certificate, .. } | Event::Expired { certificate } => {
                    set_of(&certificate.path) == Some(0)
                }
                _ => true,
            }),
            Self::StateOfTheFirst => {
                status.deferred_until = status.sets[0].deferred_until;
                status.differs_since = status.sets[0].differs_since;
            }
            Self::RepeatsRefusals => {
                let standing = status.sets.iter().filter_map(|set| {
                    let error = set.refused.as_ref()?.error.clone();
                    Some(Event::Refused { error, generation: status.generation, set: Some(set.path.clone()) })
                });
                let new: Vec<_> = standing.filter(|event| !seen.events.contains(event)).collect();
                seen.events.extend(new);
            }
            Self::FirstAnswer => {
                if let Some(answer @ Reload::Refused(_)) = &mut seen.answer
                    && status.sets[0].refused.is_none()
                {
                    *answer = Reload::Unchanged;
                }
            }
            Self::DiffersForEver => {
                for (set, was) in status.sets.iter_mut().zip(&before.sets) {
                    set.differs_since = set.differs_since.or(was.differs_since);
                }
            }
            Self::RecoversTheFirst => {
                for event in &mut seen.events {
                    if let Event::Recovered { set } = event {
                        *set = Some(status.sets[0].path.clone());
                    }
                }
            }
        }
    }
}
