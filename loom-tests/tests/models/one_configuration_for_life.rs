//! A change of trust against handshakes by one configuration that serves for life. Such a handshake
//! reads what is served twice. Its certificate is never newer than the CAs that verify its client,
//! and it goes by the older or by the newer trust, never by both. Once a reduction of trust is
//! reported, no later handshake lets a removed client in. Checks: INV-04, INV-09.
//!
//! Engine: generated.

use std::sync::Arc;

use loom_tests::{
    Cas, Disk, Reload, ShippedTrust, Store, Trusts, block_on, bounded, handshake_rotating, spawn,
};

const A: Cas = Cas(1);
const B: Cas = Cas(2);
const BOTH: u8 = 3;

/// The CA of client A is removed while A and B make two handshakes each. The configuration keeps
/// sessions if `resumes`, as one does that only delegates.
fn shrinks(resumes: bool) {
    let disk = Disk::default();
    let design = Arc::new(ShippedTrust::load(&disk, &[BOTH, B.0]));
    let sessions = resumes.then(|| Arc::new(Store::default()));
    let (removed, kept) = (Arc::clone(&design), Arc::clone(&design));
    let stored = sessions.clone();
    let a = spawn(move || {
        let first = handshake_rotating(&*removed, stored.as_deref(), A);
        let verified = first.verified.unwrap();
        assert!(first.shown <= verified, "the certificate is newer than the trust: {first:?}");
        assert_eq!(first.let_in, verified == 1, "neither the older nor the newer trust: {first:?}");
        let (generation, _) = block_on(removed.shrunk(1));
        let again = handshake_rotating(&*removed, stored.as_deref(), A);
        assert!(!again.let_in, "a removed client is let in: {again:?}");
        assert_eq!((again.shown, again.verified), (generation, Some(generation)));
    });
    let stored = sessions.clone();
    let b = spawn(move || {
        let [first, second] = [(); 2].map(|()| handshake_rotating(&*kept, stored.as_deref(), B));
        assert!(first.let_in && second.let_in, "{first:?} and {second:?}");
        assert!(first.verified <= Some(second.shown) && second.verified.is_none_or(|by| second.shown <= by));
    });
    disk.write(2);
    assert_eq!(design.reload_now(), Reload::Reloaded);
    a.join().unwrap();
    b.join().unwrap();
    assert!(!handshake_rotating(&*design, sessions.as_deref(), A).let_in, "a removed client is let in");
    assert!(handshake_rotating(&*design, sessions.as_deref(), B).let_in);
}

/// Four handshakes with two reads each run beside a reload, so a complete search has millions of
/// permutations.
const PREEMPTIONS: usize = 4;

#[test]
fn inv09_trust_that_shrinks_against_one_configuration() {
    bounded("trust that shrinks against one configuration for life", PREEMPTIONS, || shrinks(false));
}

/// Runs the body over a wrong design, which the model must catch.
#[cfg(loom)]
mod wrong {
    use loom_tests::must_fail;

    use super::*;

    #[test]
    fn resumes() {
        must_fail("one_configuration_for_life::wrong::resumes", "a removed client is let in", || {
            shrinks(true)
        });
    }
}
