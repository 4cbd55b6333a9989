//! Several pairs by server name, with real handshakes: which pair serves a client, and the effect
//! of a bad pair on the others.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{
    self, NamedFile, Volume, client_with, drain, expect, handshake_as, published, refused, sessions::KINDS,
    started,
};
use rustls::{
    ClientConfig, NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    crypto::ring::Ticketer,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use rustls_reload::{Event, Layer, Reload, ServerBuilder, ServerReloader};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

/// A pair for these names in a volume of its own.
struct Site {
    pair: Pair,
    volume: Volume,
}

impl Site {
    fn new(ca: &Authority, names: &[&str]) -> Self {
        let pair = issue(ca, names);
        let volume = Volume::new(&files(&pair));
        Self { pair, volume }
    }

    fn chain(&self) -> std::path::PathBuf {
        self.volume.path("tls.crt")
    }

    fn key(&self) -> std::path::PathBuf {
        self.volume.path("tls.key")
    }

    /// Replaces the pair by one for these names.
    fn renew(&mut self, ca: &Authority, names: &[&str]) {
        self.pair = issue(ca, names);
        self.volume.publish(&files(&self.pair));
    }
}

fn issue(ca: &Authority, names: &[&str]) -> Pair {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    ca.issue(&Subject { names, ..Subject::server("unused") }, &PrivateKey::p256())
}

fn files(pair: &Pair) -> [NamedFile<'_>; 2] {
    [("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]
}

/// A default pair and two further ones: one with the names of its leaf, one with given names.
struct World {
    ca: Authority,
    default: Site,
    named: Site,
    given: Site,
}

impl World {
    fn new() -> Self {
        let ca = Authority::root("CA of the pairs");
        let default = Site::new(&ca, &["default.test", "a.named.test"]);
        let named = Site::new(&ca, &["named.test", "*.named.test", "Upper.Test"]);
        let given = Site::new(&ca, &["given.test", "exact.named.test", "other.test"]);
        Self { ca, default, named, given }
    }

    fn builder(&self) -> ServerBuilder {
        self.default.volume.server().pair(self.named.chain(), self.named.key()).pair_for(
            ["GIVEN.test", "exact.named.test."],
            self.given.chain(),
            self.given.key(),
        )
    }

    fn site(&self, which: &str) -> &Site {
        match which {
            "default" => &self.default,
            "named" => &self.named,
            _ => &self.given,
        }
    }
}

/// Returns the leaf that a client with this server name gets, which is the same in both protocol
/// versions.
fn answers(server: &ServerReloader, ca: &Authority, name: &str) -> Result<Vec<u8>, rustls::Error> {
    let mut leaves = Vec::new();
    for version in [&TLS12, &TLS13] {
        let client = client_with(&[ca], None, &[version]);
        leaves.push(handshake_as(&server.config(), &client, name)?.leaf().to_vec());
    }
    assert_eq!(leaves[0], leaves[1], "{name}: another pair by another version");
    Ok(leaves.remove(0))
}

#[track_caller]
fn is_answered_by(server: &ServerReloader, world: &World, name: &str, which: &str) {
    let leaf = answers(server, &world.ca, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(leaf == world.site(which).pair.leaf.as_ref(), "{name} is not answered by {which}");
}

/// Names in the leaf of their pair, so that a client accepts it: exact names, wildcards and given
/// names.
const ANSWERED: [(&str, &str); 7] = [
    ("default.test", "default"),
    ("named.test", "named"),
    ("NAMED.test", "named"),
    ("upper.test", "named"),
    // The default pair's leaf has the name too. A further pair takes precedence.
    ("a.named.test", "named"),
    ("given.test", "given"),
    // An exact name takes precedence over another pair's wildcard.
    ("exact.named.test", "given"),
];

#[test]
fn inv02_name_gets_its_exact_pair_before_a_wildcard_pair() {
    let world = World::new();
    let server = world.builder().load().unwrap();
    for (name, which) in ANSWERED {
        is_answered_by(&server, &world, name, which);
    }
    let served = server.current();
    let leaf_of = |name: Option<&str>| served.value.leaf_for(name).map(|leaf| leaf.serial.clone());
    let default = leaf_of(None).unwrap();
    assert_eq!(default, served.value.leaf.serial);
    // A wildcard does not match two labels. Where names are given, other names of the leaf do not
    // count.
    for unknown in ["b.a.named.test", "other.test", "unknown.test", "test"] {
        assert_eq!(leaf_of(Some(unknown)).as_ref(), Some(&default), "{unknown}");
    }
    assert_ne!(leaf_of(Some("x.NAMED.test")).unwrap(), default);
}

#[test]
fn inv02_strict_names_reject_unknown_sni_on_both_versions() {
    let world = World::new();
    let server = world.builder().strict_names(true).load().unwrap();
    for (name, which) in ANSWERED {
        is_answered_by(&server, &world, name, which);
    }
    for unknown in ["other.test", "b.a.named.test", ""] {
        for version in [&TLS12, &TLS13] {
            let client = client_with(&[&world.ca], None, &[version]);
            let error = handshake_as(&server.config(), &client, unknown).unwrap_err();
            assert!(
                !matches!(error, rustls::Error::InvalidCertificate(_)),
                "{unknown:?}: shown a certificate"
            );
        }
        assert_eq!(server.current().value.leaf_for(Some(unknown)), None);
    }
    assert_eq!(server.current().value.leaf_for(None), None);
}

#[test]
fn inv02_a_client_that_names_no_server_gets_the_default_pair() {
    let world = World::new();
    let server = world.builder().load().unwrap();
    let leaf = common::presented(&server).remove(0);
    assert_eq!(leaf, world.default.pair.leaf);
}

#[test]
fn inv02_unservable_name_is_an_error_that_names_the_pair() {
    let world = World::new();
    let refused = |builder: ServerBuilder| builder.load().map(drop).unwrap_err();
    let (chain, key) = (world.given.chain(), world.given.key());
    let server = || world.default.volume.server();
    for names in
        [&[][..], &[""], &["."], &["*"], &["a.*.test"], &["f*.test"], &["127.0.0.1"], &["a b"], &["a", "A."]]
    {
        let error = refused(server().pair_for(names, &chain, &key));
        assert_eq!((error.layer(), error.path()), (Layer::Settings, Some(&*chain)), "{names:?}");
    }
    for (chain, key) in [(Path::new(""), &*key), (&*chain, Path::new(""))] {
        assert_eq!(refused(server().pair(chain, key)).layer(), Layer::Settings);
    }
    let missing = refused(server().pair(&chain, world.given.volume.path("missing.key")));
    assert_eq!(missing.layer(), Layer::Read);
    // A name may be given only once. A wildcard and a name that it matches count as two names.
    let twice = refused(world.builder().pair_for(["given.test"], world.named.chain(), world.named.key()));
    assert_eq!((twice.layer(), twice.path()), (Layer::Names, Some(&*world.named.chain())));
    let nameless = Site::new(&world.ca, &["10.0.0.1"]);
    let error = refused(server().pair(nameless.chain(), nameless.key()));
    assert_eq!((error.layer(), error.path()), (Layer::Names, Some(&*nameless.chain())));
    let foreign = issue(&world.ca, &["foreign.test"]);
    let mixed =
        Volume::new(&[("tls.crt", foreign.chain.as_bytes()), ("tls.key", world.given.pair.key.as_bytes())]);
    assert_eq!(refused(server().pair(mixed.path("tls.crt"), mixed.path("tls.key"))).layer(), Layer::Match);
}

#[test]
fn inv03_bad_pair_keeps_its_last_good_and_blocks_no_other() {
    let mut world = World::new();
    let server = world.builder().load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    let good = issue(&world.ca, &["given.test"]);
    let chain = world.given.chain();
    world
        .given
        .volume
        .publish(&[("tls.crt", good.chain.as_bytes()), ("tls.key", world.named.pair.key.as_bytes())]);
    let (error, set) = expect(&mut events, "a refusal", |event| match event {
        Event::Refused { error, set, .. } => Some((error.clone(), set.clone())),
        _ => None,
    });
    assert_eq!((error.layer(), set.as_deref()), (Layer::Match, Some(&*chain)));
    for (name, which) in ANSWERED {
        is_answered_by(&server, &world, name, which);
    }
    // The other pairs can be renewed while the refusal stands.
    world.named.renew(&world.ca, &["named.test", "*.named.test", "upper.test"]);
    let set = expect(&mut events, "a publication", |event| match event {
        Event::Published { set, recovered: false, .. } => Some(set.clone()),
        _ => None,
    });
    assert_eq!(set.as_deref(), Some(&*world.named.chain()));
    world.default.renew(&world.ca, &["default.test"]);
    published(&mut events);
    for (name, which) in ANSWERED {
        is_answered_by(&server, &world, name, which);
    }
    let status = server.status();
    let reported: Vec<_> = status.sets.iter().map(|set| (set.generation, set.refused.is_some())).collect();
    assert_eq!(reported, [(3, false), (2, false), (1, true)]);
    assert_eq!(
        status.refused.map(|refused| refused.error.layer()),
        Some(Layer::Match),
        "the whole says so as well"
    );
    // The refused pair recovers by itself.
    world.given.renew(&world.ca, &["given.test", "exact.named.test"]);
    let set = expect(&mut events, "a publication", |event| match event {
        Event::Published { set, recovered: true, .. } => Some(set.clone()),
        _ => None,
    });
    assert_eq!(set.as_deref(), Some(&*chain));
    for (name, which) in ANSWERED {
        is_answered_by(&server, &world, name, which);
    }
    assert!(server.status().refused.is_none());
}

#[test]
fn inv02_pair_cannot_take_a_name_that_another_still_has() {
    let mut world = World::new();
    let mut other = Site::new(&world.ca, &["first.test", "shared.test"]);
    let server = world.default.volume.server().pair(world.named.chain(), world.named.key());
    let server = server.pair(other.chain(), other.key()).load().unwrap();
    let mut events = server.events();
    world.named.renew(&world.ca, &["named.test", "SHARED.test"]);
    let answer = server.reload_now();
    let Reload::Refused(error) = answer else { panic!("{answer:?}") };
    assert_eq!((error.layer(), error.path()), (Layer::Names, Some(&*world.named.chain())));
    assert_eq!(refused(&mut events).layer(), Layer::Names);
    assert_eq!(answers(&server, &world.ca, "shared.test").unwrap(), other.pair.leaf.as_ref());
    other.renew(&world.ca, &["first.test"]);
    // The sets are read in turn: first one is still refused, and after that the name is free.
    while server.reload_now() != Reload::Unchanged {}
    assert_eq!(answers(&server, &world.ca, "shared.test").unwrap(), world.named.pair.leaf.as_ref());
    assert_eq!(server.current().generation, 3);
    assert_eq!(drain(&mut events).len(), 2, "two publications and nothing else");
}

/// Checks: INV-16. The page on limits says so.
#[test]
fn inv16_pairs_that_exchange_names_wait_until_one_lets_go() {
    let mut world = World::new();
    let mut other = Site::new(&world.ca, &["other.test"]);
    let server = world.default.volume.server().pair(world.named.chain(), world.named.key());
    let server = server.pair(other.chain(), other.key()).load().unwrap();
    world.named.renew(&world.ca, &["other.test"]);
    other.renew(&world.ca, &["named.test"]);
    assert!((0..3).all(|_| matches!(server.reload_now(), Reload::Refused(_))));
    assert_eq!(server.current().generation, 1);
    other.renew(&world.ca, &["free.test"]);
    while server.reload_now() != Reload::Unchanged {}
    other.renew(&world.ca, &["named.test"]);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    for (name, site) in [("other.test", &world.named), ("named.test", &other)] {
        assert_eq!(answers(&server, &world.ca, name).unwrap(), site.pair.leaf.as_ref());
    }
}

/// A client's store that offers any session to any server, which no honest client does.
#[derive(Debug, Default)]
struct Mixing(Mutex<(Option<Tls12ClientSessionValue>, Vec<Tls13ClientSessionValue>)>);

impl ClientSessionStore for Mixing {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.lock().unwrap().0 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.lock().unwrap().0.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.lock().unwrap().0 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.lock().unwrap().1.push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().1.pop()
    }
}

/// Checks: INV-09. RFC 6066 section 3: no session resumes under another name than its own, whatever
/// the client offers.
#[test]
fn inv09_session_resumes_under_its_name_only_and_over_renewals() {
    for (version, tickets) in KINDS {
        let mut world = World::new();
        let builder = world.builder();
        let builder = if tickets { builder.tickets(Ticketer::new) } else { builder };
        let server = builder.load().unwrap();
        let client = || {
            let mut client: ClientConfig = client_with(&[&world.ca], None, &[version]).as_ref().clone();
            client.resumption = Resumption::store(Arc::new(Mixing::default()));
            Arc::new(client)
        };
        let resumes = |server: &ServerReloader, client: &Arc<ClientConfig>, name: &str| {
            handshake_as(&server.config(), client, name).unwrap().resumed
        };
        let case = format!("{:?}, tickets: {tickets}", version.version);
        // The rule also holds where both names belong to one pair.
        for (one, another) in
            [("named.test", "given.test"), ("default.test", "named.test"), ("named.test", "x.named.test")]
        {
            let client = client();
            assert!(!resumes(&server, &client, one), "{case}");
            assert!(resumes(&server, &client, one), "{case}: the client does offer it");
            assert!(!resumes(&server, &client, another), "{case}: a session of {one} under {another}");
        }
        let (mixing, old) = (client(), server.current());
        assert!(!resumes(&server, &mixing, "named.test"));
        world.given.renew(&world.ca, &["given.test", "exact.named.test", "other.test"]);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(resumes(&server, &mixing, "named.test"), "{case}: over a renewal of another pair");
        world.named.renew(&world.ca, &["named.test", "*.named.test", "Upper.Test"]);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(resumes(&server, &mixing, "named.test"), "{case}: over a renewal of its own pair");
        world.named.renew(&world.ca, &["named.test"]);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert!(!resumes(&server, &mixing, "named.test"), "{case}: over a change of names");
        let epochs = (old.value.trust_epoch(), server.current().value.trust_epoch());
        assert_eq!(epochs, (1, 2));
    }
}

#[test]
fn inv08_snapshot_of_unchanged_pairs_publishes_nothing() {
    let world = World::new();
    let server = world.builder().load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    assert_eq!(server.reload_now(), Reload::Unchanged);
    world.given.volume.path("tls.crt").metadata().unwrap();
    assert_eq!(server.wait_published(1, Duration::from_millis(300)).map(|_| ()), None);
    assert_eq!(drain(&mut events).len(), 0);
}
