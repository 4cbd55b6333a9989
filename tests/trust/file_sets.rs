//! One example of each way in which one publisher could stop another: files of one set are broken,
//! the other set changes, and real handshakes show which clients are let in.
//!
//! Checks: INV-03, INV-09, INV-11, INV-14, INV-15.

mod missing_lists;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::common::{self, by_events_only, client_with, expect, handshake, quick, started, wait_for_leaf};
use rustls::version::TLS13;
use rustls_reload::{ClientAuth, Error, Event, Layer, Reload, ServerBuilder, ServerReloader};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

const HOUR: Duration = Duration::from_secs(3600);

/// A server's CA, a client CA with two clients, and four directories: pair, client CAs, and two
/// with CRLs.
struct World {
    root: tempfile::TempDir,
    server_ca: Authority,
    ca: Authority,
    bad: Pair,
    good: Pair,
}

impl World {
    fn new() -> Self {
        let ca = Authority::root("clients");
        let [bad, good] = ["bad", "good"].map(|name| ca.issue(&Subject::client(name), &PrivateKey::p256()));
        let server_ca = Authority::root("servers");
        let world = Self { root: tempfile::tempdir().unwrap(), server_ca, ca, bad, good };
        ["tls", "ca", "crl.d", "other.d"].iter().for_each(|dir| fs::create_dir(world.path(dir)).unwrap());
        world.put_pair(&world.pair());
        world.put("ca/ca.crt", &world.ca.pem);
        world.put("crl.d/own.crl", &list(&world.ca, &[], 1));
        world.put("other.d/other.crl", &list(&Authority::root("other"), &[], 1));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        // Written elsewhere, because in a directory of lists it would be another list.
        let next = self.path("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, path).unwrap();
    }

    fn pair(&self) -> Pair {
        self.server_ca.issue(&Subject::server("localhost"), &PrivateKey::p256())
    }

    fn put_pair(&self, pair: &Pair) {
        self.put("tls/tls.crt", &pair.chain);
        self.put("tls/tls.key", &pair.key);
    }

    /// Writes a new list of the client CA that revokes this client.
    fn revoke(&self, client: &Pair, number: u64) {
        self.put("crl.d/own.crl", &list(&self.ca, &[client], number));
    }

    fn builder(&self) -> ServerBuilder {
        let server = ServerReloader::builder(self.path("tls/tls.crt"), self.path("tls/tls.key"));
        let server = server.client_ca(self.path("ca/ca.crt"), ClientAuth::Required).timing(quick());
        server.crl_dir(self.path("crl.d")).crl_dir(self.path("other.d"))
    }

    fn let_in(&self, server: &ServerReloader, shown: &Pair) -> bool {
        let client = client_with(&[&self.server_ca], Some(shown), &[&TLS13]);
        handshake(&server.config(), &client).is_ok()
    }

    /// Returns whether the bad client and the good client are let in.
    fn both(&self, server: &ServerReloader) -> [bool; 2] {
        [&self.bad, &self.good].map(|shown| self.let_in(server, shown))
    }
}

fn list(of: &Authority, revoked: &[&Pair], number: u64) -> String {
    let leaves: Vec<_> = revoked.iter().map(|pair| &pair.leaf).collect();
    let (now, later) = (SystemTime::now(), Duration::from_secs(number));
    of.crl(&leaves, (now - HOUR + later, now + HOUR), number).pem
}

/// Returns the path and the error of the only refused set.
fn refused(server: &ServerReloader) -> Option<(PathBuf, Error)> {
    let status = server.status();
    let mut all =
        status.sets.iter().filter_map(|set| Some((set.path.to_path_buf(), set.refused.clone()?.error)));
    let first = all.next();
    assert_eq!(all.next(), None, "{status:#?}");
    assert_eq!(status.refused.map(|refused| refused.error), first.as_ref().map(|(_, error)| error.clone()));
    first
}

type InvalidUpdate<'a> = (&'a str, &'a str, &'a (dyn Fn(&World) + Sync));

/// Checks: INV-15. Each set has its own publisher, and the driver runs. Event and status name the
/// refused set, and the server's certificate is renewed meanwhile.
#[test]
fn inv15_broken_lists_refuse_their_set_and_pairs_are_renewed() {
    let write = |name: &'static str, text: &'static str| {
        move |world: &World| fs::write(world.path(name), text).unwrap()
    };
    let stray = write("crl.d/README", "lists live here\n");
    let backup = write("crl.d/own.crl~", "-----BEGIN X509 CRL-----\n");
    let swap = write("crl.d/4913", "");
    let half = |world: &World| {
        let text = list(&world.ca, &[&world.bad], 9);
        fs::write(world.path("crl.d/own.crl"), &text[..text.len() / 2]).unwrap();
    };
    let empty = |world: &World| fs::remove_file(world.path("crl.d/own.crl")).unwrap();
    let gone = |world: &World| fs::remove_dir_all(world.path("crl.d")).unwrap();
    let forged = |world: &World| world.put("crl.d/own.crl", &list(&Authority::root("clients"), &[], 9));
    let other = write("other.d/NOTES", "none\n");
    let cases: [InvalidUpdate<'_>; 8] = [
        ("a stray file", "crl.d", &stray),
        ("an editor's backup", "crl.d", &backup),
        ("an editor's probe", "crl.d", &swap),
        ("a list that is half written", "crl.d", &half),
        ("an empty directory", "crl.d", &empty),
        ("no directory", "crl.d", &gone),
        ("a list of a stranger", "crl.d", &forged),
        ("a stray file in another directory", "other.d", &other),
    ];
    common::at_once(&cases, |(what, dir, invalidate)| {
        let world = World::new();
        world.revoke(&world.bad, 2);
        let server = world.builder().timing(by_events_only()).load().unwrap();
        let mut events = server.events();
        server.start().unwrap();
        started(&mut events);
        let epoch = server.current().value.trust_epoch();
        invalidate(&world);
        let named = expect(&mut events, "a refusal", |event| match event {
            Event::Refused { set, .. } => Some(set.clone()),
            _ => None,
        });
        assert_eq!(named.as_deref(), Some(world.path(dir).as_path()), "{what}");
        let renewed = world.pair();
        world.put_pair(&renewed);
        wait_for_leaf(&server, &renewed);
        assert_eq!(world.both(&server), [false, true], "{what}");
        assert_eq!(server.current().value.trust_epoch(), epoch, "{what}: a renewal keeps the sessions");
        assert_eq!(refused(&server).map(|(path, _)| path), Some(world.path(dir)), "{what}");
    });
}

/// There are two directories of lists. A broken file in one does not keep the lists of the other
/// from counting.
#[test]
fn inv14_lists_of_one_directory_count_while_another_is_broken() {
    let world = World::new();
    let server = world.builder().load().unwrap();
    fs::write(world.path("other.d/NOTES"), "none\n").unwrap();
    assert!(matches!(server.reload_now(), Reload::Refused(_)));
    assert_eq!(world.both(&server), [true, true]);
    let epoch = server.current().value.trust_epoch();
    world.revoke(&world.bad, 2);
    assert!(matches!(server.reload_now(), Reload::Refused(_)), "the other directory still is");
    assert_eq!(world.both(&server), [false, true]);
    assert_eq!(server.current().value.trust_epoch(), epoch + 1, "no session outlives the new list");
    assert_eq!(refused(&server).map(|(path, _)| path), Some(world.path("other.d")));
}

#[test]
fn inv14_a_client_is_revoked_while_the_pair_is_broken() {
    let world = World::new();
    let server = world.builder().load().unwrap();
    world.put("tls/tls.key", &world.pair().key);
    assert!(matches!(server.reload_now(), Reload::Refused(error) if error.layer() == Layer::Match));
    world.revoke(&world.bad, 2);
    server.reload_now();
    assert_eq!(world.both(&server), [false, true]);
    assert_eq!(refused(&server).map(|(path, _)| path), Some(world.path("tls/tls.crt")));
}

/// Without the setting the bundle refuses the pair that came with it. With it each is loaded by
/// itself.
#[test]
fn inv15_broken_client_cas_keep_no_pair_only_where_separate() {
    for separate in [false, true] {
        let world = World::new();
        let server = world.builder().separate_client_ca(separate).load().unwrap();
        world.put("ca/ca.crt", "the CAs come later\n");
        let renewed = world.pair();
        world.put_pair(&renewed);
        assert!(matches!(server.reload_now(), Reload::Refused(_)));
        let is_new = common::presented(&server)[0] == renewed.leaf;
        assert_eq!(is_new, separate);
        let set = if separate { "ca/ca.crt" } else { "tls/tls.crt" };
        assert_eq!(refused(&server).map(|(path, _)| path), Some(world.path(set)));
        assert_eq!(world.both(&server), [true, true], "who is let in is decided by the last good bundle");
        // With separate sets, a broken pair does not keep a CA from being trusted.
        let more = Authority::root("more");
        world.put("ca/ca.crt", &format!("{}{}", world.ca.pem, more.pem));
        world.put("crl.d/more.crl", &list(&more, &[], 1));
        world.put("tls/tls.key", &world.pair().key);
        server.reload_now();
        let client = more.issue(&Subject::client("more"), &PrivateKey::p256());
        assert_eq!(world.let_in(&server, &client), separate);
    }
}

/// Returns the warnings about CRLs since the last call.
fn warnings(reported: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *reported.lock().unwrap())
}

fn reporting(server: ServerBuilder) -> (ServerReloader, Arc<Mutex<Vec<String>>>) {
    let reported: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&reported);
    let server = server.on_event(move |event| match event {
        Event::Warning { warning } if warning.layer() == Layer::Crl => {
            sink.lock().unwrap().push(warning.to_string())
        }
        _ => {}
    });
    let server = server.load().unwrap();
    warnings(&reported);
    (server, reported)
}

/// Two publishers have lists of one CA. Each keeps the revocations that only it has.
#[test]
fn inv14_a_set_keeps_its_list_of_a_ca_unless_another_is_as_new() {
    let world = World::new();
    world.revoke(&world.bad, 2);
    world.put("other.d/same.crl", &list(&world.ca, &[], 1));
    let server = world.builder().load().unwrap();
    assert_eq!(world.both(&server), [false, true], "the newest counts");
    fs::remove_file(world.path("crl.d/own.crl")).unwrap();
    world.put("crl.d/unrelated.crl", &list(&Authority::root("unrelated"), &[], 1));
    assert!(
        matches!(server.reload_now(), Reload::Refused(error) if error.path() == Some(&world.path("crl.d/own.crl")))
    );
    assert_eq!(world.both(&server), [false, true]);
    let newest = list(&world.ca, &[&world.bad], 3);
    world.put("other.d/same.crl", &newest);
    assert!(matches!(server.reload_now(), Reload::Refused(_)), "it is looked at before the other");
    assert_eq!(server.reload_now(), Reload::Reloaded, "what it had is elsewhere now");
    assert_eq!((world.both(&server), refused(&server)), ([false, true], None));
}

/// Warnings about the files of one set do not concern a change of another.
#[test]
fn inv08_a_renewed_pair_repeats_no_warning_about_lists() {
    let world = World::new();
    world.put("crl.d/older.crl", &list(&world.ca, &[], 0));
    let (server, reported) = reporting(world.builder());
    world.put_pair(&world.pair());
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(warnings(&reported), [""; 0]);
    world.put("other.d/more.crl", &list(&Authority::root("more"), &[], 1));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(warnings(&reported), [""; 0]);
    world.revoke(&world.bad, 2);
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert!(warnings(&reported).concat().contains("older.crl"), "of its own set it does");
}

/// Files beside the client CAs belong to their set, others form a set for each directory, and one
/// setting joins them all.
#[test]
fn inv03_lists_form_sets_by_their_directories() {
    let world = World::new();
    for name in ["ca/a.crl", "lists/a.crl", "lists/b.crl"] {
        fs::create_dir_all(world.path(name).parent().unwrap()).unwrap();
        world.put(name, &list(&world.ca, &[], 1));
    }
    let names = |server: ServerBuilder| -> Vec<PathBuf> {
        let server = server
            .crl(world.path("lists/a.crl"))
            .crl(world.path("ca/./a.crl"))
            .crl(world.path("lists/b.crl"));
        let server = server.load().unwrap();
        server.status().sets.iter().map(|set| set.path.to_path_buf()).collect()
    };
    let paths = |names: &[&str]| names.iter().map(|name| world.path(name)).collect::<Vec<_>>();
    let lists = ["lists/a.crl", "crl.d", "other.d"];
    assert_eq!(names(world.builder()), paths(&[&["tls/tls.crt"][..], &lists].concat()));
    let separate = ["tls/tls.crt", "ca/ca.crt"];
    assert_eq!(names(world.builder().separate_client_ca(true)), paths(&[&separate[..], &lists].concat()));
    assert_eq!(names(world.builder().crls_with_client_ca(true)), paths(&["tls/tls.crt"]));
    let both = world.builder().separate_client_ca(true).crls_with_client_ca(true);
    assert_eq!(names(both), paths(&separate));
    // A further pair keeps its place before the sets of clients.
    let pair = world.server_ca.issue(&Subject::server("a.test"), &PrivateKey::p256());
    world.put("further.crt", &pair.chain);
    world.put("further.key", &pair.key);
    let further = world.builder().pair(world.path("further.crt"), world.path("further.key"));
    assert_eq!(names(further), paths(&[&["tls/tls.crt", "further.crt"][..], &lists].concat()));
}
