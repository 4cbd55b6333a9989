//! Volumes that rotate without a pause, with another client CA, or without events.
//! `tests/detection` tests ten rotations one after the other.

use std::time::Duration;

use crate::common::{self, Generation, Volume, client_of, generations, handshake, published};
use rustls_reload::{ClientAuth, Event, Timing};

/// The default delays with a poll once an hour, so that events have to arrive.
fn defaults_by_events_only() -> Timing {
    Timing { poll: Duration::from_secs(3600), ..Timing::default() }
}

#[test]
fn inv05_kubelet_updates_without_a_pause_converge_to_the_last() {
    let generations = generations(30);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().timing(defaults_by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    for next in &generations[1..] {
        volume.publish_in_one_tick(&next.files());
    }
    common::wait_for_leaf(&reloader, &generations[29].server);
    for event in common::drain(&mut events) {
        let fine = matches!(&*event, Event::Published { .. } | Event::Started { .. });
        assert!(fine, "a whole set at every moment, yet: {event}");
    }
}

#[test]
fn inv09_a_new_client_ca_is_trusted_and_the_old_one_no_longer() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let reloader = server.timing(Timing::default()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let clients = [&old, &new].map(|shown| client_of(&old, Some(shown)));
    let accepted = || clients.each_ref().map(|client| handshake(&reloader.config(), client).is_ok());
    assert_eq!(accepted(), [true, false]);
    // The pair is unchanged.
    let mut files = old.files();
    files[2].1 = new.ca.pem.as_bytes();
    volume.publish(&files);
    published(&mut events);
    assert_eq!(accepted(), [false, true]);
}

#[test]
fn inv05_the_files_are_served_where_there_are_no_events_at_all() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().watcher(None).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::expect(&mut events, "degradation", |event| matches!(event, Event::Degraded { .. }).then_some(()));
    volume.publish(&new.files());
    common::wait_for_leaf(&reloader, &new.server);
    let degraded = reloader.status().degraded.unwrap().0;
    assert_eq!(degraded.layer(), rustls_reload::Layer::Watch);
}
