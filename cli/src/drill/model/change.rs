//! Differences between one set of files and the next, valid and invalid.

use super::{Ca, Who};

/// How a new set differs from the one before.
#[derive(Clone, Copy)]
pub(in crate::drill) struct Change {
    pub(in crate::drill) pair: PairChange,
    /// The new client CAs, if they change.
    pub(in crate::drill) trust: Option<&'static [Ca]>,
    /// The clients that the new lists name, if they change.
    pub(in crate::drill) revoked: Option<&'static [Who]>,
    /// New lists with the same entries.
    pub(in crate::drill) relist: bool,
    pub(in crate::drill) times: Times,
}

/// How the chain and the key change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum PairChange {
    None,
    /// A new key, leaf and intermediate.
    New,
    /// A new leaf by the same intermediate, for the same key.
    SameKey,
    /// Another certificate of the intermediate; leaf and key stay.
    Intermediate,
    /// A new pair whose files have the sizes of the old ones.
    SameSize,
}

/// The modification times that a publisher leaves on new files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Times {
    /// The times that the system gives.
    Now,
    /// One time for every version of every file, as `cp -p` and `rsync -t` copy it.
    Fixed,
    /// A day before.
    Past,
    /// A day ahead.
    Future,
}

const NOTHING: Change =
    Change { pair: PairChange::None, trust: None, revoked: None, relist: false, times: Times::Now };

/// A renewal with a new key.
pub(in crate::drill) const RENEW: Change = Change::pair(PairChange::New);

impl Change {
    pub(in crate::drill) const fn pair(pair: PairChange) -> Self {
        Self { pair, ..NOTHING }
    }

    pub(in crate::drill) const fn trust(trust: &'static [Ca]) -> Self {
        Self { trust: Some(trust), ..NOTHING }
    }

    pub(in crate::drill) const fn revoked(revoked: &'static [Who]) -> Self {
        Self { revoked: Some(revoked), ..NOTHING }
    }

    pub(in crate::drill) const fn relist() -> Self {
        Self { relist: true, ..NOTHING }
    }

    /// Adds a renewal of the pair.
    pub(in crate::drill) const fn renewed(self) -> Self {
        Self { pair: PairChange::New, ..self }
    }

    pub(in crate::drill) const fn times(self, times: Times) -> Self {
        Self { times, ..self }
    }
}

/// Faults of an invalid set. Each such set has a new pair, so that it would show if it were served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drill) enum Fault {
    ForeignKey,
    EmptyChain,
    EmptyKey,
    GarbageChain,
    GarbageKey,
    /// The chain's file ends in the middle of the leaf.
    CutChain,
    CutKey,
    /// The `END` line of the leaf is missing.
    NoEnd,
    Expired,
    NotYetValid,
    EncryptedKey,
    /// Chain and key are in each other's file.
    Swapped,
    /// The intermediate stands before the leaf.
    IssuerFirst,
    /// DER in the place of PEM.
    DerChain,
    MissingChain,
    MissingKey,
    /// A FIFO, which blocks whoever opens it, in the place of the key.
    FifoKey,
    /// A directory in the place of the key.
    DirectoryKey,
    EmptyBundle,
    GarbageBundle,
    CutBundle,
    MissingBundle,
    EmptyList,
    GarbageList,
    CutList,
    MissingList,
    /// A list that another key signed under the issuer's name.
    ForeignList,
    ExpiredList,
}
