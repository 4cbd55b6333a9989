//! Lists that name a CA of the bundle. A bundle has intermediates beside their root, where clients
//! send their own certificate alone.

use std::time::SystemTime;

use rustls::version::TLS13;
use rustls_reload::{Reload, internal::pem};
use rustls_reload_testkit::{Authority, HOLD, ListSpec, Pair, PrivateKey, Subject};

use crate::common::handshake;

use super::world::{HOUR, World, someone, spec};

/// Makes a client that sends no intermediate.
fn alone(of: &Authority) -> Pair {
    of.issue(&Subject::client("client"), &PrivateKey::p256())
}

fn bundle(of: &[&Authority]) -> String {
    of.iter().map(|ca| ca.pem.as_str()).collect()
}

#[test]
fn inv14_ca_of_the_bundle_that_its_root_revokes_lets_nobody_in() {
    let (world, root) = (World::new(), Authority::root("root"));
    let [good, bad] = ["good", "bad"].map(|name| root.intermediate(name));
    world.put("ca/ca.crt", bundle(&[&root, &good, &bad]).as_bytes());
    for (name, of) in [("root", &root), ("good", &good), ("bad", &bad)] {
        world.list(&format!("crl.d/{name}.crl"), of, &spec(1));
    }
    let (server, leaf_only) = (world.builder().load().unwrap(), world.builder());
    let leaf_only = leaf_only.only_check_end_entity_revocation().load().unwrap();
    let clients = [alone(&good), someone(&good), alone(&root), alone(&bad), someone(&bad)];
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&server, shown)), [true; 5]);
    world.list("crl.d/root.crl", &root, &spec(2).naming(bad.der()));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(world.reported_reduced_trust());
    let of_bad = |why: &&String| {
        why.contains("the client CA CN=bad with the public key ")
            && why.contains(" is revoked by the CRL of CN=root in ")
    };
    let is_reported = |warnings: &[String]| warnings.iter().filter(of_bad).count() == 1;
    assert!(is_reported(&world.warnings()));
    drop(world.builder().load().unwrap());
    assert!(is_reported(&world.warnings()), "at a first load too");
    let accepted = clients.each_ref().map(|shown| world.lets_in(&server, shown));
    assert_eq!(accepted, [true, true, true, false, false]);
    // By this policy only the client's own certificate is looked up.
    assert_eq!(leaf_only.reload_now(), Reload::Reloaded);
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&leaf_only, shown)), [true; 5]);
    // The key of the revoked CA is trusted by another certificate too.
    let now = SystemTime::now();
    let with_twin = bundle(&[&root, &good, &bad]) + &bad.twin("bad", (now - HOUR, now + HOUR));
    world.put("ca/ca.crt", with_twin.as_bytes());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&server, shown)), [true; 5]);
    // Without that one no session goes on.
    let client = world.client(&clients[3], &TLS13);
    handshake(&server.config(), &client).unwrap();
    assert!(handshake(&server.config(), &client).unwrap().resumed);
    world.reported.lock().unwrap().clear();
    world.put("ca/ca.crt", bundle(&[&bad, &root, &good]).as_bytes());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(world.reported_reduced_trust());
    handshake(&server.config(), &client).unwrap_err();
}

/// A CA has certified its former key with its new one: RFC 4210 section 4.4, OldWithNew.
#[test]
fn inv14_former_key_that_its_ca_revokes_lets_nobody_in() {
    for old in [Authority::root("clients"), Authority::seeded("clients", 7)] {
        former_key_is_revoked(&old);
    }
}

fn former_key_is_revoked(old: &Authority) {
    let (world, new) = (World::new(), Authority::root("clients"));
    let link = new.certify_again(old, "clients");
    world.put("ca/ca.crt", format!("{}{link}", new.pem).as_bytes());
    world.list("crl.d/old.crl", old, &spec(1));
    world.list("crl.d/new.crl", &new, &spec(1));
    let server = world.builder().load().unwrap();
    let clients = [alone(old), alone(&new)];
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&server, shown)), [true; 2]);
    let certificate = pem::chain(link.as_bytes()).unwrap().remove(0);
    world.list("crl.d/new.crl", &new, &spec(2).naming(&certificate));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(world.reported_reduced_trust());
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&server, shown)), [false, true]);
    // Trusted by its own certificate too, the former key does not depend on the new one.
    world.put("ca/ca.crt", format!("{}{link}{}", new.pem, old.pem).as_bytes());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(clients.each_ref().map(|shown| world.lets_in(&server, shown)), [true; 2]);
}

/// Neither a list of another CA with the root's name, nor the root's own list, revokes a CA that
/// they did not issue.
#[test]
fn inv14_ca_of_the_bundle_is_revoked_by_its_issuer_alone() {
    let world = World::new();
    let [root, other] = ["root"; 2].map(Authority::root);
    let issuing = root.intermediate("issuing");
    world.put("ca/ca.crt", bundle(&[&root, &other, &issuing]).as_bytes());
    world.list("crl.d/root.crl", &root, &spec(1).naming(root.der()));
    world.list("crl.d/other.crl", &other, &spec(1).naming(issuing.der()));
    world.list("crl.d/issuing.crl", &issuing, &spec(1));
    let server = world.builder().load().unwrap();
    assert_eq!([&root, &issuing].map(|of| world.lets_in(&server, &alone(of))), [true; 2]);
}

/// A list that is dated in the future releases nothing yet, and no session outlives the hold.
#[test]
fn inv09_inv14_entry_on_hold_is_released_only_by_a_list_that_is_issued() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let shown = alone(&root);
    let mut held = spec(2).naming(&shown.leaf);
    held.revoked[0].1 = Some(HOLD);
    let begin = spec(3).window.0;
    let newer = |number, begin| ListSpec { window: (begin, begin + 9 * HOUR), ..spec(number) };
    world.list("crl.d/2.crl", &root, &held);
    world.list("crl.d/3.crl", &root, &newer(3, begin));
    let server = world.builder().load().unwrap();
    let client = world.client(&shown, &TLS13);
    handshake(&server.config(), &client).unwrap();
    assert!(handshake(&server.config(), &client).unwrap().resumed);
    // The releasing list is exchanged for one that is dated ahead.
    world.list("crl.d/3.crl", &root, &newer(4, begin + 4 * HOUR));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(world.reported_reduced_trust());
    handshake(&server.config(), &client).unwrap_err();
    assert!(!world.lets_in(&server, &shown), "{:?}", world.warnings());
    // A first load decides alike.
    assert!(!world.lets_in(&world.builder().load().unwrap(), &shown));
}
