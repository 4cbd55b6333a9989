//! A client's reloader goes on for as long as somebody has it, and ends by a stop.

use rustls_reload::{Event, Reload, StartError};

use crate::{
    common::{Generation, Volume, drain, expect, published, started},
    world::{client, files, renewed},
};

#[test]
fn inv13_stopped_client_publishes_nothing_and_starts_again() {
    let own = Generation::new(0);
    let mut volume = Volume::new(&files(&own.client, &own.ca.pem));
    let client = client(&volume).start().unwrap();
    let mut events = client.events();
    assert_eq!(client.start(), Err(StartError::AlreadyRunning));
    client.stop().unwrap();
    let config = client.config();
    volume.publish(&files(&renewed(&own.ca), &own.ca.pem));
    assert_eq!(client.reload_now(), Reload::Stopped);
    assert!(std::sync::Arc::ptr_eq(&config, &client.config()), "the last one stays readable");
    assert!(!drain(&mut events).iter().any(|event| matches!(**event, Event::Published { .. })));
    client.start().unwrap();
    assert_eq!(published(&mut events), 2);
}

#[test]
fn inv13_the_last_owner_of_a_client_stops_it() {
    let own = Generation::new(0);
    let mut volume = Volume::new(&files(&own.client, &own.ca.pem));
    let client = client(&volume).load().unwrap();
    let mut events = client.events();
    client.start().unwrap();
    started(&mut events);
    let (clone, last) = (client.clone(), client.clone());
    drop(client);
    drop(clone);
    volume.publish(&files(&renewed(&own.ca), &own.ca.pem));
    assert_eq!(published(&mut events), 2);
    drop(last);
    expect(&mut events, "stop", |event| matches!(event, Event::Stopped).then_some(()));
}

#[test]
fn inv13_each_publication_of_a_client_is_handed_on() {
    let own = Generation::new(0);
    let mut volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let client = client(&volume).load().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&seen);
    client.on_publish(move |new| keep.lock().unwrap().push(new.generation));
    volume.publish_in_one_tick(&files(&renewed(&own.ca), &own.ca.pem));
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}
