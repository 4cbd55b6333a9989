//! CRLs that are missing for a client CA: reported, and its clients wait for them.

use std::collections::BTreeSet;

use super::{World, list, refused, reporting, warnings};
use rustls_reload::Reload;
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

/// Returns the keys of the CAs of this name that have no list according to these warnings.
fn without_list(said: &[String], name: &str) -> Vec<String> {
    let begin = format!("there is no CRL of CN={name} with the public key ");
    let key = |said: &String| {
        let (key, effect) = said.split_once(&begin)?.1.split_once(": ")?;
        assert_eq!((key.len(), effect), (95, "no client of it is let in"), "{said}");
        Some(key.to_owned())
    };
    said.iter().filter_map(key).collect()
}

/// Each key of a CA without a list is reported once. Its clients are not let in.
#[test]
fn inv11_missing_list_is_reported_for_each_key_of_a_ca() {
    let world = World::new();
    let (server, reported) = reporting(world.builder().separate_client_ca(true));
    let mut keys = BTreeSet::new();
    for number in 2..5 {
        world.put("ca/ca.crt", &Authority::root("clients").pem);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        let said = warnings(&reported);
        let [key] = &without_list(&said, "clients")[..] else { panic!("{said:?}") };
        assert!(keys.insert(key.clone()), "{said:?}");
        // Another set changes.
        world.revoke(&world.bad, number);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        let said = warnings(&reported);
        assert_eq!(without_list(&said, "clients"), [""; 0], "{said:?}");
    }
}

/// A CA gets another key under its old name. Its clients are refused until a list signed by the new
/// key arrives. Clients of the old key, which is no longer trusted, are refused too. The set of the
/// CAs is not refused.
#[test]
fn inv14_clients_of_a_rekeyed_ca_wait_for_its_list() {
    let world = World::new();
    let (server, reported) = reporting(world.builder().separate_client_ca(true));
    let rekeyed = Authority::root("clients");
    let client = rekeyed.issue(&Subject::client("new"), &PrivateKey::p256());
    world.put("ca/ca.crt", &rekeyed.pem);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (false, [false, false]));
    let said = warnings(&reported);
    let [about_list, about_ca] = said.as_slice() else { panic!("{said:?}") };
    let why = "the CRL of CN=clients is not signed by any CA of that name";
    assert!(about_list.contains(why) && about_list.contains("own.crl"), "{about_list}");
    assert_eq!(without_list(std::slice::from_ref(about_ca), "clients").len(), 1, "{about_ca}");
    // Other lists are accepted meanwhile, and so is the reissued list of the old key.
    world.revoke(&world.bad, 2);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!world.let_in(&server, &client));
    world.put("crl.d/new.crl", &list(&rekeyed, &[], 1));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (true, [false, false]));
    // A start accepts the files as well, because the old list is beside one that counts.
    let again = world.builder().load().unwrap();
    assert_eq!((world.let_in(&again, &client), world.both(&again)), (true, [false, false]));
}

/// In the other order, the list of the new key is refused while the old key is trusted, and
/// accepted once the new key is.
#[test]
fn inv14_a_list_of_a_key_that_is_not_trusted_yet_waits() {
    let world = World::new();
    world.revoke(&world.bad, 2);
    let server = world.builder().separate_client_ca(true).load().unwrap();
    let rekeyed = Authority::root("clients");
    let client = rekeyed.issue(&Subject::client("new"), &PrivateKey::p256());
    world.put("crl.d/own.crl", &list(&rekeyed, &[], 3));
    assert!(
        matches!(server.reload_now(), Reload::Refused(error) if error.why().contains("is not signed by"))
    );
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (false, [false, true]));
    world.put("ca/ca.crt", &rekeyed.pem);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (true, [false, false]));
    assert_eq!(refused(&server), None);
}

#[test]
fn inv14_clients_of_a_new_ca_wait_for_its_list() {
    let world = World::new();
    let (server, reported) = reporting(world.builder());
    let more = Authority::root("more");
    let client = more.issue(&Subject::client("more"), &PrivateKey::p256());
    world.put("ca/ca.crt", &format!("{}{}", world.ca.pem, more.pem));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (false, [true, true]));
    let said = warnings(&reported);
    assert_eq!(without_list(&said, "more").len(), 1, "{said:?}");
    world.put("other.d/more.crl", &list(&more, &[], 1));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(world.let_in(&server, &client));
    // A removed CA may leave its list behind.
    world.put("ca/ca.crt", &more.pem);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!((world.let_in(&server, &client), world.both(&server)), (true, [false, false]));
}
