//! Which changes of a client's files end its sessions, and which are reported as reduced trust: each
//! row of the table in the manual.
//!
//! Checks: INV-08, INV-09, INV-11.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, Error as TlsError, ServerConfig,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, ring},
};
use rustls_reload::{ClientReloader, Event, Reload, RemovedTrust};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    common::{
        self, CompletedHandshake, CurrentVerifier, Generation, Volume, generations, handshake,
        sessions::{KINDS, Kind},
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

/// Each kind of session, with the roots in the file set of the identity and in one of their own.
pub fn worlds() -> [(Kind, bool); 8] {
    std::array::from_fn(|number| (KINDS[number / 2], number % 2 == 1))
}

/// Handshakes until a session resumes, so that there is one.
pub fn resumes(server: &Arc<ServerConfig>, client: &ClientReloader) -> CompletedHandshake {
    assert!(!handshake(server, &client.config()).unwrap().resumed);
    let connection = handshake(server, &client.config()).unwrap();
    assert!(connection.resumed);
    connection
}

/// Returns the roots that were reported as removed since the last call; each report holds one at least.
pub fn removed(events: &mut rustls_reload::Events<rustls_reload::ClientTls>) -> Vec<RemovedTrust> {
    let reported = common::drain(events).into_iter().filter_map(|event| match &*event {
        Event::TrustReduced { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    reported.inspect(|lost| assert!(!lost.is_empty())).flatten().collect()
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
    let cases: Vec<_> = rows.iter().flat_map(|row| worlds().map(|world| (row, world))).collect();
    // Each reload waits for its files to settle, so many of them wait at a time.
    common::at_once(&cases, |(row, (kind, separate))| {
        let (kind, separate) = (*kind, *separate);
        let what = format!("{}, {kind:?}, roots in a set of their own: {separate}", row.what);
        let server = server(&all[0].server, &[&all[0].ca], kind);
        let mut volume = Volume::in_memory(&files(&row.identity[0], &row.roots[0]));
        let client = client(&volume).separate_roots(separate).load().unwrap();
        assert_eq!(client.status().sets.len(), 1 + usize::from(separate));
        resumes(&server, &client);
        let (before, mut events) = (client.current(), client.events());
        let mut reduced = pin!(client.trust_reduced(before.generation));
        volume.publish_in_one_tick(&files(&row.identity[1], &row.roots[1]));
        assert_eq!(client.reload_now(), Reload::Reloaded, "{what}");

        let connection = handshake(&server, &client.config()).unwrap();
        assert_eq!(connection.resumed, row.sessions_go_on, "{what}");
        assert_eq!(connection.client.as_ref(), Some(&row.identity[1].leaf), "{what}: what the server sees");
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
        let returned = handshake(&server, &client.config()).unwrap();
        assert_eq!(returned.resumed, row.sessions_go_on, "{what}, and back");
    });
}

fn web_pki(of: &Generation) -> Arc<dyn ServerCertVerifier> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(of.ca.der().clone()).unwrap();
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[test]
fn inv09_session_of_a_server_with_a_removed_root_is_rejected() {
    let all = generations(2);
    for kind in KINDS {
        let server = server(&all[0].server, &[&all[0].ca], kind);
        let identity = &all[0].client;
        let mut volume = Volume::in_memory(&files(identity, &bundle(&[&all[0], &all[1]])));
        let client = client(&volume).load().unwrap();
        resumes(&server, &client);
        volume.publish_in_one_tick(&files(identity, &bundle(&[&all[1]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        let error = handshake(&server, &client.config()).unwrap_err();
        assert!(matches!(error, TlsError::InvalidCertificate(_)), "{kind:?}: {error}");

        // Breaks: INV-09. The same by one configuration for life with rustls's storage.
        let verifier = Arc::new(CurrentVerifier::new(web_pki(&all[0])));
        let mut naive = ClientConfig::clone(&client.config());
        naive.resumption = rustls::client::Resumption::default();
        naive.dangerous().set_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let naive = Arc::new(naive);
        assert!(!handshake(&server, &naive).unwrap().resumed);
        verifier.set(web_pki(&all[1]));
        assert!(handshake(&server, &naive).unwrap().resumed, "{kind:?}: the wrong design accepts the server");
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
        assert!(handshake(&server, &client.config()).is_err(), "{kind:?}");
    }
}

#[test]
fn inv09_storage_kept_by_a_closure_resumes_no_earlier_epoch() {
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
