//! Decides how long session state lives: over every publication that leaves the trust as it was,
//! and over no other (INV-09).
//!
//! Epochs are counted. A trust that returns after another one is a new epoch with new state.
//! Sessions that were made under it the first time may have been revoked since.

use crate::sync::Arc;

/// A run of publications under one trust, and the state of the sessions that were made in it.
///
/// An epoch is part of the published value, and the next one is made from the served one. So a
/// build that is rejected, deferred or dropped counts nothing and leaves nothing. A handshake that
/// began under an earlier value goes on with that value's state.
#[derive(Clone, Debug)]
pub struct Epoch<C, S> {
    number: u64,
    last_reduced: u64,
    trust: C,
    sessions: S,
}

/// The trust that sessions are made under.
pub trait Trust: Eq {
    /// Returns whether a client that was trusted under `served` is no longer trusted.
    fn shrinks(&self, served: &Self) -> bool;
}

impl<C: Trust> Trust for Arc<C> {
    fn shrinks(&self, served: &Self) -> bool {
        C::shrinks(self, served)
    }
}

impl<C: Trust + Clone, S: Clone> Epoch<C, S> {
    /// Makes the epoch of a value that is to replace `served`.
    ///
    /// 1. Another trust than the served one, or no served one: the next number, and fresh state.
    /// 2. An equal trust: the same number, and the same state if it is to be `kept`.
    ///
    /// `fresh` gets the served state, so that it can check that it made another one.
    ///
    /// # Errors
    /// The error of `fresh`.
    pub fn after<E>(
        served: Option<&Self>,
        trust: C,
        kept: bool,
        fresh: impl FnOnce(Option<&S>) -> Result<S, E>,
    ) -> Result<Self, E> {
        // 1.
        let Some(served) = served else {
            return Ok(Self { number: 1, last_reduced: 0, trust, sessions: fresh(None)? });
        };
        if trust != served.trust {
            let number = served.number + 1;
            let last_reduced = if trust.shrinks(&served.trust) { number } else { served.last_reduced };
            return Ok(Self { number, last_reduced, trust, sessions: fresh(Some(&served.sessions))? });
        }
        // 2.
        let sessions = if kept { served.sessions.clone() } else { fresh(Some(&served.sessions))? };
        // The new trust is equal, but perhaps by other certificates: later reports have to describe
        // the served ones.
        Ok(Self { sessions, trust, ..served.clone() })
    }

    /// Returns the number of this trust; the first is 1, and each change counts one more.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the latest epoch that trusted less than the one before it; 0 if there was none.
    pub fn last_reduced(&self) -> u64 {
        self.last_reduced
    }

    /// Returns whether the trust was reduced since the epoch of this number.
    pub fn reduced_since(&self, number: u64) -> bool {
        self.last_reduced > number
    }

    /// Returns the trust of this epoch.
    pub fn trust(&self) -> &C {
        &self.trust
    }

    /// Returns the state of this epoch's sessions.
    pub fn sessions(&self) -> &S {
        &self.sessions
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::*;

    impl Trust for u8 {
        fn shrinks(&self, served: &Self) -> bool {
            self < served
        }
    }

    /// Publishes these trusts one after the other. Returns of each epoch its number, the latest one
    /// that reduced the trust, and its state.
    fn row(trusts: &[u8], kept: bool) -> Vec<(u64, u64, u32)> {
        let made = Cell::new(0);
        let fresh = |_: Option<&u32>| {
            made.set(made.get() + 1);
            Ok::<_, Infallible>(made.get())
        };
        let mut served: Option<Epoch<u8, u32>> = None;
        let mut epochs = Vec::new();
        for trust in trusts {
            let Ok(next) = Epoch::after(served.as_ref(), *trust, kept, fresh);
            epochs.push((next.number(), next.last_reduced(), *next.sessions()));
            served = Some(next);
        }
        epochs
    }

    #[test]
    fn inv09_state_lasts_as_long_as_trust_and_old_trust_is_new_epoch() {
        let epochs = row(&[5, 5, 7, 7, 5, 5, 7], true);
        assert_eq!(epochs, [(1, 0, 1), (1, 0, 1), (2, 0, 2), (2, 0, 2), (3, 3, 3), (3, 3, 3), (4, 3, 4)]);
    }

    #[test]
    fn inv09_the_stricter_setting_makes_fresh_state_in_the_same_epoch() {
        assert_eq!(row(&[5, 5, 5], false), [(1, 0, 1), (1, 0, 2), (1, 0, 3)]);
    }

    #[test]
    fn inv09_a_build_that_is_thrown_away_counts_nothing() {
        let Ok(served) = Epoch::after(None, 5_u8, true, |_| Ok::<_, Infallible>('a'));
        for _ in 0..3 {
            let Ok(candidate) = Epoch::after(Some(&served), 3, true, |_| Ok::<_, Infallible>('b'));
            assert_eq!((candidate.number(), candidate.last_reduced(), *candidate.sessions()), (2, 2, 'b'));
        }
        let Ok(next) = Epoch::after(Some(&served), 5, true, |_| Ok::<_, Infallible>('c'));
        assert_eq!((next.number(), next.last_reduced(), *next.sessions()), (1, 0, 'a'));
        assert_eq!(*next.trust(), 5);
    }
}
