//! The oracle: which sets are accepted, and which clients they let in. It shares no code with the
//! product, and reads no file.

use super::world::{Bundle, CLIENTS, Ca, List, Lists, State, Tls};

/// A part of the served files with one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Tls,
    Bundle,
    Lists,
}

impl State {
    /// Returns this state with the given parts of another state.
    pub fn with(self, parts: &[Part], other: &Self) -> Self {
        let has = |part| parts.contains(&part);
        Self {
            tls: if has(Part::Tls) { other.tls } else { self.tls },
            bundle: if has(Part::Bundle) { other.bundle } else { self.bundle },
            lists: if has(Part::Lists) { other.lists } else { self.lists },
        }
    }

    fn cas(&self) -> &'static [Ca] {
        if let Bundle::Good(cas) = self.bundle { cas } else { &[] }
    }

    pub fn listed(&self) -> &'static [List] {
        if let Lists::Good(lists) = self.lists { lists } else { &[] }
    }

    /// Returns whether each part is valid by itself.
    fn is_whole(&self) -> bool {
        matches!(self.tls, Tls::Good(_))
            && matches!(self.bundle, Bundle::Good(_))
            && matches!(self.lists, Lists::Good(_))
    }

    /// Returns whether a CA of this name is trusted.
    fn trusts(&self, name: &str) -> bool {
        self.cas().iter().any(|ca| ca.name() == name)
    }

    fn has_list_of(&self, ca: Ca) -> bool {
        self.listed().iter().any(|list| list.ca == ca)
    }

    /// Returns whether this state may replace `served`.
    ///
    /// 1. Every part is valid.
    /// 2. A list under the name of a trusted CA is signed by such a CA, or another list is, or it
    ///    replaces no such list: it was served before, or only such lists were.
    /// 3. No key loses the last list that it has signed, unless it is not trusted and one of these
    ///    holds: an unknown status is refused, it was trusted before, or some CA is removed in the
    ///    same step.
    fn may_follow(&self, served: &Self, retired: &[Ca], allow_unknown: bool) -> bool {
        let of = |lists: &'static [List], name: &'static str| {
            lists.iter().filter(move |list| list.ca.name() == name)
        };
        let signed = |list: &List| self.cas().contains(&list.ca);
        let replaces_none = |list: &List| {
            let mut old = of(served.listed(), list.ca.name()).peekable();
            let trusted = served.trusts(list.ca.name());
            served.listed().contains(list)
                || trusted && old.peek().is_some() && old.all(|old| !served.cas().contains(&old.ca))
        };
        let known = |list: &List| {
            !self.trusts(list.ca.name())
                || of(self.listed(), list.ca.name()).any(signed)
                || replaces_none(list)
        };
        let kept = |list: &List| {
            let loses_a_ca = served.cas().iter().any(|ca| !self.cas().contains(ca));
            self.has_list_of(list.ca)
                || !self.cas().contains(&list.ca)
                    && (!allow_unknown || retired.contains(&list.ca) || loses_a_ca)
        };
        // Rules 1, 2 and 3.
        self.is_whole() && self.listed().iter().all(known) && served.listed().iter().all(kept)
    }

    /// Returns whether a client is let in.
    pub fn lets_in(&self, client: usize, allow_unknown: bool) -> bool {
        let (ca, bad) = CLIENTS[client];
        if !self.cas().contains(&ca) {
            return false;
        }
        let mut own = self.listed().iter().filter(|list| list.ca == ca).peekable();
        match (own.peek(), allow_unknown) {
            (None, false) => false,
            // A list with the issuer's name that another key has signed does not count.
            (None, true) => true,
            _ => !own.any(|list| list.revokes && bad),
        }
    }
}

/// The expected state: the last good version of each set, of all that fit together.
#[derive(Clone, Debug)]
pub struct Oracle {
    sets: Vec<Vec<Part>>,
    pub served: State,
    pub disk: State,
    /// CAs that were trusted while their list was served, and are no longer trusted.
    retired: Vec<Ca>,
    allow_unknown: bool,
    /// Whether each set on disk is refused.
    pub refused: Vec<bool>,
}

impl Oracle {
    pub fn new(sets: &[&[Part]], first: State, allow_unknown: bool) -> Self {
        Self {
            sets: sets.iter().map(|set| set.to_vec()).collect(),
            served: first,
            disk: first,
            retired: Vec::new(),
            allow_unknown,
            refused: vec![false; sets.len()],
        }
    }

    /// Accepts each acceptable set from disk, one after the other.
    pub fn reload(&mut self) {
        for (set, parts) in self.sets.iter().enumerate() {
            let candidate = self.served.with(parts, &self.disk);
            let follows = candidate.may_follow(&self.served, &self.retired, self.allow_unknown);
            self.refused[set] = candidate != self.served && !follows;
            if !self.refused[set] {
                let trusted = self.served.cas().iter().filter(|ca| self.served.has_list_of(**ca));
                self.retired.extend(trusted);
                self.retired.retain(|ca| candidate.has_list_of(*ca) && !candidate.cas().contains(ca));
                self.served = candidate;
            }
        }
    }
}
