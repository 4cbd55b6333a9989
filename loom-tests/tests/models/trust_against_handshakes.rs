//! A change of trust against handshakes that began before it. Each ends wholly under the trust that
//! it began with, and the session that it stores resumes only in that epoch. A waiter for a
//! reduction of trust is woken by that and by no other publication. Checks: INV-08, INV-09, INV-11.
//!
//! Engine: generated.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use loom_tests::{Cas, Disk, Notify, Reload, ShippedTrust, Trusts, block_on, bounded, handshake, spawn};

const A: Cas = Cas(1);
const B: Cas = Cas(2);
const BOTH: u8 = 3;

/// The CA of client A is removed while A and B make two handshakes each.
fn shrinks<D: Trusts>() {
    let disk = Disk::default();
    let design = Arc::new(D::load(&disk, &[BOTH, B.0]));
    let old = Arc::clone(&design);
    let a = spawn(move || {
        let first = handshake(&*old, A);
        assert_eq!(first.let_in, first.generation == 1, "half under one trust, half under another");
        if first.generation == 1 {
            // The client was verified by the removed trust: the reduction is reported, and later
            // handshakes get the new trust.
            let (generation, woken) = block_on(old.shrunk(1));
            assert!(generation == 2 && woken <= 1, "woken {woken} times by generation {generation}");
        }
        let again = handshake(&*old, A);
        assert!(!again.let_in, "reported before it is served: {again:?}");
    });
    let both = Arc::clone(&design);
    let b = spawn(move || {
        let (first, second) = (handshake(&*both, B), handshake(&*both, B));
        assert!(first.let_in && second.let_in && first.generation <= second.generation);
        let same = first.generation == second.generation;
        assert_eq!(second.resumed, same, "{first:?} and {second:?}");
    });
    disk.write(2);
    assert_eq!(design.reload_now(), Reload::Reloaded);
    a.join().unwrap();
    b.join().unwrap();
    assert!(!handshake(&*design, A).let_in, "a session of the old trust is in the new one");
    assert!(handshake(&*design, B).let_in);
}

/// The two clients make handshakes while the certificate is renewed: sessions resume, and no waiter
/// is woken.
fn renews<D: Trusts>() {
    let disk = Disk::default();
    let design = Arc::new(D::load(&disk, &[BOTH, BOTH]));
    let clients = [A, B].map(|client| {
        let design = Arc::clone(&design);
        spawn(move || {
            let first = handshake(&*design, client);
            let notify = Arc::new(Notify::default());
            let mut shrunk = design.shrunk(first.generation);
            let waker = Waker::from(Arc::clone(&notify));
            assert_eq!(shrunk.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
            let second = handshake(&*design, client);
            assert!(first.let_in && !first.resumed && second.resumed, "{first:?} and {second:?}");
            (shrunk, notify)
        })
    });
    disk.write(2);
    assert_eq!(design.reload_now(), Reload::Reloaded);
    for client in clients {
        let (mut shrunk, notify) = client.join().unwrap();
        assert_eq!(notify.count(), 0, "woken by a renewal");
        let waker = Waker::from(notify);
        assert_eq!(shrunk.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    }
}

/// Four handshakes and their storage run beside a reload, so a complete search has millions of
/// permutations.
const PREEMPTIONS: usize = 4;

#[test]
fn inv09_inv11_trust_that_shrinks_against_handshakes() {
    bounded("trust that shrinks against two clients", PREEMPTIONS, shrinks::<ShippedTrust>);
}

#[test]
fn inv08_a_renewal_against_handshakes() {
    bounded("renewal against two clients that wait for less trust", PREEMPTIONS, renews::<ShippedTrust>);
}

/// Runs the bodies over wrong designs. The model must catch them, and must pass the sound design of
/// the same shape.
#[cfg(loom)]
mod wrong {
    use loom_tests::{
        must_fail, must_pass,
        wrong_trust::{
            Mistrusts, RegistersLate, ReportsFirst, Sound, StorageFollows, VerifierFollows, WakesAlways,
        },
    };

    use super::*;

    #[test]
    fn storage_follows() {
        must_fail(
            "trust_against_handshakes::wrong::storage_follows",
            "a session of another epoch resumed",
            shrinks::<Mistrusts<StorageFollows>>,
        );
    }

    #[test]
    fn verifier_follows() {
        must_fail(
            "trust_against_handshakes::wrong::verifier_follows",
            "half under one trust",
            shrinks::<Mistrusts<VerifierFollows>>,
        );
    }

    #[test]
    fn registers_late() {
        must_fail(
            "trust_against_handshakes::wrong::registers_late",
            "deadlock",
            shrinks::<Mistrusts<RegistersLate>>,
        );
    }

    #[test]
    fn reports_first() {
        must_fail(
            "trust_against_handshakes::wrong::reports_first",
            "reported before it is served",
            shrinks::<Mistrusts<ReportsFirst>>,
        );
    }

    #[test]
    fn wakes_always() {
        must_fail(
            "trust_against_handshakes::wrong::wakes_always",
            "woken by a renewal",
            renews::<Mistrusts<WakesAlways>>,
        );
    }

    #[test]
    fn sound() {
        must_pass("trust_against_handshakes::wrong::sound", shrinks::<Mistrusts<Sound>>);
    }

    #[test]
    fn sound_too() {
        must_pass("trust_against_handshakes::wrong::sound_too", renews::<Mistrusts<Sound>>);
    }
}
