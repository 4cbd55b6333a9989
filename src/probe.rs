//! The port through which a simulation learns what a reader keeps.

use std::hash::Hasher;

/// Learns at which points the reader keeps nothing of what it has seen but what it hashes.
///
/// A simulated world takes two readers of equal hashes for one. Outside simulations the probe is
/// `()`, which does nothing.
pub trait Probe: Send + 'static {
    /// Called at each such point; the argument hashes everything that the reader keeps.
    fn keeps(&self, _hash: &dyn Fn(&mut dyn Hasher)) {}
}

impl Probe for () {}

/// A value whose next steps depend on what it hashes and on nothing else of it.
pub trait StateHash {
    /// Hashes everything that the next steps depend on.
    fn hash_state(&self, state: &mut dyn Hasher);
}
