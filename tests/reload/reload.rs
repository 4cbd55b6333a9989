//! A reload that succeeds, and reloads that fail at each layer that can refuse: the served object
//! stays the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::common::{
    self, Generation, InvalidUpdate, Volume, client_of, drain, expect, handshake, invalid_updates, published,
    quick, refused,
};
use rustls_reload::{ClientAuth, Event, Layer, Reload, Timing};
use rustls_reload_testkit::{PrivateKey, Subject};

#[test]
fn inv05_reload_now_serves_what_is_on_disk_and_status_agrees() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    let before = reloader.status();
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    volume.publish(&new.files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(*handshake(&reloader.config(), &client_of(&new, None)).unwrap().leaf(), new.server.leaf);
    let reported = drain(&mut events);
    let [event] = reported.as_slice() else { panic!("reported: {reported:?}") };
    let after = reloader.status();
    let Event::Published { generation: 2, old, new, recovered: false, set: None } = &**event else {
        panic!("reported: {event:?}")
    };
    assert_eq!((old, new), (&before.leaf, &after.leaf));
    assert_ne!(old, new);
    assert_eq!(after.generation, 2);
    assert_eq!(reloader.current().generation, 2);
    assert_eq!(after.leaf.as_ref(), Some(&reloader.current().value.leaf));
    assert_eq!((after.refused, after.differs_since, after.deferred_until), (None, None, None));
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
}

#[test]
fn inv05_watcher_serves_the_files_and_callbacks_get_the_events() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (taken, takes) = std::sync::mpsc::channel();
    let reloader = volume
        .server()
        .timing(Timing::default())
        .on_event(move |event| sender.send(event.clone()).unwrap())
        .on_publish(move |published| taken.send(Arc::clone(published)).unwrap())
        .load()
        .unwrap();
    reloader.start().unwrap();
    let started = receiver.recv_timeout(common::DEADLINE).unwrap();
    assert!(matches!(started, Event::Started { .. }), "{started:?}");
    volume.publish(&new.files());
    let taken = takes.recv_timeout(common::DEADLINE).unwrap();
    assert!(Arc::ptr_eq(&taken, &reloader.current()));
    assert_eq!(*handshake(&taken.value.config, &client_of(&new, None)).unwrap().leaf(), new.server.leaf);
    let event = receiver.recv_timeout(common::DEADLINE).unwrap();
    assert!(matches!(event, Event::Published { generation: 2, recovered: false, .. }), "{event:?}");
}

#[test]
fn inv03_inv11_failed_reload_keeps_the_object_and_is_reported_once() {
    let (fails, panics) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flag = |what, layer, flag: &Arc<AtomicBool>| {
        let flag = Arc::clone(flag);
        InvalidUpdate {
            what,
            layer,
            blamed: None,
            invalidate: Box::new(move |_| flag.store(true, Ordering::SeqCst)),
        }
    };
    let mut invalid_updates = invalid_updates();
    invalid_updates.push(flag("a closure that replaces the storage", Layer::Config, &fails));
    invalid_updates.push(flag("a panic in the build", Layer::Panic, &panics));

    let first = Generation::new(0);
    let mut volume = Volume::of(&first);
    let closure = {
        let (fails, panics) = (Arc::clone(&fails), Arc::clone(&panics));
        move |config: &mut rustls::ServerConfig| {
            if fails.load(Ordering::SeqCst) {
                config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
            }
            assert!(!panics.load(Ordering::SeqCst), "by design");
        }
    };
    // With a long poll and retry, only manual reloads take snapshots, and the refusal is reported
    // once.
    let timing = Timing { poll: Duration::from_secs(3600), ..quick() };
    let reloader = volume
        .server()
        .client_ca(volume.path("ca.crt"), ClientAuth::Required)
        .timing(timing)
        .configure(closure)
        .load()
        .unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    for (i, InvalidUpdate { what, layer, blamed, invalidate }) in invalid_updates.into_iter().enumerate() {
        let what = format!("{what}: {}", blamed.unwrap_or("the build"));
        let before = (reloader.config(), reloader.current(), reloader.status());
        let next = Generation::new(2 * i + 1);
        volume.publish_invalid(&next.files(), |payload| invalidate(payload));
        let error = refused(&mut events);
        assert_eq!(error.layer(), layer, "{what}: {error}");
        assert_eq!(error.path(), blamed.map(|name| volume.path(name)).as_deref(), "{what}: {error}");
        // Further reloads return the same error, and report nothing.
        for _ in 0..2 {
            assert_eq!(reloader.reload_now(), Reload::Refused(error.clone()), "{what}");
        }
        assert_eq!(drain(&mut events), [], "{what}: reported again");
        assert!(Arc::ptr_eq(&before.0, &reloader.config()), "{what}");
        assert!(Arc::ptr_eq(&before.1, &reloader.current()), "{what}");
        let status = reloader.status();
        assert_eq!((status.generation, &status.leaf), (before.2.generation, &before.2.leaf), "{what}");
        let stands = status.refused.unwrap_or_else(|| panic!("{what}: no refusal in the status"));
        assert_eq!(stands.error, error, "{what}");
        assert!(stands.count >= 3, "{what}: met {} times", stands.count);
        assert!(status.differs_since.is_some(), "{what}");
        // Publishes a valid set.
        fails.store(false, Ordering::SeqCst);
        panics.store(false, Ordering::SeqCst);
        if blamed.is_some() {
            let good = Generation::new(2 * i + 2);
            volume.publish(&good.files());
            let recovered = expect(&mut events, &what, |event| match event {
                Event::Published { recovered, .. } => Some(*recovered),
                other => panic!("{what}: reported instead: {other:?}"),
            });
            assert!(recovered, "{what}");
            assert_eq!(common::presented(&reloader)[0], good.server.leaf);
        } else {
            // The failure was outside of the files, so a retry without an event succeeds.
            let served = published(&mut events);
            assert_eq!(served, before.2.generation + 1, "{what}");
            assert_eq!(common::presented(&reloader)[0], next.server.leaf);
        }
        let status = reloader.status();
        assert_eq!((status.refused, status.differs_since), (None, None), "{what}");
        assert_eq!(status.generation, before.2.generation + 1, "{what}");
    }
}

#[test]
fn inv11_served_bytes_after_a_rejection_are_a_recovery_only() {
    let (good, bad) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&good);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    let before = reloader.config();
    volume.publish(&[("tls.crt", bad.server.chain.as_bytes()), ("tls.key", good.server.key.as_bytes())]);
    assert_eq!(refused(&mut events).layer(), Layer::Match);
    volume.publish(&good.files());
    expect(&mut events, "recovery", |event| match event {
        Event::Recovered { .. } => Some(()),
        Event::Published { .. } => panic!("equal bytes were published"),
        _ => None,
    });
    assert!(Arc::ptr_eq(&before, &reloader.config()));
    assert_eq!(reloader.status().refused, None);
}

#[test]
fn inv11_status_is_never_ahead_of_what_is_served_nor_behind_it() {
    let generations = common::generations(2);
    let mut volume = Volume::of(&generations[0]);
    let reloader = volume.server().load().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let before = reloader.status();
                let served = reloader.current();
                let after = reloader.status();
                assert!((before.generation..=after.generation).contains(&served.generation));
                if before.generation == after.generation {
                    assert_eq!(after.leaf.as_ref(), Some(&served.value.leaf));
                }
                reads += 1;
            }
            reads
        });
        for i in 1..=50 {
            volume.publish_in_one_tick(&generations[i % 2].files());
            assert_eq!(reloader.reload_now(), Reload::Reloaded);
        }
        done.store(true, Ordering::Relaxed);
        println!("{} reads over 50 reloads", reader.join().unwrap());
    });
    assert_eq!(reloader.status().generation, 51);
}

#[test]
fn inv05_resolver_of_a_rotating_config_serves_each_new_leaf() {
    let (old, new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().load().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let for_life = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(reloader.resolver());
    let for_life = Arc::new(for_life);
    assert_eq!(*handshake(&for_life, &client_of(&old, None)).unwrap().leaf(), old.server.leaf);
    volume.publish(&new.files());
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    assert_eq!(*handshake(&for_life, &client_of(&new, None)).unwrap().leaf(), new.server.leaf);
}

#[test]
fn inv05_leaf_not_yet_valid_is_deferred_and_served_at_its_date() {
    let (old, mut new) = (Generation::new(0), Generation::new(1));
    let mut volume = Volume::of(&old);
    let reloader = volume.server().timing(common::by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    // Where the first date has passed before the checks, a later one shows the same.
    for ahead in [3, 10, 60] {
        let before = common::presented(&reloader)[0].clone();
        let from = SystemTime::now() + Duration::from_secs(ahead);
        let subject = Subject::server("localhost").valid(from, from + Duration::from_secs(3600));
        new.server = new.ca.issue(&subject, &PrivateKey::p256());
        volume.publish(&new.files());
        let deferred = expect(&mut events, "a hold, or its end", |event| match event {
            Event::Deferred { not_before, .. } => Some(Some(*not_before)),
            Event::Published { .. } => Some(None),
            _ => None,
        });
        let Some(date) = deferred else { continue };
        let seen = (reloader.reload_now(), reloader.status().deferred_until);
        let served = common::presented(&reloader)[0].clone();
        let in_time = SystemTime::now() < from - Duration::from_secs(1);
        published(&mut events);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(wall >= date, "served {:?} before its date", date - wall);
        assert_eq!(common::presented(&reloader)[0], new.server.leaf);
        assert_eq!(reloader.status().deferred_until, None);
        if in_time {
            assert_eq!(seen, (Reload::Deferred(date), Some(date)));
            assert_eq!(served, before);
            return;
        }
    }
    panic!("no check came before its date");
}

#[test]
fn inv05_delays_without_end_do_not_end_the_driver() {
    let generations = common::generations(2);
    let mut volume = Volume::of(&generations[0]);
    let endless = Duration::MAX;
    let timing = Timing { poll: endless, degraded_poll: endless, still_changing_after: endless, ..quick() };
    let reloader = volume.server().timing(timing).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    volume.publish(&generations[1].files());
    common::wait_for_leaf(&reloader, &generations[1].server);
    assert!(reloader.wait_published(1, endless).is_some());
    assert!(events.next_within(endless).is_some());
}
