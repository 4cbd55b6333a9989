//! Lists of several sets and files, and the effect of a list beside another one.

use std::{fs, time::SystemTime};

use rustls::version::TLS13;
use rustls_reload::{ClientAuth, Reload, ServerReloader, internal::der};
use rustls_reload_testkit::{Authority, HOLD, ListSpec};

use super::world::{HOUR, World, someone, spec};
use crate::common::{handshake, quick};

/// A certificate on hold is refused again once the list that released it is replaced by an expired
/// one.
#[test]
fn inv09_release_that_is_taken_back_ends_the_session() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let held = someone(&ca);
    let serial = der::fields(&held.leaf).unwrap().serial.to_vec();
    world.list("crl.d/1.crl", &ca, &ListSpec { revoked: vec![(serial, Some(HOLD))], ..spec(1) });
    world.list("crl.d/2.crl", &ca, &spec(2));
    let server = world.builder().load().unwrap();
    let client = world.client(&held, &TLS13);
    handshake(&server.config(), &client).unwrap();
    let now = SystemTime::now();
    world.list("crl.d/2.crl", &ca, &ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(3) });
    let answer = server.reload_now();
    let resumed = handshake(&server.config(), &client).is_ok_and(|connection| connection.resumed);
    assert!(
        world.lets_in(&server, &held) || !resumed,
        "{answer:?}: a full handshake is refused since the reload, and a session resumes; epoch {}",
        server.current().value.trust_epoch()
    );
}

/// `inv14_a_set_keeps_its_list_of_a_ca_unless_another_is_as_new` tests the same with a CA of the
/// bundle.
#[test]
fn inv14_set_keeps_its_list_of_an_intermediate() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let issuing = root.intermediate("issuing");
    let bad = someone(&issuing);
    world.list("crl.d/root.crl", &root, &spec(1));
    world.list("crl.d/issuing.crl", &issuing, &spec(5).naming(&bad.leaf));
    world.list("other.d/issuing.crl", &issuing, &spec(1));
    let server = world.builder().crl_dir(world.path("other.d")).load().unwrap();
    assert!(!world.lets_in(&server, &bad));
    fs::remove_file(world.path("crl.d/issuing.crl")).unwrap();
    let answer = server.reload_now();
    assert!(!world.lets_in(&server, &bad), "{answer:?} {:?}", world.warnings());
}

/// A certificate on hold is released by any valid list of the same CA, key and scope with a higher
/// number and no earlier date of issue.
#[test]
fn inv14_hold_is_released_by_any_valid_newer_list() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let held = someone(&ca);
    let serial = der::fields(&held.leaf).unwrap().serial.to_vec();
    let now = SystemTime::now();
    world.list("crl.d/1.crl", &ca, &ListSpec { revoked: vec![(serial, Some(HOLD))], ..spec(4) });
    world.list("crl.d/2.crl", &ca, &spec(5));
    assert!(world.lets_in(&world.builder().load().unwrap(), &held), "released by 5");
    let expired = ListSpec { window: (now - 2 * HOUR, now - HOUR), ..spec(6) };
    let anew = ListSpec { window: (now - 2 * HOUR, now + HOUR), ..spec(1) };
    let let_in = [expired, anew].map(|third| {
        world.list("crl.d/3.crl", &ca, &third);
        world.lets_in(&world.builder().load().unwrap(), &held)
    });
    assert_eq!(
        let_in,
        [true, true],
        "beside a later list that has expired, and one that counts from 1 again"
    );
}

/// The usual bundle of a PKI with two levels: the root alone, whose clients send the intermediate.
#[test]
fn inv16_leaf_only_warnings_are_true_of_a_root() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let issuing = root.intermediate("issuing");
    let good = someone(&issuing);
    let now = SystemTime::now();
    world.list("crl.d/issuing.crl", &issuing, &spec(1));
    let mut said = Vec::new();
    for expired in [false, true] {
        if expired {
            let window = (now - 2 * HOUR, now - HOUR);
            world.list("crl.d/root.crl", &root, &ListSpec { window, ..spec(1) });
        }
        let server = world.builder().only_check_end_entity_revocation().load().unwrap();
        assert!(world.lets_in(&server, &good));
        said.extend(world.warnings());
    }
    let all = said.len();
    said.retain(|said| said.contains("each client whose certificate it issued itself is rejected"));
    assert_eq!((said.len(), all), (2, 2), "{said:?}");
}

/// A set goes back to an older list, which another set has too.
#[test]
fn inv16_list_that_lies_in_two_sets_is_not_said_to_be_gone() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    world.list("crl.d/own.crl", &ca, &spec(1));
    world.list("other.d/own.crl", &ca, &spec(2));
    let server = world.builder().crl_dir(world.path("other.d")).load().unwrap();
    world.put("other.d/own.crl", &fs::read(world.path("crl.d/own.crl")).unwrap());
    let answer = server.reload_now();
    let is_false = matches!(&answer, Reload::Refused(why) if why.to_string().contains("there is no CRL of CN=clients here"));
    assert!(!is_false, "{answer:?}");
}

/// A list in the name of a CA of the bundle that is not signed by it is refused where no other list
/// has that name.
#[test]
fn inv14_forged_list_does_not_excuse_another() {
    let (world, [ca, forger]) = (World::new(), ["clients"; 2].map(Authority::root));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    world.list("crl.d/own.crl", &forger, &spec(1));
    assert!(world.builder().load().is_err(), "alone it is refused");
    let spelt = [&[0x31, 16, 0x30, 14, 6, 3, 0x55, 4, 3, 0x13, 7], &b"clients"[..]].concat();
    world.list("crl.d/other.crl", &forger, &ListSpec { issuer: Some(spelt), ..spec(2) });
    assert!(world.builder().load().is_err(), "{:?}", world.warnings());
}

/// Other shards do not show which certificates are revoked now, and the older list would count
/// again.
#[test]
fn inv14_shard_does_not_stand_in_for_a_list_that_went() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let bad = someone(&ca);
    world.list("crl.d/own.crl", &ca, &spec(5).naming(&bad.leaf));
    world.list("other.d/own.crl", &ca, &spec(1));
    let server = world.builder().crl_dir(world.path("other.d")).load().unwrap();
    assert!(!world.lets_in(&server, &bad));
    world.list("crl.d/own.crl", &ca, &spec(6).at("http://crl.example/a"));
    let answer = server.reload_now();
    assert!(!world.lets_in(&server, &bad), "{answer:?} {:?}", world.warnings());
    let Reload::Refused(error) = answer else { panic!("{answer:?}") };
    let why = "there is no CRL of CN=clients for the same certificates here any more";
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn inv14_order_of_the_points_of_a_list_changes_nothing() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let at = |number, points: [&str; 2]| {
        points.iter().fold(spec(number), |spec, point| spec.at(&format!("http://crl.example/{point}")))
    };
    world.list("crl.d/own.crl", &ca, &at(1, ["a", "b"]));
    let server = world.builder().load().unwrap();
    world.warnings();
    world.list("crl.d/own.crl", &ca, &at(2, ["b", "a"]));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(server.current().value.trust_epoch(), 1);
    assert!(!world.reported_reduced_trust());
    assert_eq!(world.warnings(), Vec::<String>::new());
}

/// The published set has one list, of a narrower scope than the served one.
#[test]
fn inv14_list_of_a_narrower_scope_lets_nobody_in_whom_the_wider_named() {
    let narrower: [fn(ListSpec) -> ListSpec; 3] = [
        |spec| spec.at("http://crl.example/a"),
        |spec| ListSpec { authorities: true, ..spec },
        |spec| ListSpec { authorities: true, ..spec.at("http://crl.example/a") },
    ];
    for (narrower, of_intermediate) in narrower.into_iter().flat_map(|one| [(one, false), (one, true)]) {
        let (world, root) = (World::new(), Authority::root("clients"));
        world.put("ca/ca.crt", root.pem.as_bytes());
        let ca = if of_intermediate { root.intermediate("issuing") } else { Authority::root("other") };
        if of_intermediate {
            world.list("crl.d/root.crl", &root, &spec(1));
        } else {
            world.put("ca/ca.crt", ca.pem.as_bytes());
        }
        let (good, bad) = (someone(&ca), someone(&ca));
        let own = "crl.d/own.crl";
        world.list(own, &ca, &spec(1).naming(&bad.leaf));
        let allows = || world.builder().allow_unknown_revocation_status();
        let [strict, allowing] = [world.builder(), allows()].map(|server| server.load().unwrap());
        world.list(own, &ca, &narrower(spec(2)));
        let Reload::Refused(error) = allowing.reload_now() else {
            panic!("accepted: {:?}", world.warnings())
        };
        let why = "covers the certificates of this one any more: remove it once it has expired";
        assert!(error.to_string().contains(why), "{error}");
        // Everybody is of unknown status, which is rejected.
        assert_eq!(strict.reload_now(), Reload::Reloaded);
        let accepted = [&good, &bad].map(|shown| [&strict, &allowing].map(|of| world.lets_in(of, shown)));
        assert_eq!(accepted, [[false, true], [false, false]]);
        // Beside the wider list, and in the other direction, the scope is no reason to reject.
        world.list("crl.d/more.crl", &ca, &spec(3).naming(&bad.leaf));
        assert_eq!(allowing.reload_now(), Reload::Reloaded);
        assert!(!world.lets_in(&allowing, &bad));
        world.list(own, &ca, &spec(4).naming(&bad.leaf));
        assert_eq!(allowing.reload_now(), Reload::Reloaded);
        assert!(!world.lets_in(&allowing, &bad) && world.lets_in(&allowing, &good));
    }
}

#[test]
fn inv14_lists_that_cover_the_same_together_replace_one() {
    let (a, b) = ("http://crl.example/a", "http://crl.example/b");
    let parts = |spec: ListSpec, by_kind: bool| match by_kind {
        true => [ListSpec { users: true, ..spec.clone() }, ListSpec { authorities: true, ..spec }],
        false => [spec.clone().at(a), spec.at(b)],
    };
    for by_kind in [true, false] {
        let (world, ca) = (World::new(), Authority::root("clients"));
        world.put("ca/ca.crt", ca.pem.as_bytes());
        let whole = if by_kind { spec(1) } else { spec(1).at(b).at(a) };
        world.list("crl.d/1.crl", &ca, &whole);
        let server = world.builder().allow_unknown_revocation_status().load().unwrap();
        let [first, second] = parts(spec(2), by_kind);
        // One of the two is not enough.
        world.list("crl.d/1.crl", &ca, &first);
        assert!(matches!(server.reload_now(), Reload::Refused(_)), "{:?}", world.warnings());
        world.list("crl.d/2.crl", &ca, &second);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(world.lets_in(&server, &someone(&ca)));
    }
    // By this policy no CA is looked up.
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    world.list("crl.d/1.crl", &ca, &spec(1));
    let server = world.builder().allow_unknown_revocation_status().only_check_end_entity_revocation();
    let server = server.load().unwrap();
    world.list("crl.d/1.crl", &ca, &ListSpec { users: true, ..spec(2) });
    assert_eq!(server.reload_now(), Reload::Reloaded);
}

/// Another CA that leaves the bundle is no reason.
#[test]
fn inv14_removed_ca_excuses_no_narrower_list_of_another() {
    let (world, [ca, other]) = (World::new(), ["clients", "other"].map(Authority::root));
    world.put("ca/ca.crt", format!("{}{}", ca.pem, other.pem).as_bytes());
    let bad = someone(&ca);
    world.list("crl.d/own.crl", &ca, &spec(1).naming(&bad.leaf));
    // Bundle and list change together.
    let server = world.builder().crls_with_client_ca(true).allow_unknown_revocation_status();
    let server = server.load().unwrap();
    world.put("ca/ca.crt", ca.pem.as_bytes());
    world.list("crl.d/own.crl", &ca, &spec(2).at("http://crl.example/a"));
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert!(!world.lets_in(&server, &bad));
}

/// Two CAs of one name count their certificates from the same number on.
#[test]
fn inv14_shard_of_another_key_says_nothing_about_what_it_does_not_cover() {
    let (world, root) = (World::new(), Authority::root("root"));
    world.put("ca/ca.crt", root.pem.as_bytes());
    let [own, other] = ["issuing"; 2].map(|name| root.intermediate(name));
    let client = someone(&own);
    world.list("crl.d/root.crl", &root, &spec(1));
    let shard = spec(1).at("http://crl.example/a");
    world.list("crl.d/other.crl", &other, &shard.naming(&client.leaf));
    let server = world.builder().allow_unknown_revocation_status().load().unwrap();
    assert!(world.lets_in(&server, &client));
    // A list that covers the client and that its CA did not sign leaves its status in doubt.
    world.list("crl.d/other.crl", &other, &spec(2).naming(&client.leaf));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(!world.lets_in(&server, &client));
}

/// A start does not know earlier lists.
#[test]
fn inv16_restart_takes_a_lost_list_that_a_reload_refuses() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let bad = someone(&ca);
    world.list("crl.d/unrelated.crl", &Authority::root("unrelated"), &spec(1));
    world.list("crl.d/own.crl", &ca, &spec(5).naming(&bad.leaf));
    world.list("other.d/own.crl", &ca, &spec(1));
    let start = || world.builder().crl_dir(world.path("other.d")).load();
    let server = start().unwrap();
    fs::remove_file(world.path("crl.d/own.crl")).unwrap();
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert!(!world.lets_in(&server, &bad));
    assert!(world.lets_in(&start().unwrap(), &bad));
}

/// The bundle has a CA without a list. Another publisher issues another CA's list anew, every hour.
#[test]
fn inv11_warning_about_a_ca_without_a_list_is_given_once() {
    let (world, [ca, bare]) = (World::new(), ["clients", "bare"].map(Authority::root));
    world.put("ca/ca.crt", format!("{}{}", ca.pem, bare.pem).as_bytes());
    world.list("crl.d/own.crl", &ca, &spec(1));
    let server = world.builder().load().unwrap();
    assert_eq!(world.warnings().len(), 1);
    world.list("crl.d/own.crl", &ca, &spec(2));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(world.warnings(), Vec::<String>::new());
}

/// One publisher has bundle and list. A CA gets another name and keeps its key, and both files come
/// in one update.
#[test]
fn inv14_ca_renamed_with_its_key_is_taken() {
    let (world, ca) = (World::new(), Authority::root("before"));
    let now = SystemTime::now();
    let put = |name: &str| {
        world.put("ca/ca.crt", ca.twin(name, (now - HOUR, now + HOUR)).as_bytes());
        let length = |more: usize| u8::try_from(name.len() + more).unwrap();
        let spelt = [&[0x31, length(9), 0x30, length(7), 6, 3, 0x55, 4, 3, 0x0c, length(0)], name.as_bytes()];
        world.list("ca/ca.crl", &ca, &ListSpec { issuer: Some(spelt.concat()), ..spec(1) });
    };
    let server = || {
        let server = ServerReloader::builder(world.path("tls/tls.crt"), world.path("tls/tls.key"));
        let server = server.client_ca(world.path("ca/ca.crt"), ClientAuth::Required).timing(quick());
        server.crl(world.path("ca/ca.crl")).load().unwrap()
    };
    put("before");
    let running = server();
    assert!(world.lets_in(&running, &someone(&ca)));
    put("after");
    let answer = running.reload_now();
    drop(server());
    assert_eq!(answer, Reload::Reloaded, "a start takes it");
}
