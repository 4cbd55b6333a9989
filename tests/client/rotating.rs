//! One configuration for life: identity and roots are those that are served when a handshake asks for them.
//!
//! Checks: INV-09.

use std::sync::Arc;

use rustls::{ClientConfig, client::Resumption, version::TLS13};
use rustls_reload::{ClientReloader, Reload};

use crate::{
    common::{Handshake, Volume, generations, handshake, sessions::KINDS},
    world::{bundle, client, files, renewed, server},
};

/// A client of the first generation that trusts these, its volume, and its configuration for life.
fn world(all: &[crate::common::Generation], roots: &str) -> (Volume, ClientReloader, Arc<ClientConfig>) {
    let volume = Volume::in_memory(&files(&all[0].client, roots));
    let client = client(&volume).load().unwrap();
    let config = Arc::new(client.rotating_config());
    (volume, client, config)
}

#[test]
fn inv09_rotating_config_shows_new_identity_rejects_removed_root() {
    let all = generations(2);
    for kind in KINDS {
        let servers = [0, 1].map(|of: usize| server(&all[of].server, &[&all[0].ca], kind));
        let (mut volume, client, config) = world(&all, &bundle(&[&all[0]]));
        for _ in 0..2 {
            let connection = handshake(&servers[0], &config).unwrap();
            assert_eq!((connection.client.as_ref(), connection.resumed), (Some(&all[0].client.leaf), false));
        }
        assert!(handshake(&servers[1], &config).is_err(), "{kind:?}");
        let next = renewed(&all[0].ca);
        volume.publish_in_one_tick(&files(&next, &bundle(&[&all[0], &all[1]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        for server in &servers {
            assert_eq!(handshake(server, &config).unwrap().client.as_ref(), Some(&next.leaf), "{kind:?}");
        }
        volume.publish_in_one_tick(&files(&next, &bundle(&[&all[1]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        assert!(handshake(&servers[0], &config).is_err(), "{kind:?}: a root that is gone");
        let connection = handshake(&servers[1], &config).unwrap();
        assert!(!connection.resumed, "{kind:?}");

        // Breaks: INV-09. With resumption a session outlives the root that it was made under.
        let mut naive = ClientConfig::clone(&config);
        naive.resumption = Resumption::default();
        let naive = Arc::new(naive);
        assert!(!handshake(&servers[1], &naive).unwrap().resumed);
        volume.publish_in_one_tick(&files(&next, &bundle(&[&all[0]])));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        assert!(handshake(&servers[1], &naive).unwrap().resumed, "{kind:?}: the wrong design");
        assert!(handshake(&servers[1], &config).is_err(), "{kind:?}");
    }
}

/// A handshake that lasts over a publication uses the older roots or the newer ones, never both together.
#[test]
fn inv09_handshake_over_a_publication_sees_one_set_of_roots() {
    let all = generations(3);
    for kind in KINDS {
        let servers: Vec<_> = all.iter().map(|of| server(&of.server, &[&all[0].ca], kind)).collect();
        for (of, server) in servers.iter().enumerate() {
            let (mut volume, client, config) = world(&all, &bundle(&[&all[0]]));
            let held = Handshake::begin(Arc::clone(server), &config).unwrap();
            let next = renewed(&all[0].ca);
            volume.publish_in_one_tick(&files(&next, &bundle(&[&all[1]])));
            assert_eq!(client.reload_now(), Reload::Reloaded);
            // Here the server's certificate comes after the publication, so that the newer roots count.
            let ended = held.end();
            assert_eq!(ended.is_ok(), of == 1, "{kind:?}: {ended:?}");
            if let Ok(connection) = ended {
                assert_eq!(connection.client, Some(next.leaf));
            }
        }
    }
}

#[test]
fn inv13_a_configuration_for_life_keeps_the_reloader_going() {
    let all = generations(1);
    let mut volume = Volume::new(&files(&all[0].client, &all[0].ca.pem));
    let client = client(&volume).start().unwrap();
    let mut events = client.events();
    let config = Arc::new(client.rotating_config());
    drop(client);
    let next = renewed(&all[0].ca);
    volume.publish(&files(&next, &all[0].ca.pem));
    crate::common::published(&mut events);
    let server = server(&all[0].server, &[&all[0].ca], (&TLS13, false));
    assert_eq!(handshake(&server, &config).unwrap().client, Some(next.leaf));
    drop(config);
    crate::common::expect(&mut events, "stop", |event| {
        matches!(event, rustls_reload::Event::Stopped).then_some(())
    });
}
