//! Hashes of the watches and of what they have reported, in an order of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    hash::{Hash, Hasher},
};

use super::{
    Hints, Watch,
    hints::{SetIndices, Subscribers, Subscriptions},
};
use crate::probe::StateHash;

impl StateHash for Watch {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.hints.hash_state(state);
        let by_id: BTreeMap<_, _> = self.by_id.iter().collect();
        (&self.places, by_id, &self.plans, &self.denied).hash(&mut state);
    }
}

impl StateHash for Hints {
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.hash_pending(state);
        let subscriptions = self.subscriptions();
        let names = |place: &Subscribers| {
            let names: BTreeMap<OsString, SetIndices> =
                place.names.iter().map(|(name, sets)| (name.clone(), sets.clone())).collect();
            (place.sets.clone(), place.listing.clone(), names)
        };
        let places: BTreeMap<_, _> =
            subscriptions.places.iter().map(|(dir, place)| (dir, names(place))).collect();
        places.hash(&mut state);
    }
}

impl Hints {
    /// Hashes what has been reported and not been taken or seen to yet.
    pub(crate) fn hash_pending(&self, mut state: &mut dyn Hasher) {
        let Subscriptions { places: _, stale, all_stale, hinted, all_hinted, traced: _, ended, closed: over } =
            &*self.subscriptions();
        let stale: BTreeSet<_> = stale.iter().collect();
        (stale, all_stale, hinted, all_hinted, ended, over).hash(&mut state);
    }
}
