//! Servers whose files change, and the handshakes that show who is let in.
//!
//! The table of scenarios is long and flat, so it stays in one file.

use std::{
    cell::Cell,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ServerConfig, crypto::ring::Ticketer, pki_types::UnixTime, time_provider::TimeProvider,
};
use rustls_reload::{ClientAuth, Event, Layer, Reload, ServerBuilder, ServerReloader};
use rustls_reload_testkit::{Authority, ListSpec, Pair, PrivateKey, Subject};

use crate::common::{CompletedHandshake, Handshake, client_with, handshake, handshake_as, server_in};

const DAY: Duration = Duration::from_secs(86_400);

/// A scenario and its name.
type Scenario = (&'static str, fn(&World));

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("dates-of-client-cas", dates_of_client_cas),
    ("revoked", revoked),
    ("revocation-unknown", revocation_unknown),
    ("list-expired", list_expired),
    ("list-older", list_older),
    ("list-gone", list_gone),
    ("list-of-some", list_of_some),
    ("list-of-another-key", list_of_another_key),
    ("leaf-only", leaf_only),
    ("client-auth", client_auth),
    ("server-names", server_names),
    ("sessions-over-renewal", sessions_over_renewal),
    ("sessions-over-trust", sessions_over_trust),
    ("sessions-off", sessions_off),
    ("sessions-of-a-name", sessions_of_a_name),
    ("sessions-over-dates", sessions_over_dates),
    ("resolver", resolver),
    ("client-ca-gone", client_ca_gone),
    ("handshake-under-way", handshake_under_way),
    ("trust-reduced", trust_reduced),
    ("server-dates", server_dates),
];

/// A directory with a pair, a client CA and the further files of a scenario.
pub(crate) struct World {
    dir: tempfile::TempDir,
    servers: Authority,
    pub(crate) clients: Authority,
    handshakes: Cell<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (servers, clients) = (Authority::root("servers"), Authority::root("clients"));
        let world = Self { dir: tempfile::tempdir().unwrap(), servers, clients, handshakes: Cell::new(0) };
        world.renew(&Subject::server("localhost"));
        world.write("ca.crt", &world.clients.pem);
        world
    }

    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.get()
    }

    /// Writes another certificate and key for the server.
    fn renew(&self, subject: &Subject) {
        self.pair("tls", subject);
    }

    fn pair(&self, name: &str, subject: &Subject) {
        let pair = self.servers.issue(subject, &PrivateKey::p256());
        self.write(&format!("{name}.crt"), &pair.chain);
        self.write(&format!("{name}.key"), &pair.key);
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    /// Returns a list of the client CA that revokes these clients and is due in so many days.
    fn list(&self, revoked: &[&Pair], days: i64, number: u64) -> Vec<u8> {
        list_of(&self.clients, revoked, days, number)
    }

    fn builder(&self) -> ServerBuilder {
        server_in(self.dir.path()).client_ca(self.dir.path().join("ca.crt"), ClientAuth::Required)
    }

    /// Returns the builder with the CRLs of `ca.crl`.
    fn with_list(&self) -> ServerBuilder {
        self.builder().crl(self.dir.path().join("ca.crl"))
    }

    fn issue(&self, name: &str) -> Pair {
        self.clients.issue(&Subject::client(name), &PrivateKey::p256())
    }

    fn client(&self, shown: Option<&Pair>) -> Arc<ClientConfig> {
        client_with(&[&self.servers], shown, rustls::ALL_VERSIONS)
    }

    /// Returns whether a client that shows this pair is let in.
    fn lets_in(&self, server: &ServerReloader, shown: &Pair) -> bool {
        self.takes(&server.config(), &self.client(Some(shown)))
    }

    fn takes(&self, server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> bool {
        self.handshakes.set(self.handshakes.get() + 1);
        handshake(server, client).is_ok()
    }

    /// Returns whether the next handshake of this client resumes.
    fn resumes(&self, server: &ServerReloader, client: &Arc<ClientConfig>) -> bool {
        self.connect(server, client).resumed
    }

    /// Makes a handshake that succeeds.
    fn connect(&self, server: &ServerReloader, client: &Arc<ClientConfig>) -> CompletedHandshake {
        self.handshakes.set(self.handshakes.get() + 1);
        handshake(&server.config(), client).unwrap()
    }
}

fn list_of(authority: &Authority, revoked: &[&Pair], days: i64, number: u64) -> Vec<u8> {
    let now = SystemTime::now();
    let revoked: Vec<_> = revoked.iter().map(|pair| &pair.leaf).collect();
    let days_from_now = DAY * u32::try_from(days.unsigned_abs()).unwrap();
    let due = if days < 0 { now - days_from_now } else { now + days_from_now };
    authority.crl(&revoked, (now - 99 * DAY, due), number).pem.into_bytes()
}

fn window(from: i64, to: i64) -> (SystemTime, SystemTime) {
    let at = |days: i64| {
        let by = DAY * u32::try_from(days.unsigned_abs()).unwrap();
        if days < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    };
    (at(from), at(to))
}

/// Clients of a CA that has expired, or is not valid yet, are let in, because rustls does not check
/// an anchor's dates.
fn dates_of_client_cas(world: &World) {
    let client = world.issue("c");
    for (from, to) in [(-99, -9), (9, 99), (-9, 99)] {
        world.write("ca.crt", world.clients.twin("clients", window(from, to)));
        let server = world.builder().load().unwrap();
        assert!(world.lets_in(&server, &client), "{from} to {to}");
    }
}

fn revoked(world: &World) {
    let (good, bad) = (world.issue("good"), world.issue("bad"));
    world.write("ca.crl", world.list(&[&bad], 9, 1));
    let server = world.with_list().load().unwrap();
    assert!(world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
    world.write("ca.crl", world.list(&[&bad, &good], 9, 2));
    assert!(matches!(server.reload_now(), Reload::Reloaded));
    assert!(!world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
}

fn revocation_unknown(world: &World) {
    let other = Authority::root("other");
    world.write("ca.crt", world.clients.pem.clone() + &other.pem);
    world.write("ca.crl", world.list(&[], 9, 1));
    let unlisted = other.issue(&Subject::client("c"), &PrivateKey::p256());
    let listed = world.issue("c");
    let server = world.with_list().load().unwrap();
    assert!(world.lets_in(&server, &listed) && !world.lets_in(&server, &unlisted));
    let server = world.with_list().allow_unknown_revocation_status().load().unwrap();
    assert!(world.lets_in(&server, &listed) && world.lets_in(&server, &unlisted));
    // Without any list the status is not checked.
    let server = world.builder().load().unwrap();
    assert!(world.lets_in(&server, &unlisted));
}

fn list_expired(world: &World) {
    let (good, bad) = (world.issue("good"), world.issue("bad"));
    world.write("ca.crl", world.list(&[&bad], -1, 1));
    let server = world.with_list().load().unwrap();
    assert!(!world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
    // Allowing an unknown status does not allow an expired list.
    let server = world.with_list().allow_unknown_revocation_status().load().unwrap();
    assert!(!world.lets_in(&server, &good));
    let server = world.with_list().ignore_revocation_expiration().load().unwrap();
    assert!(world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
    // A reload does not replace a list that is valid by one that has expired.
    world.write("ca.crl", world.list(&[&bad], 9, 1));
    let server = world.with_list().load().unwrap();
    world.write("ca.crl", world.list(&[&bad], -1, 2));
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert!(world.lets_in(&server, &good));
}

/// An older list than the served one is accepted, and clients that were revoked in between are let
/// in again.
fn list_older(world: &World) {
    let bad = world.issue("bad");
    world.write("ca.crl", world.list(&[&bad], 9, 2));
    let server = world.with_list().load().unwrap();
    assert!(!world.lets_in(&server, &bad));
    world.write("ca.crl", world.list(&[], 9, 1));
    assert!(matches!(server.reload_now(), Reload::Reloaded));
    assert!(world.lets_in(&server, &bad));
}

fn list_gone(world: &World) {
    let (good, bad) = (world.issue("good"), world.issue("bad"));
    world.write("ca.crl", world.list(&[&bad], 9, 1));
    let server = world.with_list().load().unwrap();
    for broken in [&b""[..], b"-----BEGIN X509 CRL-----\nAA==\n", &list_of(&Authority::root("o"), &[], 9, 1)]
    {
        world.write("ca.crl", broken);
        assert!(matches!(server.reload_now(), Reload::Refused(_)));
        assert!(world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
    }
    fs::remove_file(world.dir.path().join("ca.crl")).unwrap();
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert!(world.lets_in(&server, &good) && !world.lets_in(&server, &bad));
}

fn list_of_another_key(world: &World) {
    let bad = world.issue("bad");
    world.write("ca.crl", world.list(&[&bad], 9, 1));
    let server = world.with_list().load().unwrap();
    world.write("ca.crl", list_of(&Authority::root("clients"), &[], 9, 2));
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert!(!world.lets_in(&server, &bad));
}

/// The CRLs of a CA cover some of its certificates, and a warning says which clients are rejected
/// for it.
fn list_of_some(world: &World) {
    const A: &str = "http://crl.example/a";
    const B: &str = "http://crl.example/b";
    let subject = Subject::client("c");
    let own = |points: &[&str]| world.clients.issue_listed_at(&subject, &PrivateKey::p256(), points);
    let clients = [own(&[]), own(&[A]), own(&[B])];
    let between = world.clients.intermediate("between");
    let below = between.issue_with_chain(&subject, &PrivateKey::p256());
    let authorities = ListSpec { authorities: true, ..ListSpec::new(1) };
    let users = ListSpec { users: true, ..ListSpec::new(1) };
    let shard = |point| ListSpec::new(1).at(point);
    let none = "each client whose certificate it issued itself is rejected";
    let others = "each client whose certificate it issued itself and that names no such point is rejected";
    /// The parts of the warning.
    type Warned = Option<[&'static str; 2]>;
    let rows: [(&[&ListSpec], Warned, [bool; 3]); 6] = [
        (&[&authorities], Some(["cover only CA certificates: ", none]), [false; 3]),
        (&[&shard(A)], Some([A, others]), [false, true, false]),
        (&[&shard(A), &shard(B)], Some(["/a or http://crl.example/b: ", others]), [false, true, true]),
        (&[&authorities, &shard(B)], Some([B, others]), [false, false, true]),
        (&[&shard(A), &ListSpec::new(2)], None, [true; 3]),
        (&[&authorities, &users], None, [true; 3]),
    ];
    let warnings = |builder: ServerBuilder| {
        let found = builder.inspect(Duration::ZERO).warnings.into_iter();
        let found = found.filter(|found| found.layer() == Layer::Crl);
        found.map(|found| found.why().to_owned()).collect::<Vec<_>>()
    };
    for (specs, warned, let_in) in rows {
        let lists: String = specs.iter().map(|spec| world.clients.list(spec).pem).collect();
        world.write("ca.crl", &lists);
        let found = warnings(world.with_list());
        assert_eq!(found.len(), usize::from(warned.is_some()), "{found:?}");
        for part in warned.into_iter().flatten() {
            assert!(found[0].contains(part), "{found:?}");
        }
        let server = world.with_list().load().unwrap();
        assert_eq!(clients.each_ref().map(|client| world.lets_in(&server, client)), let_in, "{warned:?}");
        // An unknown status rejects nobody where it is allowed, so nothing is warned of.
        assert_eq!(warnings(world.with_list().allow_unknown_revocation_status()), [""; 0]);
        let server = world.with_list().allow_unknown_revocation_status().load().unwrap();
        assert!(clients.iter().all(|client| world.lets_in(&server, client)));
    }
    // A CA that issues intermediates alone needs no list for clients.
    let lists = world.clients.list(&authorities).pem + &between.list(&ListSpec::new(1)).pem;
    world.write("ca.crl", &lists);
    assert!(!warnings(world.with_list()).iter().any(|why| why.contains("cover only")));
    assert!(world.lets_in(&world.with_list().load().unwrap(), &below));
}

fn leaf_only(world: &World) {
    let between = world.clients.intermediate("between");
    let client = between.issue_with_chain(&Subject::client("c"), &PrivateKey::p256());
    world.write("ca.crl", list_of(&between, &[], 9, 1));
    let server = world.with_list().load().unwrap();
    assert!(!world.lets_in(&server, &client), "there is no list that the intermediate could be in");
    let server = world.with_list().only_check_end_entity_revocation().load().unwrap();
    assert!(world.lets_in(&server, &client));
    assert!(!world.lets_in(&server, &world.issue("direct")), "its issuer has no list");
    let why = "each client whose certificate it issued itself is rejected";
    let inspection = world.with_list().only_check_end_entity_revocation().inspect(Duration::ZERO);
    assert!(inspection.warnings.iter().any(|warning| warning.why().contains(why)), "{inspection:?}");
    // The list of the CA itself has expired, with the same result.
    world.write("ca.crl", [list_of(&between, &[], 9, 1), world.list(&[], -1, 1)].concat());
    let server = world.with_list().only_check_end_entity_revocation().load().unwrap();
    assert!(world.lets_in(&server, &client) && !world.lets_in(&server, &world.issue("direct")));
}

fn client_auth(world: &World) {
    let stranger = Authority::root("stranger").issue(&Subject::client("c"), &PrivateKey::p256());
    let good = world.issue("c");
    for (mode, anonymous) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let ca = world.dir.path().join("ca.crt");
        let server = server_in(world.dir.path()).client_ca(ca, mode).load().unwrap();
        assert!(world.lets_in(&server, &good) && !world.lets_in(&server, &stranger));
        assert_eq!(world.takes(&server.config(), &world.client(None)), anonymous);
    }
    let server = server_in(world.dir.path()).load().unwrap();
    assert!(world.takes(&server.config(), &world.client(None)));
}

fn server_names(world: &World) {
    world.pair("b", &Subject::server("b.example"));
    let path = |name: &str| world.dir.path().join(name);
    let builder = || server_in(world.dir.path()).pair(path("b.crt"), path("b.key"));
    let client = world.client(None);
    let answered = |server: &ServerReloader, name: &str| {
        world.handshakes.set(world.handshakes.get() + 1);
        handshake_as(&server.config(), &client, name).map(|found| found.leaf().clone())
    };
    let (lax, strict) = (builder().load().unwrap(), builder().strict_names(true).load().unwrap());
    assert!(answered(&lax, "b.example").is_ok() && answered(&strict, "b.example").is_ok());
    assert!(answered(&lax, "localhost").is_ok() && answered(&strict, "localhost").is_ok());
    // A client that asks for another name gets the default pair, whose name it does not accept.
    let invalid = |outcome| matches!(outcome, Err(rustls::Error::InvalidCertificate(_)));
    assert!(invalid(answered(&lax, "other.example")));
    assert!(
        matches!(answered(&strict, "other.example"), Err(error) if !matches!(error, rustls::Error::InvalidCertificate(_)))
    );
    assert!(lax.current().value.leaf_for(None).is_some() && strict.current().value.leaf_for(None).is_none());
}

fn sessions_over_renewal(world: &World) {
    for tickets in [false, true] {
        for over_reloads in [true, false] {
            let builder = world.builder().resume_over_reloads(over_reloads);
            let builder = if tickets { builder.tickets(Ticketer::new) } else { builder };
            let server = builder.load().unwrap();
            let client = world.client(Some(&world.issue("c")));
            let first = world.connect(&server, &client);
            assert!(!first.resumed && world.resumes(&server, &client));
            world.renew(&Subject::server("localhost"));
            assert!(matches!(server.reload_now(), Reload::Reloaded));
            let renewed = world.connect(&server, &client);
            assert_eq!(renewed.resumed, over_reloads, "tickets: {tickets}");
            // A client that resumes sees the certificate of its first handshake.
            assert_eq!(renewed.leaf() == first.leaf(), over_reloads, "tickets: {tickets}");
        }
    }
}

/// No session resumes over another client CA, another revoked client or another name, even once
/// that is reverted.
fn sessions_over_trust(world: &World) {
    let other = Authority::root("other");
    let (client, gone) = (world.issue("c"), world.issue("gone"));
    let plain = world.list(&[], 9, 1);
    world.write("ca.crl", &plain);
    let changes: [fn(&World, &Pair, &Authority); 3] = [
        |world, _, other| world.write("ca.crt", world.clients.pem.clone() + &other.pem),
        |world, gone, _| world.write("ca.crl", world.list(&[gone], 9, 2)),
        |world, _, _| {
            let subject = Subject { names: vec!["localhost".into(), "b".into()], ..Subject::server("x") };
            world.renew(&subject);
        },
    ];
    for change in changes {
        for tickets in [false, true] {
            let builder = world.with_list().allow_unknown_revocation_status();
            let builder = if tickets { builder.tickets(Ticketer::new) } else { builder };
            let server = builder.load().unwrap();
            let client = world.client(Some(&client));
            assert!(!world.resumes(&server, &client) && world.resumes(&server, &client));
            change(world, &gone, &other);
            assert!(matches!(server.reload_now(), Reload::Reloaded));
            assert!(!world.resumes(&server, &client), "tickets: {tickets}");
            assert!(world.resumes(&server, &client), "tickets: {tickets}");
            world.write("ca.crt", &world.clients.pem);
            world.write("ca.crl", &plain);
            world.renew(&Subject::server("localhost"));
            assert!(matches!(server.reload_now(), Reload::Reloaded));
            assert!(!world.resumes(&server, &client), "taken back; tickets: {tickets}");
        }
    }
}

fn sessions_off(world: &World) {
    let server = world.builder().session_cache(0).load().unwrap();
    let client = world.client(Some(&world.issue("c")));
    assert!(!world.resumes(&server, &client) && !world.resumes(&server, &client));
    assert_eq!(server.config().max_early_data_size, 0, "early data is off");
}

/// A session that was made for one name does not resume for another.
fn sessions_of_a_name(world: &World) {
    let subject = Subject { names: vec!["localhost".into(), "b".into()], ..Subject::server("x") };
    world.renew(&subject);
    let server = world.builder().load().unwrap();
    let client = world.client(Some(&world.issue("c")));
    let resumes = |name: &str| {
        world.handshakes.set(world.handshakes.get() + 1);
        handshake_as(&server.config(), &client, name).unwrap().resumed
    };
    assert!(!resumes("localhost") && resumes("localhost") && !resumes("b"));
}

/// The expiry of a client certificate or of a list ends no session.
fn sessions_over_dates(world: &World) {
    let (from, to) = (SystemTime::now() - DAY, SystemTime::now() + Duration::from_secs(3600));
    let short = world.clients.issue(&Subject::client("c").valid(from, to), &PrivateKey::p256());
    let long = world.clients.issue(&Subject::client("c").valid(from, to + DAY), &PrivateKey::p256());
    for (client, list_to) in [(short, to + DAY), (long, to)] {
        world.write("ca.crl", world.clients.crl(&[], (from, list_to), 1).pem);
        let clock = Arc::new(Ahead::default());
        let shown = Arc::clone(&clock);
        let set = move |config: &mut ServerConfig| config.time_provider = Arc::clone(&shown) as _;
        let server = world.with_list().configure(set).load().unwrap();
        let (resuming, fresh) = (world.client(Some(&client)), world.client(Some(&client)));
        assert!(!world.resumes(&server, &resuming));
        clock.0.store(7200, Ordering::SeqCst);
        assert!(world.resumes(&server, &resuming));
        assert!(!world.takes(&server.config(), &fresh));
    }
}

/// A server's clock that is ahead by so many seconds.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs() + self.0.load(Ordering::SeqCst);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

/// A configuration around `resolver()` keeps its sessions, even over a change of trust.
fn resolver(world: &World) {
    let server = world.builder().load().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(server.resolver());
    let (config, client) = (Arc::new(config), world.client(None));
    let resumed = || {
        world.handshakes.set(world.handshakes.get() + 1);
        handshake(&config, &client).unwrap().resumed
    };
    assert!(!resumed() && resumed());
    world.write("ca.crt", Authority::root("other").pem);
    world.renew(&Subject::server("localhost"));
    assert!(matches!(server.reload_now(), Reload::Reloaded));
    assert!(resumed());
}

fn client_ca_gone(world: &World) {
    let server = world.builder().load().unwrap();
    let (other, client) = (Authority::root("other"), world.issue("c"));
    let resuming = world.client(Some(&client));
    assert!(world.takes(&server.config(), &resuming) && world.resumes(&server, &resuming));
    world.write("ca.crt", &other.pem);
    assert!(matches!(server.reload_now(), Reload::Reloaded));
    assert!(!world.takes(&server.config(), &resuming) && !world.lets_in(&server, &client));
    let theirs = other.issue(&Subject::client("c"), &PrivateKey::p256());
    assert!(world.lets_in(&server, &theirs));
    // An unreadable or empty bundle is not a bundle without CAs.
    for broken in ["", "no PEM"] {
        world.write("ca.crt", broken);
        assert!(matches!(server.reload_now(), Reload::Refused(_)));
        assert!(world.lets_in(&server, &theirs) && !world.lets_in(&server, &client));
    }
}

/// A handshake that began before a swap ends by the trust that it began under.
fn handshake_under_way(world: &World) {
    let server = world.builder().load().unwrap();
    let client = world.client(Some(&world.issue("c")));
    let under_way = Handshake::begin(server.config(), &client).unwrap();
    world.write("ca.crt", Authority::root("other").pem);
    assert!(matches!(server.reload_now(), Reload::Reloaded));
    world.handshakes.set(world.handshakes.get() + 1);
    assert!(under_way.end().is_ok());
    assert!(!world.takes(&server.config(), &client), "its session is not in the new configuration");
}

/// A removed CA is reported as removed trust. A renewal of the pair and another CA are not.
fn trust_reduced(world: &World) {
    let server = world.builder().load().unwrap();
    let client = world.issue("c");
    assert!(world.lets_in(&server, &client));
    let mut events = server.events();
    let mut reduced = |server: &ServerReloader| {
        assert!(matches!(server.reload_now(), Reload::Reloaded));
        let mut found = false;
        while let Some(event) = events.next_within(Duration::ZERO) {
            found |= matches!(*event.event, Event::TrustReduced { .. });
        }
        found
    };
    world.renew(&Subject::server("localhost"));
    assert!(!reduced(&server) && world.lets_in(&server, &client));
    let other = Authority::root("other");
    world.write("ca.crt", world.clients.pem.clone() + &other.pem);
    assert!(!reduced(&server) && world.lets_in(&server, &client));
    world.write("ca.crt", &other.pem);
    assert!(reduced(&server) && !world.lets_in(&server, &client));
}

/// A client with a correct clock refuses a leaf outside of its dates, which a first load serves.
fn server_dates(world: &World) {
    for (from, to, taken) in [(-9, -1, false), (1, 9, false), (-9, 9, true)] {
        let (from, to) = window(from, to);
        world.renew(&Subject::server("localhost").valid(from, to));
        let server = world.builder().load().unwrap();
        assert_eq!(world.lets_in(&server, &world.issue("c")), taken);
    }
}
