//! The oracle: which sets are taken, and who is let in by those. It shares no code with the product, and reads no file.

use super::world::{Bundle, CLIENTS, Ca, List, Lists, State, Tls};

/// A part of what is served, by its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Tls,
    Bundle,
    Lists,
}

impl State {
    /// The same with these parts of another state.
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

    /// Whether each part is whole, looked at alone.
    fn is_whole(&self) -> bool {
        matches!(self.tls, Tls::Good(_))
            && matches!(self.bundle, Bundle::Good(_))
            && matches!(self.lists, Lists::Good(_))
    }

    /// Whether a CA of this name is trusted.
    fn trusts(&self, name: &str) -> bool {
        self.cas().iter().any(|ca| ca.name() == name)
    }

    fn has_list_of(&self, ca: Ca) -> bool {
        self.listed().iter().any(|list| list.ca == ca)
    }

    /// Whether a set may be taken that makes this of what is `served`.
    ///
    /// 1. Every part is whole. 2. A list under the name of a trusted CA is signed by one, or there is another that is, or it
    ///    takes the place of none that is: it was served before, or only such lists were. 3. No key loses the last list that
    ///    it has signed, unless it is not trusted, and what is unknown is refused, or it was trusted before, or some CA goes in
    ///    the same step.
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
        // 1. 2. 3.
        self.is_whole() && self.listed().iter().all(known) && served.listed().iter().all(kept)
    }

    /// Whether a client is let in.
    pub fn lets_in(&self, client: usize, allow_unknown: bool) -> bool {
        let (ca, bad) = CLIENTS[client];
        if !self.cas().contains(&ca) {
            return false;
        }
        let mut own = self.listed().iter().filter(|list| list.ca == ca).peekable();
        match (own.peek(), allow_unknown) {
            (None, false) => false,
            // A list of its issuer's name that another key has signed counts as none.
            (None, true) => true,
            _ => !own.any(|list| list.revokes && bad),
        }
    }
}

/// The state that is served, by the rule: the last good of each set, of all that fits together.
#[derive(Clone, Debug)]
pub struct Oracle {
    sets: Vec<Vec<Part>>,
    pub served: State,
    pub disk: State,
    /// The CAs that were trusted while a list of theirs was served, and are not any more.
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

    /// Takes each set from the disk that may be taken, one after the other.
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
