//! Several CRLs of one issuer, tested by real handshakes: shards, keys, names and
//! sizes.
//!
//! Checks: INV-14.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, client_with, handshake};
use rustls::version::{TLS12, TLS13};
use rustls_reload::{ClientAuth, Event, Layer, Reload, ServerBuilder, ServerReloader, internal::der};
use rustls_reload_testkit::{Authority, HOLD, ListSpec, Pair, PrivateKey, Subject};

const HOUR: Duration = Duration::from_secs(3600);
const A: &str = "http://crl.example/a";
const B: &str = "http://crl.example/b";

/// A server whose files are in a directory of their own.
struct World {
    dir: tempfile::TempDir,
    of: Generation,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), of: Generation::new(0) };
        let [chain, key, _] = world.of.files();
        for (name, bytes) in [chain, key] {
            world.put(name, bytes);
        }
        world.put("ca.crt", world.of.ca.pem.as_bytes());
        world
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        common::replace(&self.dir.path().join(name), bytes);
    }

    /// Returns the builder of a server with these lists, each in a file of its own, in this order.
    fn server(&self, lists: &[&ListSpec]) -> ServerBuilder {
        let lists: Vec<_> = lists.iter().map(|spec| self.of.ca.list(spec).der.to_vec()).collect();
        self.server_of(&lists)
    }

    fn server_of(&self, lists: &[Vec<u8>]) -> ServerBuilder {
        let dir = self.dir.path();
        for (i, list) in lists.iter().enumerate() {
            self.put(&format!("{i}.crl"), list);
        }
        let server = common::server_in(dir).client_ca(dir.join("ca.crt"), ClientAuth::Required);
        (0..lists.len()).fold(server, |server, i| server.crl(dir.join(format!("{i}.crl"))))
    }

    /// Makes a client with a key of its own, because the factory derives serial numbers from keys.
    fn client(&self, points: &[&str]) -> Pair {
        self.of.ca.issue_listed_at(&Subject::client("client"), &PrivateKey::p256(), points)
    }

    /// Returns whether a client with this pair is let in, which is the same in both versions.
    fn lets_in(&self, server: &ServerReloader, shown: &Pair) -> bool {
        let [old, new] = [&TLS12, &TLS13].map(|version| {
            handshake(&server.config(), &client_with(&[&self.of.ca], Some(shown), &[version])).is_ok()
        });
        assert_eq!(old, new, "TLS 1.2 and 1.3 differ");
        new
    }
}

/// Describes an empty list. A later list has a higher number.
fn spec(number: u64) -> ListSpec {
    let now = SystemTime::now();
    ListSpec { window: (now - HOUR + Duration::from_secs(number), now + HOUR), ..ListSpec::new(number) }
}

fn loaded(server: ServerBuilder) -> (ServerReloader, Vec<String>) {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reported);
    let server = server.on_event(move |event| {
        if let Event::Warning { warning } = event
            && warning.layer() == Layer::Crl
        {
            sink.lock().unwrap().push(warning.to_string());
        }
    });
    let server = server.load().unwrap();
    let reported = reported.lock().unwrap().clone();
    (server, reported)
}

#[test]
fn inv14_revoked_in_older_shard_is_refused_in_any_order() {
    let world = World::new();
    for points in [&[][..], &[A], &[B], &[A, B]] {
        let client = world.client(points);
        let older = spec(1).at(A).naming(&client.leaf);
        let newer = spec(2).at(B);
        for lists in [[&older, &newer], [&newer, &older]] {
            let (server, _) = loaded(world.server(&lists).allow_unknown_revocation_status());
            assert!(!world.lets_in(&server, &client), "{points:?} {lists:?}");
        }
        let complete = spec(3);
        for lists in [[&older, &complete], [&complete, &older]] {
            let (server, _) = loaded(world.server(&lists));
            assert!(!world.lets_in(&server, &client), "{points:?} {lists:?}");
        }
    }
}

#[test]
fn inv14_shard_covers_only_certificates_that_name_it() {
    let world = World::new();
    let shards = [&spec(1).at(A), &spec(2).at(B).at("http://mirror.example/b")];
    let (strict, _) = loaded(world.server(&shards));
    let (lenient, _) = loaded(world.server(&shards).allow_unknown_revocation_status());
    let rows: [(&[&str], bool); 6] = [
        (&[], false),
        (&[A], true),
        (&[B], true),
        (&["http://mirror.example/b"], true),
        (&["http://crl.example/c"], false),
        (&["http://crl.example/c", A], true),
    ];
    for (points, covered) in rows {
        let client = world.client(points);
        assert_eq!(world.lets_in(&strict, &client), covered, "{points:?}");
        assert!(world.lets_in(&lenient, &client), "{points:?}");
    }
}

#[test]
fn inv14_expired_shard_rejects_only_clients_that_no_other_covers() {
    let world = World::new();
    let over = (SystemTime::now() - 2 * HOUR, SystemTime::now() - HOUR);
    let expired = ListSpec { window: over, ..spec(1).at(A) };
    let [of_a, of_b, of_both] = [&[A][..], &[B], &[A, B]].map(|points| world.client(points));
    for allows_unknown in [false, true] {
        let server = world.server(&[&expired, &spec(2).at(B)]);
        let server = if allows_unknown { server.allow_unknown_revocation_status() } else { server };
        let (server, mut reported) = loaded(server);
        // Clients that name neither point are the subject of another warning.
        reported.retain(|warning| !warning.contains(" cover only "));
        let let_in = [&of_a, &of_b, &of_both].map(|client| world.lets_in(&server, client));
        assert_eq!(let_in, [false, true, true], "{allows_unknown}");
        let effect = "a client certificate that it covers, and no other valid list does, is rejected";
        assert!(reported.len() == 1 && reported[0].ends_with(effect), "{reported:?}");
    }
    // Alone, and with all certificates in its scope, it refuses every client.
    let (server, reported) =
        loaded(world.server(&[&ListSpec { window: over, ..spec(1) }]).allow_unknown_revocation_status());
    assert!(reported.len() == 1 && reported[0].ends_with("no client of it is let in"), "{reported:?}");
    assert!(![&of_a, &of_b, &of_both].map(|client| world.lets_in(&server, client)).contains(&true));
}

#[test]
fn inv14_scope_without_a_name_is_taken_by_its_flags() {
    let world = World::new();
    let intermediate = world.of.ca.intermediate("intermediate");
    let above = intermediate.issue_with_chain(&Subject::client("client"), &PrivateKey::p256());
    let own = world.client(&[A]);
    let of_intermediate = intermediate.list(&spec(1)).der.to_vec();
    let rows = [(true, false, [true, false]), (false, true, [false, true]), (true, true, [false, false])];
    for (users, authorities, let_in) in rows {
        let list = world.of.ca.list(&ListSpec { users, authorities, ..spec(1) }).der.to_vec();
        let (server, _) = loaded(world.server_of(&[list, of_intermediate.clone()]));
        assert_eq!(
            [&own, &above].map(|client| world.lets_in(&server, client)),
            let_in,
            "{users} {authorities}"
        );
    }
}

#[test]
fn inv14_intermediate_named_by_any_list_is_refused() {
    let world = World::new();
    let intermediate = world.of.ca.intermediate_listed_at("intermediate", &[A]);
    let client = intermediate.issue_with_chain(&Subject::client("client"), &PrivateKey::p256());
    let of_intermediate = intermediate.list(&spec(1)).der.to_vec();
    let named = spec(1).at(B).naming(intermediate.der());
    for (specs, strict) in
        [(vec![&named, &spec(2).at(A)], false), (vec![&spec(2).at(A), &spec(3).at(B)], true)]
    {
        let mut lists: Vec<_> = specs.iter().map(|spec| world.of.ca.list(spec).der.to_vec()).collect();
        lists.push(of_intermediate.clone());
        let (server, _) = loaded(world.server_of(&lists));
        assert_eq!(world.lets_in(&server, &client), strict);
        let (server, _) = loaded(world.server_of(&lists).only_check_end_entity_revocation());
        assert!(world.lets_in(&server, &client), "the intermediate is not asked for");
    }
}

#[test]
fn inv14_list_of_intermediate_by_another_key_counts_for_nobody() {
    let world = World::new();
    let [first, twin] = ["intermediate"; 2].map(|name| world.of.ca.intermediate(name));
    let [of_first, of_twin] =
        [&first, &twin].map(|of| of.issue_with_chain(&Subject::client("client"), &PrivateKey::p256()));
    let root = world.of.ca.list(&spec(1)).der.to_vec();
    let list = |of: &Authority, spec: ListSpec| of.list(&spec).der.to_vec();
    // The list of one authority does not count for the other, not even where an unknown status is
    // allowed.
    let only_first = [root.clone(), list(&first, spec(1))];
    for server in
        [world.server_of(&only_first), world.server_of(&only_first).allow_unknown_revocation_status()]
    {
        let (server, _) = loaded(server);
        assert_eq!([&of_first, &of_twin].map(|client| world.lets_in(&server, client)), [true, false]);
    }
    // With a list of each, both accept clients, and each list refuses clients of its own authority.
    let both = [root.clone(), list(&first, spec(1)), list(&twin, spec(2).naming(&of_first.leaf))];
    let (server, _) = loaded(world.server_of(&both));
    assert_eq!([&of_first, &of_twin].map(|client| world.lets_in(&server, client)), [true, true]);
    let both = [root, list(&first, spec(1).naming(&of_first.leaf)), list(&twin, spec(2))];
    let (server, _) = loaded(world.server_of(&both));
    assert_eq!([&of_first, &of_twin].map(|client| world.lets_in(&server, client)), [false, true]);
}

#[test]
fn inv14_two_cas_of_one_name_have_their_own_lists() {
    let world = World::new();
    let other = Authority::root("CA 0");
    world.put("ca.crt", format!("{}{}", world.of.ca.pem, other.pem).as_bytes());
    let (ours, theirs) = (world.client(&[]), other.issue(&Subject::client("client"), &PrivateKey::p256()));
    let ours_listed = world.of.ca.list(&spec(1).naming(&theirs.leaf)).der.to_vec();
    let theirs_listed = |spec: ListSpec| other.list(&spec).der.to_vec();
    let let_in = |server: &ServerReloader| [&ours, &theirs].map(|client| world.lets_in(server, client));
    let (server, reported) = loaded(world.server_of(&[ours_listed.clone(), theirs_listed(spec(2))]));
    assert_eq!((let_in(&server), reported), ([true, true], Vec::new()));
    let revoked = theirs_listed(spec(2).naming(&theirs.leaf));
    let (server, _) = loaded(world.server_of(&[ours_listed.clone(), revoked]));
    assert_eq!(let_in(&server), [true, false]);
    // The CA whose key has no list is distinguished from the CA of the same name that has one.
    let (server, reported) = loaded(world.server_of(std::slice::from_ref(&ours_listed)));
    assert_eq!(let_in(&server), [true, false]);
    assert!(
        reported.len() == 1 && reported[0].contains("no CRL of CN=CA 0 with the public key"),
        "{reported:?}"
    );
    // The CA cannot lose its list to the other's.
    let (server, _) = loaded(world.server_of(&[ours_listed.clone(), theirs_listed(spec(2))]));
    world.put("1.crl", &ours_listed);
    let Reload::Refused(error) = server.reload_now() else { panic!("a list was lost") };
    assert!(error.to_string().contains("there is no CRL of CN=CA 0 any more"), "{error}");
}

#[test]
fn inv14_hold_is_released_by_newer_list_and_revocation_never() {
    let world = World::new();
    let client = world.client(&[]);
    let serial = der::fields(&client.leaf).unwrap().serial.to_vec();
    let named = |reason| ListSpec { revoked: vec![(serial.clone(), reason)], ..spec(1) };
    let other_scope = spec(2).at(A);
    for (older, newer, let_in) in [
        (named(None), spec(2), false),
        (named(Some(1)), spec(2), false),
        (named(Some(HOLD)), spec(2), true),
        (named(Some(HOLD)), other_scope, false),
        (named(Some(HOLD)), ListSpec { number: 1, ..spec(2) }, false),
        (
            named(Some(HOLD)),
            ListSpec { window: (SystemTime::now() - 2 * HOUR, SystemTime::now() + HOUR), ..spec(2) },
            false,
        ),
    ] {
        for lists in [[&older, &newer], [&newer, &older]] {
            let (server, _) = loaded(world.server(&lists));
            assert_eq!(world.lets_in(&server, &client), let_in, "{lists:?}");
        }
    }
}

#[test]
fn inv14_list_under_other_spelling_counts_by_its_key() {
    let world = World::new();
    let (bad, good) = (world.client(&[]), world.client(&[]));
    let name = |kind: u8, text: &[u8]| {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let value = |tag: u8, content: &[u8]| [&[tag, length(content)], content].concat();
        value(0x31, &value(0x30, &[value(6, &[0x55, 4, 3]), value(kind, text)].concat()))
    };
    let wide: Vec<u8> = "CA 0".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let rows: [(u8, &[u8], &str); 5] = [
        (0x13, b"CA 0", "PrintableString here, UTF8String there"),
        (0x14, b"CA 0", "TeletexString here, UTF8String there"),
        (0x1e, &wide, "BMPString here, UTF8String there"),
        (0x0c, b"ca  0 ", "UTF8String here, UTF8String there; or in case, or in spaces"),
        (0x0c, b"CA 1", ""),
    ];
    for (kind, text, reported_of) in rows {
        let issuer = Some(name(kind, text));
        let (server, reported) = loaded(world.server(&[&ListSpec { issuer, ..spec(1).naming(&bad.leaf) }]));
        let same = !reported_of.is_empty();
        assert_eq!([&bad, &good].map(|client| world.lets_in(&server, client)), [false, same], "{reported:?}");
        assert_eq!(reported.len(), 1, "{reported:?}");
        if same {
            assert!(
                reported[0].contains("differ in their encoding only") && reported[0].contains(reported_of),
                "{reported:?}"
            );
            assert!(reported[0].contains("it counts all the same"), "{reported:?}");
        } else {
            assert!(
                reported[0].contains("there is no CRL of CN=CA 0 with the public key ")
                    && reported[0].ends_with(": no client of it is let in"),
                "{reported:?}"
            );
        }
    }
    // Signed by another key it is no list of that CA.
    let issuer = Some(name(0x13, b"CA 0"));
    let forged = Authority::root("CA 0").list(&ListSpec { issuer, ..spec(1) }).der.to_vec();
    let (server, reported) = loaded(world.server_of(&[forged]));
    assert!(!world.lets_in(&server, &good));
    assert!(
        reported.iter().any(|reported| reported.contains("it does not count for that CA")),
        "{reported:?}"
    );
}

#[test]
fn inv14_sessions_end_with_what_lists_say_and_not_with_their_order() {
    let world = World::new();
    let client = world.client(&[]);
    let (one, two) = (spec(1).naming(&client.leaf), spec(2).at(A));
    let (server, _) = loaded(world.server(&[&one, &two]));
    let epoch = || server.current().value.trust_epoch();
    let put = |i: usize, spec: &ListSpec| {
        world.put(&format!("{i}.crl"), &world.of.ca.list(spec).der);
        assert_eq!(server.reload_now(), Reload::Reloaded);
    };
    // The lists are issued anew and exchange their order, which changes no trust.
    put(1, &ListSpec { number: 7, ..spec(7).at(A) });
    put(0, &ListSpec { number: 9, ..spec(9).naming(&client.leaf) });
    assert_eq!(epoch(), 1);
    // Another list that revokes a certificate, or covers other certificates, changes the trust.
    let other = world.client(&[]).leaf;
    put(1, &spec(8).at(A).naming(&other));
    assert_eq!(epoch(), 2);
    put(1, &spec(8).at(B).naming(&other));
    assert_eq!(epoch(), 3);
}

#[test]
fn inv16_lists_of_a_directory_alone_are_warned_of_together() {
    let world = World::new();
    let lists = world.dir.path().join("crl.d");
    fs::create_dir(&lists).unwrap();
    let mut text = world.of.ca.list(&spec(1)).pem.into_bytes();
    text.resize(28 << 20, b'\n');
    let paths = ["one.crl", "two.crl"].map(|name| lists.join(name));
    paths.iter().for_each(|path| fs::write(path, &text).unwrap());
    let is_warned = |server| loaded(server).1.iter().any(|why| why.contains("the CRLs in it together: "));
    assert!(is_warned(world.server(&[]).crl_dir(&lists)));
    assert!(!is_warned(paths.iter().fold(world.server(&[]), |server, path| server.crl(path))));
    // A file that is there twice counts once.
    fs::remove_file(&paths[1]).unwrap();
    assert!(!is_warned(world.server(&[]).crl(&paths[0]).crl_dir(&lists).crl_dir(&lists)));
}

#[test]
fn inv12_crl_over_4_mib_is_served_and_such_a_key_rejected() {
    let world = World::new();
    let (bad, good) = (world.client(&[]), world.client(&[]));
    let serial = |n: u32| [&[0x11; 12], &n.to_be_bytes()[..]].concat();
    let mut spec = spec(1).naming(&bad.leaf);
    spec.revoked.extend((0..140_000).map(|n| (serial(n), None)));
    let list = world.of.ca.list(&spec).der.to_vec();
    assert!(list.len() > 4 << 20);
    let (server, reported) = loaded(world.server_of(&[list]));
    assert_eq!([&bad, &good].map(|client| world.lets_in(&server, client)), [false, true]);
    assert!(reported.len() == 1 && reported[0].contains("bytes are a large file"), "{reported:?}");
    // The leaf is renewed beside the list, which changes no trust.
    world.put("tls.crt", format!("{}\n", world.of.server.chain).as_bytes());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(server.current().value.trust_epoch(), 1);
    // Other files keep their limit, with a warning from 80 % of it on.
    let padded = |length: usize| {
        let mut text = world.of.ca.pem.clone().into_bytes();
        text.resize(length, b'\n');
        text
    };
    world.put("ca.crt", &padded((4 << 20) * 4 / 5));
    let warned = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&warned);
    let server = world.server(&[&ListSpec::new(1)]).on_event(move |event| {
        if let Event::Warning { warning } = event {
            sink.lock().unwrap().push(warning.to_string());
        }
    });
    drop(server.load().unwrap());
    let warned = warned.lock().unwrap().clone();
    assert!(warned.len() == 1 && warned[0].contains("close to the limit of 4194304"), "{warned:?}");
    world.put("ca.crt", &padded((4 << 20) + 1));
    let error = world.server(&[&ListSpec::new(1)]).load().unwrap_err();
    assert_eq!((error.layer(), error.path()), (Layer::Read, Some(world.dir.path().join("ca.crt").as_path())));
    assert!(fs::metadata(world.dir.path().join("ca.crt")).unwrap().len() > 4 << 20);
}
