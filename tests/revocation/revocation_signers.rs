//! The signer of a CRL, tested by real handshakes: lists of intermediates, of several
//! keys of one name, of former keys, and of several sets.
//!
//! Checks: INV-09, INV-11, INV-14, INV-16.

mod anchors;
mod limits;
mod sets;
mod world;

use std::{fs, time::SystemTime};

use crate::common::handshake;
use rustls::version::{TLS12, TLS13};
use rustls_reload::Reload;
use rustls_reload_testkit::{Authority, ListSpec, PrivateKey, Subject};
use world::{HOUR, World, of_old_with_new, someone, spec, unidentified};

/// Two keys of one intermediate number their certificates from 1. The list of one key newly revokes
/// a serial number that the list of the other key revoked long ago.
#[test]
fn inv09_newly_revoked_beside_its_serial_by_another_key_ends() {
    for (version, spec) in [(&TLS12, spec as fn(u64) -> ListSpec), (&TLS13, unidentified), (&TLS13, spec)] {
        let (world, root) = (World::new(), Authority::root("root"));
        world.put("ca/ca.crt", root.pem.as_bytes());
        let [old, new] = ["issuing"; 2].map(|name| root.intermediate(name));
        // The factory derives serial numbers from keys.
        let key = PrivateKey::p256();
        let [of_old, of_new] = [&old, &new].map(|of| of.issue_with_chain(&Subject::client("client"), &key));
        world.list("crl.d/root.crl", &root, &spec(1));
        world.list("crl.d/old.crl", &old, &spec(1));
        world.list("crl.d/new.crl", &new, &spec(1).naming(&of_new.leaf));
        let server = world.builder().load().unwrap();
        assert_eq!([&of_old, &of_new].map(|shown| world.lets_in(&server, shown)), [true, false]);
        let client = world.client(&of_old, version);
        handshake(&server.config(), &client).unwrap();
        assert!(handshake(&server.config(), &client).unwrap().resumed);
        world.list("crl.d/old.crl", &old, &spec(2).naming(&of_old.leaf));
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(!world.lets_in(&server, &of_old), "a full handshake refuses it");
        let resumed = handshake(&server.config(), &client).is_ok_and(|connection| connection.resumed);
        assert_eq!(
            (resumed, server.current().value.trust_epoch(), world.reported_reduced_trust()),
            (false, 2, true),
            "resumed, epoch, reported"
        );
    }
}

/// A reload that would lose a CA's last list is refused, even where an unknown status is allowed.
#[test]
fn inv14_last_list_of_an_intermediate_stays_if_unknown_passes() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let issuing = root.intermediate("issuing");
    let bad = someone(&issuing);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/issuing.crl", &issuing, &spec(5).naming(&bad.leaf));
    let server = world.builder().allow_unknown_revocation_status().load().unwrap();
    assert!(!world.lets_in(&server, &bad));
    fs::remove_file(world.path("crl.d/issuing.crl")).unwrap();
    let answer = server.reload_now();
    assert!(!world.lets_in(&server, &bad), "{answer:?} {:?}", world.warnings());
}

/// Without the setting the clients of the intermediate are refused, and all other lists can still
/// be renewed.
#[test]
fn inv14_lost_list_of_an_intermediate_refuses_its_clients() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let issuing = root.intermediate("issuing");
    let good = someone(&issuing);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/issuing.crl", &issuing, &spec(5));
    let server = world.builder().load().unwrap();
    let direct = someone(&root);
    assert!(world.lets_in(&server, &good) && world.lets_in(&server, &direct));
    fs::remove_file(world.path("crl.d/issuing.crl")).unwrap();
    assert_eq!(server.reload_now(), Reload::Reloaded);
    let warnings = world.warnings();
    assert!(warnings.iter().any(|said| said.contains("no CRL of CN=issuing")), "{warnings:?}");
    assert!(!world.lets_in(&server, &good) && world.lets_in(&server, &direct));
    // Another client is revoked meanwhile.
    world.list("crl.d/root.crl", &root, &spec(2).naming(&direct.leaf));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!world.lets_in(&server, &good) && !world.lets_in(&server, &direct));
}

/// A CA changed its key: the new one is in the bundle, and clients of the old one send its
/// certificate by the new one.
#[test]
fn inv14_list_of_a_former_key_stays() {
    let (world, [old, new]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", new.pem.as_bytes());
    let bad = of_old_with_new(&old, &new);
    world.list("crl.d/new.crl", &new, &spec(1));
    world.list("crl.d/old.crl", &old, &spec(5).naming(&bad.leaf));
    let server = world.builder().allow_unknown_revocation_status().load().unwrap();
    assert!(!world.lets_in(&server, &bad));
    world.warnings();
    fs::remove_file(world.path("crl.d/old.crl")).unwrap();
    let answer = server.reload_now();
    assert!(!world.lets_in(&server, &bad), "{answer:?}, warnings: {:?}", world.warnings());
}

/// A reload does not replace a valid list of a former key by an expired one.
#[test]
fn inv14_expired_list_of_a_former_key_replaces_no_valid_one() {
    let (world, [old, new]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", new.pem.as_bytes());
    let good = of_old_with_new(&old, &new);
    world.list("crl.d/new.crl", &new, &spec(1));
    world.list("crl.d/old.crl", &old, &spec(1));
    let server = world.builder().load().unwrap();
    assert!(world.lets_in(&server, &good));
    world.warnings();
    let now = SystemTime::now();
    world.list("crl.d/old.crl", &old, &ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(2) });
    let answer = server.reload_now();
    assert!(world.lets_in(&server, &good), "{answer:?}, warnings: {:?}", world.warnings());
}

/// The list of a removed CA counts for no client. Where an unknown status is allowed, clients of a
/// CA without any list are let in.
#[test]
fn inv14_list_of_a_removed_ca_locks_out_nobody() {
    let (world, [old, new]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", format!("{}{}", old.pem, new.pem).as_bytes());
    world.list("crl.d/old.crl", &old, &spec(1));
    let good = new.issue(&Subject::client("client"), &PrivateKey::p256());
    let server = world.builder().allow_unknown_revocation_status().load().unwrap();
    assert!(world.lets_in(&server, &good), "no list covers it, and that is allowed");
    world.warnings();
    world.put("ca/ca.crt", new.pem.as_bytes());
    let answer = server.reload_now();
    let why = handshake(&server.config(), &world.client(&good, &TLS13)).err();
    assert_eq!(why, None, "{answer:?}, warnings: {:?}", world.warnings());
}

/// By its key identifier the list belongs to another key. If it replaced the list of the first key,
/// all clients of that key would be refused.
#[test]
fn inv14_list_of_another_key_replaces_none_of_an_intermediate() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let [issuing, other] = ["issuing"; 2].map(|name| root.intermediate(name));
    let good = someone(&issuing);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/issuing.crl", &issuing, &spec(1));
    let lax = world.builder().allow_unknown_revocation_status().load().unwrap();
    let strict = world.builder().load().unwrap();
    assert!(world.lets_in(&lax, &good) && world.lets_in(&strict, &good));
    world.list("crl.d/issuing.crl", &other, &spec(2));
    assert!(matches!(lax.reload_now(), Reload::Refused(_)));
    assert!(world.lets_in(&lax, &good));
    // Where an unknown status is refused, this lets no client in.
    assert_eq!(strict.reload_now(), Reload::Reloaded);
    assert!(!world.lets_in(&strict, &good));
}

/// Without a key identifier the signer of the new list is unknown before a client connects. The
/// list of an intermediate whose clients have connected is known by them.
#[test]
fn inv11_unidentified_crl_of_another_key_is_reported() {
    for allow_unknown in [false, true] {
        let (world, root) = (World::new(), Authority::root("root"));
        world.put("ca/ca.crt", root.pem.as_bytes());
        let [issuing, other] = ["issuing"; 2].map(|name| root.intermediate(name));
        let good = someone(&issuing);
        world.list("crl.d/root.crl", &root, &spec(1));
        world.list("crl.d/issuing.crl", &issuing, &unidentified(1));
        let server = world.builder();
        let server = if allow_unknown { server.allow_unknown_revocation_status() } else { server };
        let server = server.load().unwrap();
        assert!(world.lets_in(&server, &good));
        world.list("crl.d/issuing.crl", &other, &unidentified(2));
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(!world.lets_in(&server, &good));
        assert_eq!(server.current().value.trust_epoch(), 2);
        assert!(world.reported_reduced_trust(), "warnings: {:?}", world.warnings());
    }
}

/// This is how to retire an intermediate where clients of unknown status are let in.
#[test]
fn inv14_expired_list_of_an_intermediate_can_be_removed() {
    for strict in [true, false] {
        let (world, root) = (World::new(), Authority::root("root"));
        world.put("ca/ca.crt", root.pem.as_bytes());
        let issuing = root.intermediate("issuing");
        let [good, bad] = [(); 2].map(|()| someone(&issuing));
        let now = SystemTime::now();
        let over = ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(5) };
        world.list("crl.d/root.crl", &root, &spec(1));
        world.list("crl.d/issuing.crl", &issuing, &over.naming(&bad.leaf));
        let server = world.builder();
        let server = if strict { server } else { server.allow_unknown_revocation_status() };
        let server = server.load().unwrap();
        assert_eq!([&good, &bad].map(|shown| world.lets_in(&server, shown)), [false, false]);
        fs::remove_file(world.path("crl.d/issuing.crl")).unwrap();
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert_eq!([&good, &bad].map(|shown| world.lets_in(&server, shown)), [!strict, !strict]);
    }
}

/// Client CAs and lists are one set here, so the lists of an intermediate can be removed with its
/// CA.
#[test]
fn inv14_list_of_an_intermediate_can_go_with_its_ca() {
    let (world, [root, other]) = (World::new(), ["root", "other"].map(Authority::root));
    world.put("ca/ca.crt", format!("{}{}", root.pem, other.pem).as_bytes());
    let issuing = root.intermediate("issuing");
    let good = someone(&issuing);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/other.crl", &other, &spec(1));
    world.list("crl.d/issuing.crl", &issuing, &spec(1));
    let server = world.builder().crls_with_client_ca(true).load().unwrap();
    assert!(world.lets_in(&server, &good));
    world.put("ca/ca.crt", other.pem.as_bytes());
    fs::remove_file(world.path("crl.d/root.crl")).unwrap();
    fs::remove_file(world.path("crl.d/issuing.crl")).unwrap();
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!world.lets_in(&server, &good));
    assert!(world.warnings().iter().any(|said| said.contains("no CRL of CN=issuing any more")));
}

/// The CA is removed, so its list may be removed. A start works without it as well.
#[test]
fn inv14_list_of_a_removed_ca_can_be_taken_away() {
    let (world, [old, new]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", format!("{}{}", old.pem, new.pem).as_bytes());
    world.list("crl.d/old.crl", &old, &spec(1));
    world.list("crl.d/unrelated.crl", &Authority::root("unrelated"), &spec(1));
    let good = new.issue(&Subject::client("client"), &PrivateKey::p256());
    let server = world.builder().allow_unknown_revocation_status().load().unwrap();
    world.put("ca/ca.crt", new.pem.as_bytes());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    fs::remove_file(world.path("crl.d/old.crl")).unwrap();
    let answer = server.reload_now();
    let again = world.builder().allow_unknown_revocation_status().load().unwrap();
    assert!(world.lets_in(&again, &good), "a start lets it in");
    assert!(world.lets_in(&server, &good), "{answer:?}");
    assert_eq!(answer, Reload::Reloaded);
}

/// The bundle's CA and its former key have a list each: one newly revokes a serial number that the
/// other revokes.
#[test]
fn inv11_revocation_by_another_key_of_the_serial_is_reported() {
    let (world, [old, new]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", new.pem.as_bytes());
    let bad = of_old_with_new(&old, &new);
    world.list("crl.d/new.crl", &new, &spec(1).naming(&bad.leaf));
    world.list("crl.d/old.crl", &old, &spec(1));
    let server = world.builder().load().unwrap();
    assert!(world.lets_in(&server, &bad), "the number is another's");
    world.list("crl.d/old.crl", &old, &spec(2).naming(&bad.leaf));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!world.lets_in(&server, &bad));
    assert_eq!(server.current().value.trust_epoch(), 2, "no session resumes");
    assert!(world.reported_reduced_trust(), "an open connection of it is not reported");
}

/// An intermediate has two keys. The valid list of one does not count for the other, whose list has
/// expired.
#[test]
fn inv14_expired_list_of_one_of_two_keys_replaces_no_valid_one() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let [old, new] = ["issuing"; 2].map(|name| root.intermediate(name));
    let good = someone(&old);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/old.crl", &old, &spec(1));
    world.list("crl.d/new.crl", &new, &spec(1));
    let server = world.builder().load().unwrap();
    assert!(world.lets_in(&server, &good));
    world.warnings();
    let now = SystemTime::now();
    world.list("crl.d/old.crl", &old, &ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(2) });
    let answer = server.reload_now();
    assert!(world.lets_in(&server, &good), "{answer:?}, warnings: {:?}", world.warnings());
}

/// The list of one key is removed; that of the other is unchanged.
#[test]
fn inv16_list_that_did_not_change_is_not_said_to_be_older() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let [old, new] = ["issuing"; 2].map(|name| root.intermediate(name));
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/old.crl", &old, &spec(1));
    let now = SystemTime::now();
    let over = ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(9) };
    world.list("crl.d/new.crl", &new, &over);
    let server = world.builder().load().unwrap();
    world.warnings();
    fs::remove_file(world.path("crl.d/new.crl")).unwrap();
    assert_eq!(server.reload_now(), Reload::Reloaded);
    let mut said = world.warnings();
    said.retain(|said| said.contains("old.crl") && said.contains("is older than the one before it"));
    assert_eq!(said, Vec::<String>::new());
}
