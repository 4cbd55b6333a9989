//! A change of roots or identity against connections of a client, by `current()` for each
//! connection and by one configuration for life. No session is resumed over either change, so each
//! server is verified by the roots of a publication and sees its identity. Once a reduction of trust
//! is reported, no later connection accepts a server of the removed root.
//! Checks: INV-04, INV-09, INV-11.
//!
//! Engine: generated.

use std::sync::Arc;

use loom_tests::{
    Cas, ClientSessions, Credentials, Disk, Kept, Reload, block_on, bounded, connect, connect_rotating,
    load_client, spawn,
};

const A: Cas = Cas(1);
const B: Cas = Cas(2);
const BOTH: Cas = Cas(3);

const REMOVED: &str = "a server of the removed root is accepted";

/// Root A is removed while the client connects to servers of A and of B.
fn roots(kept: Kept) {
    const ROW: &[Credentials] =
        &[Credentials { roots: BOTH, identity: 1 }, Credentials { roots: B, identity: 1 }];
    let disk = Disk::default();
    let client = Arc::new(load_client(&disk, ROW, kept));
    let removed = Arc::clone(&client);
    let a = spawn(move || {
        let first = connect(&removed, A);
        assert_eq!(first.identity.is_some(), first.generation == 1, "{REMOVED}: {first:?}");
        if first.generation == 1 {
            assert_eq!(block_on(removed.trust_reduced(1)).0, 2);
        }
        let again = connect(&removed, A);
        assert_eq!(again.identity, None, "{REMOVED}: {again:?}");
    });
    let stays = Arc::clone(&client);
    let b = spawn(move || {
        let (first, second) = (connect(&stays, B), connect(&stays, B));
        assert_eq!((first.identity, second.identity), (Some(1), Some(1)));
        assert_eq!(second.resumed, first.generation == second.generation, "{first:?} and {second:?}");
    });
    disk.write(2);
    assert_eq!(client.reload_now(), Reload::Reloaded);
    a.join().unwrap();
    b.join().unwrap();
    let last = connect(&client, A);
    assert_eq!(last.identity, None, "{REMOVED}: {last:?}");
}

/// The identity is renewed while the client connects to two servers.
fn identities(kept: Kept) {
    const ROW: &[Credentials] =
        &[Credentials { roots: BOTH, identity: 1 }, Credentials { roots: BOTH, identity: 2 }];
    let disk = Disk::default();
    let client = Arc::new(load_client(&disk, ROW, kept));
    let threads = [A, B].map(|server| {
        let client = Arc::clone(&client);
        spawn(move || {
            let (first, second) = (connect(&client, server), connect(&client, server));
            for one in [first, second] {
                let served = ROW[usize::try_from(one.generation).unwrap() - 1].identity;
                assert_eq!(one.identity, Some(served), "the server sees another identity: {one:?}");
            }
            assert_eq!(second.resumed, first.generation == second.generation, "{first:?} and {second:?}");
        })
    });
    disk.write(2);
    assert_eq!(client.reload_now(), Reload::Reloaded);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(connect(&client, A).identity, Some(2), "the server sees another identity");
}

/// Root A is removed and the identity is renewed while one configuration for life connects. The
/// configuration keeps sessions if `resumes`, as one does whose resumption was turned on.
fn for_life(resumes: bool) {
    const ROW: &[Credentials] =
        &[Credentials { roots: BOTH, identity: 1 }, Credentials { roots: B, identity: 2 }];
    let disk = Disk::default();
    let client = Arc::new(load_client(&disk, ROW, Kept::OverNone));
    let sessions = resumes.then(|| Arc::new(ClientSessions::default()));
    let (removed, stored) = (Arc::clone(&client), sessions.clone());
    let a = spawn(move || {
        let first = connect_rotating(&removed, stored.as_deref(), A);
        assert_eq!(first.accepted, first.verified == Some(1), "neither older nor newer roots: {first:?}");
        assert!(
            first.shown.is_none_or(|shown| Some(shown) >= first.verified),
            "an older identity: {first:?}"
        );
        assert_eq!(block_on(removed.trust_reduced(1)).0, 2);
        let again = connect_rotating(&removed, stored.as_deref(), A);
        assert!(!again.accepted, "{REMOVED}: {again:?}");
    });
    let (stays, stored) = (Arc::clone(&client), sessions.clone());
    let b = spawn(move || {
        let [first, second] = [(); 2].map(|()| connect_rotating(&stays, stored.as_deref(), B));
        assert!(first.accepted && second.accepted, "{first:?} and {second:?}");
        assert!(second.verified.is_none_or(|verified| first.shown <= Some(verified)), "time goes back");
    });
    disk.write(2);
    assert_eq!(client.reload_now(), Reload::Reloaded);
    a.join().unwrap();
    b.join().unwrap();
    assert!(!connect_rotating(&client, sessions.as_deref(), A).accepted, "{REMOVED}");
    let last = connect_rotating(&client, sessions.as_deref(), B);
    assert!(last.accepted && last.shown.is_none_or(|shown| shown == 2), "{last:?}");
}

/// Four connections and their storage run beside a reload, so a complete search has millions of
/// permutations. Each wrong design is caught with as many preemptions.
const PREEMPTIONS: usize = 3;

#[test]
fn inv09_inv11_removed_root_against_connections() {
    bounded("removed root against two servers of a client", PREEMPTIONS, || roots(Kept::OverNone));
}

#[test]
fn inv09_renewed_identity_against_connections() {
    bounded("renewed identity against two servers of a client", PREEMPTIONS, || identities(Kept::OverNone));
}

#[test]
fn inv09_change_against_one_client_configuration_for_life() {
    bounded("roots and identity against one client configuration for life", PREEMPTIONS, || for_life(false));
}

/// Runs the bodies over wrong designs, which the models must catch.
#[cfg(loom)]
mod wrong {
    use loom_tests::must_fail;

    use super::*;

    #[test]
    fn sessions_over_roots() {
        must_fail("client_against_connections::wrong::sessions_over_roots", REMOVED, || roots(Kept::OverAll));
    }

    #[test]
    fn sessions_over_identities() {
        must_fail(
            "client_against_connections::wrong::sessions_over_identities",
            "the server sees another identity",
            || identities(Kept::OverIdentities),
        );
    }

    #[test]
    fn sessions_for_life() {
        must_fail("client_against_connections::wrong::sessions_for_life", REMOVED, || for_life(true));
    }
}
