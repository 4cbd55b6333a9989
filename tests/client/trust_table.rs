//! Which changes of a client's files end its sessions, and which are reported as reduced trust: each
//! row of the table in the manual, and every short sequence of changes against a model.
//!
//! Checks: INV-08, INV-09, INV-11.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_reload::{ClientReloader, Event, Reload, RemovedTrust};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    common::{
        self, Generation, Shaken, Volume, generations,
        sessions::{KINDS, Kind},
        shake,
    },
    world::{bundle, client, files, renewed, server},
};

/// A change of the files, and its effects by the table.
struct Row {
    what: &'static str,
    /// Chain and key before and after.
    identity: [Pair; 2],
    /// The roots before and after.
    roots: [String; 2],
    sessions_go_on: bool,
    /// The number of roots that are reported as removed.
    removed: usize,
}

/// The CA of the server and of the first identity is the first generation's.
fn rows(all: &[Generation]) -> Vec<Row> {
    let [own, other] = [&all[0], &all[1]];
    let now = SystemTime::now();
    let window = (now - Duration::from_secs(60), now + Duration::from_secs(86_400));
    let (one, both) = (bundle(&[own]), bundle(&[own, other]));
    let same = || [own.client.clone(), own.client.clone()];
    let above = Authority::root("above");
    let limited = |of: &Generation| above.certify_again_for(&of.ca, "CA 0", "localhost");
    let roots = |what, before: &str, after: &str, sessions_go_on, removed| Row {
        what,
        identity: same(),
        roots: [before.to_owned(), after.to_owned()],
        sessions_go_on,
        removed,
    };
    let identity = |what, after: Pair, sessions_go_on| Row {
        what,
        identity: [own.client.clone(), after],
        roots: [one.clone(), one.clone()],
        sessions_go_on,
        removed: 0,
    };
    let commented = Pair { chain: format!("a comment\n{}", own.client.chain), ..own.client.clone() };
    let longer = Pair { chain: own.client.chain.clone() + &other.ca.pem, ..own.client.clone() };
    let key_file = Pair { key: format!("a comment\n{}", own.client.key), ..own.client.clone() };
    let same_key = own.ca.issue(&Subject::client("client 0"), &PrivateKey::from_pem(&own.client.key));
    vec![
        roots("another order of the roots", &both, &bundle(&[other, own]), true, 0),
        roots("a root twice", &both, &bundle(&[own, other, own]), true, 0),
        roots("a root renewed with its key", &one, &own.ca.twin("CA 0", window), true, 0),
        roots("a root more", &one, &both, false, 0),
        roots("a root less", &both, &one, false, 1),
        roots("a root with another key", &both, &bundle(&[own, &Generation::new(1)]), false, 1),
        roots("a root under name constraints", &one, &limited(own), false, 1),
        roots("name constraints that are gone", &limited(own), &one, false, 0),
        identity("the same certificates", commented, true),
        identity("a renewal with another key", renewed(&own.ca), false),
        identity("a renewal with the same key", same_key, false),
        identity("another certificate behind the leaf", longer, false),
        identity("another key file with the same key", key_file, false),
    ]
}

/// Handshakes until a session resumes, so that there is one.
fn resumes(server: &Arc<ServerConfig>, client: &ClientReloader) -> Shaken {
    assert!(!shake(server, &client.config()).unwrap().resumed);
    let shaken = shake(server, &client.config()).unwrap();
    assert!(shaken.resumed);
    shaken
}

/// Returns the roots that were reported as removed since the last call; each report holds one at least.
fn removed(events: &mut rustls_reload::Events<rustls_reload::ClientTls>) -> Vec<RemovedTrust> {
    let told = common::drain(events).into_iter().filter_map(|event| match &*event {
        Event::TrustReduced { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    told.inspect(|lost| assert!(!lost.is_empty())).flatten().collect()
}

const MANUAL: &str = include_str!("../../src/manual/clients.md");

/// Checks: INV-08, INV-09, INV-11, INV-16.
#[test]
fn inv09_each_row_of_the_table_of_client_trust_is_what_happens() {
    let all = generations(2);
    let rows = rows(&all);
    let printed = |row: &Row| {
        let sessions = if row.sessions_go_on { "go on" } else { "start afresh" };
        let reported = if row.removed > 0 { "yes" } else { "no" };
        format!("| {} | {sessions} | {reported} |", row.what)
    };
    let (_, table) =
        MANUAL.split_once("| change | sessions | reported as reduced trust |\n|---|---|---|\n").unwrap();
    let table: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.iter().map(printed).collect::<Vec<_>>(), table, "the manual's table");
    for row in rows {
        for kind in KINDS {
            let what = format!("{}, {kind:?}", row.what);
            let server = server(&all[0].server, &[&all[0].ca], kind);
            let mut volume = Volume::in_memory(&files(&row.identity[0], &row.roots[0]));
            let client = client(&volume).load().unwrap();
            resumes(&server, &client);
            let (before, mut events) = (client.current(), client.events());
            let mut reduced = pin!(client.trust_reduced(before.generation));
            volume.publish_in_one_tick(&files(&row.identity[1], &row.roots[1]));
            assert_eq!(client.reload_now(), Reload::Reloaded, "{what}");

            let shaken = shake(&server, &client.config()).unwrap();
            assert_eq!(shaken.resumed, row.sessions_go_on, "{what}");
            assert_eq!(shaken.client.as_ref(), Some(&row.identity[1].leaf), "{what}: what the server sees");
            let epochs = u64::from(!row.sessions_go_on);
            assert_eq!(client.current().value.trust_epoch(), before.value.trust_epoch() + epochs, "{what}");

            let lost = removed(&mut events);
            assert_eq!(lost.len(), row.removed, "{what}: {lost:?}");
            assert!(lost.iter().all(|lost| matches!(lost, RemovedTrust::RootCa { .. })), "{what}: {lost:?}");
            let polled = reduced.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let generation = client.current().generation;
            let wanted = if row.removed > 0 { Poll::Ready(generation) } else { Poll::Pending };
            assert_eq!(polled, wanted, "{what}");

            // The earlier state returns: a session of it does not, whatever the row.
            volume.publish_in_one_tick(&files(&row.identity[0], &row.roots[0]));
            assert_eq!(client.reload_now(), Reload::Reloaded, "{what}");
            let returned = shake(&server, &client.config()).unwrap();
            assert_eq!(returned.resumed, row.sessions_go_on, "{what}, and back");
        }
    }
}

/// A verifier for life that asks for the present one, as an embedder would write it at first.
#[derive(Debug)]
struct Delegates(Mutex<Arc<dyn ServerCertVerifier>>);

impl Delegates {
    fn now(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

impl ServerCertVerifier for Delegates {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.now().verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.now().verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.now().verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}

fn web_pki(of: &Generation) -> Arc<dyn ServerCertVerifier> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(of.ca.der().clone()).unwrap();
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[test]
fn inv09_a_server_whose_root_is_gone_is_rejected_although_its_session_is_offered() {
    let all = generations(2);
    for kind in KINDS {
        let server = server(&all[0].server, &[&all[0].ca], kind);
        let identity = &all[0].client;
        let mut volume = Volume::in_memory(&files(identity, &bundle(&[&all[0], &all[1]])));
        let client = client(&volume).load().unwrap();
        resumes(&server, &client);
        volume.publish_in_one_tick(&files(identity, &bundle(&[&all[1]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        let error = shake(&server, &client.config()).unwrap_err();
        assert!(matches!(error, TlsError::InvalidCertificate(_)), "{kind:?}: {error}");

        // Breaks: INV-09. The same by one configuration for life with rustls's storage.
        let verifier = Arc::new(Delegates(Mutex::new(web_pki(&all[0]))));
        let mut naive = ClientConfig::clone(&client.config());
        naive.resumption = rustls::client::Resumption::default();
        naive.dangerous().set_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let naive = Arc::new(naive);
        assert!(!shake(&server, &naive).unwrap().resumed);
        *verifier.0.lock().unwrap() = web_pki(&all[1]);
        assert!(shake(&server, &naive).unwrap().resumed, "{kind:?}: the wrong design accepts the server");
    }
}

#[test]
fn inv09_a_handshake_under_way_leaves_no_session_to_the_next_epoch() {
    let all = generations(2);
    for kind in KINDS {
        let server = server(&all[0].server, &[&all[0].ca], kind);
        let identity = &all[0].client;
        let mut volume = Volume::in_memory(&files(identity, &bundle(&[&all[0], &all[1]])));
        let client = client(&volume).load().unwrap();
        let held = common::Handshake::begin(Arc::clone(&server), &client.config()).unwrap();
        volume.publish_in_one_tick(&files(identity, &bundle(&[&all[1]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        // It ends under the roots that it began with.
        held.end().unwrap();
        assert!(shake(&server, &client.config()).is_err(), "{kind:?}");
    }
}

#[test]
fn inv09_a_storage_that_a_closure_keeps_for_life_resumes_no_earlier_epoch() {
    let all = generations(2);
    for kind in KINDS {
        let server = server(&all[0].server, &[&all[0].ca], kind);
        let identity = &all[0].client;
        let (one, both) = (bundle(&[&all[0]]), bundle(&[&all[0], &all[1]]));
        let mut volume = Volume::in_memory(&files(identity, &both));
        let kept = rustls::client::Resumption::default();
        let client =
            client(&volume).configure(move |config| config.resumption = kept.clone()).load().unwrap();
        resumes(&server, &client);
        for roots in [&one, &both] {
            volume.publish_in_one_tick(&files(identity, roots));
            assert_eq!(client.reload_now(), Reload::Reloaded);
            resumes(&server, &client);
        }
    }
}

/// A change of the model's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The roots: the server's CA, another one, or both.
    Roots(usize),
    Identity(usize),
    /// Another key's certificate, with other roots.
    Broken,
}

const CHANGES: [Change; 6] = [
    Change::Roots(0),
    Change::Roots(1),
    Change::Roots(2),
    Change::Identity(0),
    Change::Identity(1),
    Change::Broken,
];

/// Keys and certificates that all sequences share, since making keys takes longest.
struct Stock {
    all: Vec<Generation>,
    /// The server's CA, another one, and both.
    bundles: [String; 3],
    identities: [Pair; 2],
}

impl Stock {
    fn new() -> Self {
        let all = generations(2);
        let bundles = [bundle(&[&all[0]]), bundle(&[&all[1]]), bundle(&[&all[1], &all[0]])];
        let identities = [all[0].client.clone(), renewed(&all[0].ca)];
        Self { all, bundles, identities }
    }
}

/// A client under a sequence of changes, beside the model.
struct World<'a> {
    stock: &'a Stock,
    server: Arc<ServerConfig>,
    volume: Volume,
    client: ClientReloader,
    /// The roots and the identity that are on disk, by their place in the stock.
    served: (usize, usize),
    /// The number of changes of either, and that at which the last session was made.
    epoch: u64,
    session: u64,
}

impl<'a> World<'a> {
    fn new(stock: &'a Stock, kind: Kind) -> Self {
        let server = server(&stock.all[0].server, &[&stock.all[0].ca], kind);
        let volume = Volume::in_memory(&files(&stock.identities[0], &stock.bundles[2]));
        let client = client(&volume).load().unwrap();
        resumes(&server, &client);
        Self { stock, server, volume, client, served: (2, 0), epoch: 1, session: 1 }
    }

    fn change(&mut self, change: Change) {
        let was = self.served;
        match change {
            Change::Roots(new) => self.served.0 = new,
            Change::Identity(new) => self.served.1 = new,
            Change::Broken => return self.spoil(),
        }
        let mut events = self.client.events();
        let (roots, identity) = self.served;
        self.volume.publish_in_one_tick(&files(&self.stock.identities[identity], &self.stock.bundles[roots]));
        let answer = self.client.reload_now();
        assert!(matches!(answer, Reload::Reloaded | Reload::Unchanged), "{answer:?}");
        let is_reduced = roots != 2 && roots != was.0;
        assert_eq!(removed(&mut events).len(), usize::from(is_reduced), "{was:?} to {:?}", self.served);
        self.epoch += u64::from(self.served != was);
        assert_eq!(self.client.current().value.trust_epoch(), self.epoch);
    }

    /// Publishes other roots with a key that does not belong to the identity.
    fn spoil(&mut self) {
        let (roots, identity) = self.served;
        let key = self.stock.identities[1 - identity].key.clone();
        let mixed = Pair { key, ..self.stock.identities[identity].clone() };
        let config = self.client.config();
        self.volume.publish_in_one_tick(&files(&mixed, &self.stock.bundles[(roots + 1) % 3]));
        assert!(matches!(self.client.reload_now(), Reload::Refused(_)));
        assert!(Arc::ptr_eq(&config, &self.client.config()));
    }

    /// Connects; returns 0 for a session that resumes, 1 for a handshake in full, 2 for a server that is rejected.
    fn connect(&mut self) -> usize {
        let (roots, identity) = self.served;
        let Ok(shaken) = shake(&self.server, &self.client.config()) else {
            assert_eq!(roots, 1, "the server's root is served");
            return 2;
        };
        assert_ne!(roots, 1, "the server's root is not served");
        assert_eq!(shaken.client.as_ref(), Some(&self.stock.identities[identity].leaf));
        assert_eq!(shaken.resumed, self.session == self.epoch, "{} in {}", self.session, self.epoch);
        self.session = self.epoch;
        usize::from(!shaken.resumed)
    }
}

/// Checks: INV-03, INV-09, INV-11. Engine: generated.
///
/// Every sequence of three changes, by each kind of session. After each change a client that has
/// sessions of the epochs so far connects. The server is accepted if its root is served, it sees the
/// served identity, and a session resumes if it is of the epoch by the model, which counts changes.
#[test]
fn inv09_each_sequence_of_changes_resumes_in_its_epoch_only() {
    let stock = Stock::new();
    let sequences: Vec<[Change; 3]> = CHANGES
        .iter()
        .flat_map(|a| CHANGES.iter().flat_map(move |b| CHANGES.iter().map(move |c| [*a, *b, *c])))
        .collect();
    let counts = common::at_once(&KINDS, |kind| {
        let mut counts = [0; 3];
        for sequence in &sequences {
            let mut world = World::new(&stock, *kind);
            for change in sequence {
                world.change(*change);
                counts[world.connect()] += 1;
            }
        }
        counts
    });
    for (kind, counts) in KINDS.iter().zip(&counts) {
        let [resumed, full, rejected] = counts;
        println!("{kind:?}: {resumed} resumed, {full} in full, {rejected} rejected");
        assert!(counts.iter().all(|count| *count > 50), "too little was tried");
    }
}
