//! Changes at one chosen moment of a snapshot, by a file system that calls a publisher between two
//! system calls.
//!
//! Engine: generated.

use std::sync::{Arc, Mutex};

use crate::common::{self, Generation, Volume, by_events_only, drain, generations};
use rustls_reload::{ClientAuth, Error, Event, Reload, Reloader, ServerTls, fs::NativeFs};
use rustls_reload_testkit::{InterceptFs, Verb};

/// Called with the number of the call, before each call.
type Before = Box<dyn FnMut(usize) + Send>;

/// Returns the real file system, with `before` called before each of its calls.
fn between(before: impl FnMut(usize) + Send + 'static) -> InterceptFs<NativeFs> {
    let calls: Mutex<(usize, Before)> = Mutex::new((0, Box::new(before)));
    let hook = move |_: Verb| {
        let (count, before) = &mut *calls.lock().unwrap();
        *count += 1;
        before(*count);
        Ok(usize::MAX)
    };
    InterceptFs::new(NativeFs::default(), Arc::new(hook))
}

/// Loads a server that verifies clients, on a file system with `before` called before each of its
/// calls.
fn load(
    volume: &Mutex<Volume>,
    before: impl FnMut(usize) + Send + 'static,
) -> Result<Reloader<ServerTls>, Error> {
    // The lock is released before the load, because the publisher needs it.
    let (server, ca) = {
        let volume = volume.lock().unwrap();
        (volume.server(), volume.path("ca.crt"))
    };
    let server = server.client_ca(ca, ClientAuth::Required).timing(by_events_only());
    server.load_from(between(before))
}

/// Returns the generation that is served, if pair and client CA are of one generation.
fn served(reloader: &Reloader<ServerTls>, generations: &[Generation]) -> usize {
    let config = &reloader.current().value.config;
    let client = common::client(generations, &[&rustls::version::TLS13]);
    let connection = common::handshake(config, &client).unwrap();
    let position = |leaf: &rustls::pki_types::CertificateDer<'_>| {
        generations.iter().position(|g| g.server.leaf == *leaf || g.client.leaf == *leaf)
    };
    let server = position(connection.leaf()).unwrap();
    assert_eq!(Some(server), connection.client.as_ref().and_then(position), "mixed");
    server
}

/// Returns the number of calls of an undisturbed snapshot.
fn calls_of_a_snapshot() -> usize {
    let volume = Mutex::new(Volume::of(&Generation::new(0)));
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let reloader = load(&volume, move |n| *counter.lock().unwrap() = n).unwrap();
    let before = *count.lock().unwrap();
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let after = *count.lock().unwrap();
    after - before
}

/// Moves a volume from one generation to the next.
type Publish = fn(&mut Volume, &Generation);

/// Calls `publish` at each call of a manual reload's snapshot in turn, and asserts that each result
/// is whole.
fn at_each_moment(publish: Publish) {
    let calls = calls_of_a_snapshot();
    let generations = Arc::new(generations(2));
    let mut outcomes = [0, 0];
    for moment in 1..=calls {
        let volume = Arc::new(Mutex::new(Volume::of(&generations[0])));
        // The number of calls until it happens.
        let left = Arc::new(Mutex::new(None::<usize>));
        let (inner, counter, all) = (Arc::clone(&volume), Arc::clone(&left), Arc::clone(&generations));
        let before = move |_: usize| {
            let mut left = counter.lock().unwrap();
            *left = left.map(|left| left - 1);
            if left.take_if(|left| *left == 0).is_some() {
                publish(&mut inner.lock().unwrap(), &all[1]);
            }
        };
        let reloader = load(&volume, before).unwrap();
        let mut events = reloader.events();
        *left.lock().unwrap() = Some(moment);
        let answer = reloader.reload_now();
        assert_eq!(*left.lock().unwrap(), None, "it did not happen");
        match (&answer, served(&reloader, &generations)) {
            (Reload::Reloaded, 1) => outcomes[1] += 1,
            // The update came after the last call that could have noticed it.
            (Reload::Unchanged, 0) => outcomes[0] += 1,
            (answer, served) => panic!("at call {moment} of {calls}: {answer:?}, serving {served}"),
        }
        let reported = drain(&mut events);
        // The CA changes as well, which is reported.
        let may_be = |event: &Event| matches!(event, Event::Published { .. } | Event::TrustReduced { .. });
        assert!(reported.iter().all(|event| may_be(event)), "{moment}: {reported:?}");
    }
    println!("{calls} moments: {} saw the update, {} came before it", outcomes[1], outcomes[0]);
    assert!(outcomes[1] > calls / 2);
}

#[test]
fn inv01_inv03_update_between_calls_of_a_snapshot_is_served_whole() {
    at_each_moment(|volume, next| _ = volume.publish(&next.files()));
}

#[test]
fn inv01_inv03_files_replaced_amid_a_snapshot_are_served_whole() {
    at_each_moment(|volume, next| {
        for (name, bytes) in next.files() {
            common::replace(&volume.path(name), bytes);
        }
    });
}

#[test]
fn inv01_update_between_calls_of_the_first_load_does_not_fail_it() {
    let generations = Arc::new(generations(2));
    let calls = calls_of_a_snapshot();
    for moment in 1..=calls {
        let volume = Arc::new(Mutex::new(Volume::of(&generations[0])));
        let reloader = {
            let (inner, generations) = (Arc::clone(&volume), Arc::clone(&generations));
            let before = move |n: usize| {
                if n == moment {
                    inner.lock().unwrap().publish(&generations[1].files());
                }
            };
            load(&volume, before).unwrap_or_else(|error| panic!("at call {moment}: {error}"))
        };
        served(&reloader, &generations);
    }
}
