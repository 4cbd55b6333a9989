//! Updates of a client's files as publishers make them, and updates that are no good.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls_reload::{
    Build, Builder, ClientReloader, Event, Layer, Published, Reload, Reloader, Timing,
    internal::{self, Shared},
};
use rustls_reload_testkit::{PrivateKey, Subject};

use crate::{
    common::{
        self, DEADLINE, Generation, InvalidUpdate, Volume, Wall, by_events_only, drain, expect, generations,
        handshake, invalid_updates, published, quick, refused, sessions::KINDS, started,
    },
    world::{bundle, client, files, renewed, server},
};

#[test]
fn inv01_inv04_server_sees_a_renewed_identity_on_the_next_connect() {
    let own = Generation::new(0);
    for kind in KINDS {
        let server = server(&own.server, &[&own.ca], kind);
        let mut volume = Volume::new(&files(&own.client, &own.ca.pem));
        let client = client(&volume).timing(by_events_only()).load().unwrap();
        let mut events = client.events();
        client.start().unwrap();
        started(&mut events);
        for round in 0..3 {
            let next = renewed(&own.ca);
            volume.publish(&files(&next, &own.ca.pem));
            assert_eq!(published(&mut events), round + 2);
            let connection = handshake(&server, &client.config()).unwrap();
            assert_eq!(
                (connection.client.as_ref(), connection.resumed),
                (Some(&next.leaf), false),
                "{kind:?}"
            );
            assert!(handshake(&server, &client.config()).unwrap().resumed, "{kind:?}");
        }
    }
}

/// Runs a reload by the types that the models under loom run: the driver, the shared state and its
/// cell are the same code for each build step. Returns the generations before and after.
fn generations_of<B: Build>(builder: Builder<B>, update: impl FnOnce()) -> [u64; 2] {
    let reloader: Reloader<B::Value> = builder.load().unwrap();
    let shared: &Arc<Shared<B::Value>> = internal::shared(&reloader);
    let before: Arc<Published<B::Value>> = reloader.current();
    update();
    assert_eq!(shared.lock().status().generation, before.generation);
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    [before.generation, reloader.current().generation]
}

/// Checks: INV-04, INV-13. What the models show of one value holds for a client's and a server's.
#[test]
fn inv04_client_and_server_run_the_code_of_the_loom_models() {
    let all = generations(2);
    let mut volume = Volume::new(&files(&all[0].client, &all[0].ca.pem));
    let builder = internal::generic_client(client(&volume)).unwrap();
    let update = || {
        volume.publish(&files(&all[1].client, &all[1].ca.pem));
    };
    assert_eq!(generations_of(builder, update), [1, 2]);
    let mut volume = Volume::of(&all[0]);
    let builder = internal::generic(volume.server()).unwrap();
    let update = || {
        volume.publish(&all[1].files());
    };
    assert_eq!(generations_of(builder, update), [1, 2]);
}

#[test]
fn inv05_server_is_accepted_once_its_root_comes_and_never_without() {
    let all = generations(3);
    for kind in KINDS {
        let servers: Vec<_> = all.iter().map(|of| server(&of.server, &[&all[0].ca], kind)).collect();
        let accepted = |client: &ClientReloader| -> Vec<bool> {
            servers.iter().map(|server| handshake(server, &client.config()).is_ok()).collect()
        };
        let mut volume = Volume::new(&files(&all[0].client, &bundle(&[&all[0]])));
        let client = client(&volume).start().unwrap();
        let mut events = client.events();
        assert_eq!(accepted(&client), [true, false, false], "{kind:?}");
        volume.publish(&files(&all[0].client, &bundle(&[&all[0], &all[1]])));
        published(&mut events);
        assert_eq!(accepted(&client), [true, true, false], "{kind:?}");
        volume.publish(&files(&all[0].client, &bundle(&[&all[1]])));
        published(&mut events);
        assert_eq!(accepted(&client), [false, true, false], "{kind:?}");
    }
}

#[test]
fn inv05_files_rewritten_in_place_are_served_once_they_settle() {
    let all = generations(2);
    let dir = tempfile::tempdir().unwrap();
    let write = |of: &Generation| {
        for (name, bytes) in files(&of.client, &of.ca.pem) {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
    };
    write(&all[0]);
    let path = |name: &str| dir.path().join(name);
    let client = ClientReloader::builder()
        .identity(path("tls.crt"), path("tls.key"))
        .roots(path("ca.crt"))
        // Longer than this test may be held up between two writes.
        .timing(Timing { settle: Duration::from_secs(2), ..quick() })
        .start()
        .unwrap();
    let mut events = client.events();
    write(&all[1]);
    assert_eq!(published(&mut events), 2);
    let server = server(&all[1].server, &[&all[1].ca], KINDS[2]);
    assert_eq!(handshake(&server, &client.config()).unwrap().client, Some(all[1].client.leaf.clone()));
    assert!(drain(&mut events).iter().all(|event| matches!(**event, Event::TrustReduced { .. })));
}

#[test]
fn inv01_bundle_without_its_end_waits_and_reduces_no_trust() {
    let all = generations(3);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.crt");
    fs::write(&path, bundle(&[&all[0], &all[1]])).unwrap();
    let timing = Timing { shrink_settle: Duration::from_secs(3600), ..quick() };
    let client = ClientReloader::builder().roots(&path).timing(timing).start().unwrap();
    let mut events = client.events();
    // The write in progress has come to the end of the first root.
    fs::write(&path, bundle(&[&all[0]])).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while client.status().differs_since.is_none() {
        assert!(Instant::now() < deadline, "{:#?}", client.status());
        std::thread::yield_now();
    }
    fs::write(&path, bundle(&[&all[0], &all[1], &all[2]])).unwrap();
    assert_eq!(published(&mut events), 2);
    assert_eq!(drain(&mut events), []);
    for of in &all {
        handshake(&server(&of.server, &[], KINDS[2]), &client.config()).unwrap();
    }
}

/// Checks: INV-01, INV-02, INV-03, INV-08, INV-11.
#[test]
fn inv03_broken_update_of_a_client_is_reported_once() {
    let first = Generation::new(0);
    let mut volume = Volume::new(&files(&first.client, &first.ca.pem));
    // Each event is reported once, however many manual reloads read the same files.
    let timing = Timing { poll: Duration::from_secs(3600), ..quick() };
    let client = client(&volume).timing(timing).load().unwrap();
    let mut events = client.events();
    client.start().unwrap();
    started(&mut events);
    for (i, InvalidUpdate { what, layer, blamed, invalidate }) in invalid_updates().into_iter().enumerate() {
        let layer = if layer == Layer::ClientCa { Layer::RootCa } else { layer };
        let what = format!("{what}: {blamed:?}");
        let (config, served) = (client.config(), client.current());
        let next = Generation::new(2 * i + 1);
        volume.publish_invalid(&files(&next.client, &next.ca.pem), |payload| invalidate(payload));
        let error = refused(&mut events);
        assert_eq!(error.layer(), layer, "{what}: {error}");
        assert_eq!(error.path(), blamed.map(|name| volume.path(name)).as_deref(), "{what}: {error}");
        assert_eq!(client.reload_now(), Reload::Refused(error.clone()), "{what}");
        assert_eq!(drain(&mut events), [], "{what}: reported again");
        assert!(Arc::ptr_eq(&config, &client.config()), "{what}");
        assert!(Arc::ptr_eq(&served, &client.current()), "{what}");
        // And then a good update.
        let next = Generation::new(2 * i + 2);
        volume.publish(&files(&next.client, &next.ca.pem));
        assert_eq!(published(&mut events), served.generation + 1, "{what}");
        expect(&mut events, "report of the root that is gone", |event| {
            matches!(event, Event::TrustReduced { .. }).then_some(())
        });
        let server = server(&next.server, &[&next.ca], KINDS[i % KINDS.len()]);
        assert_eq!(handshake(&server, &client.config()).unwrap().client, Some(next.client.leaf), "{what}");
    }
}

/// The policy about dates is that of a server's leaf.
#[test]
fn inv02_expired_or_early_identity_is_treated_as_a_server_leaf() {
    let own = Generation::new(0);
    let wall = Wall::new();
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let valid = |from: SystemTime, to| {
        own.ca.issue(&Subject::client("client 0").valid(from, to), &PrivateKey::p256())
    };
    let expired = valid(now - 3 * hour, now - hour);
    let early = valid(now + hour, now + 9 * hour);
    let mut volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let client = client(&volume).clock(Arc::clone(&wall) as Arc<dyn rustls_reload::Clock>).load().unwrap();
    volume.publish_in_one_tick(&files(&expired, &own.ca.pem));
    let Reload::Refused(error) = client.reload_now() else { panic!("an expired identity") };
    assert_eq!((error.layer(), error.path()), (Layer::Validity, Some(volume.path("tls.crt").as_path())));
    volume.publish_in_one_tick(&files(&early, &own.ca.pem));
    assert!(matches!(client.reload_now(), Reload::Deferred(_)));
    assert_eq!(client.current().generation, 1);
    wall.set(2 * 3600);
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert_eq!(client.status().leaf, client.current().value.leaf);
    // An expired one is better than one that has ended before it.
    wall.set(100 * 3600);
    let late = valid(now, now + 20 * hour);
    volume.publish_in_one_tick(&files(&late, &own.ca.pem));
    assert_eq!(client.reload_now(), Reload::Reloaded);
}

/// A pair in a directory and a bundle in another one; returns the paths.
fn two_publishers(root: &Path, own: &Generation) -> [std::path::PathBuf; 3] {
    let (id, trust) = (root.join("id"), root.join("trust"));
    fs::create_dir(&id).unwrap();
    fs::create_dir(&trust).unwrap();
    let paths = [id.join("tls.crt"), id.join("tls.key"), trust.join("ca.crt")];
    for (path, (_, bytes)) in paths.iter().zip(files(&own.client, &own.ca.pem)) {
        fs::write(path, bytes).unwrap();
    }
    paths
}

#[test]
fn inv03_broken_roots_of_another_directory_keep_no_identity_back() {
    let all = generations(2);
    let dir = tempfile::tempdir().unwrap();
    let [chain, key, roots] = two_publishers(dir.path(), &all[0]);
    let client =
        ClientReloader::builder().identity(&chain, &key).roots(&roots).timing(quick()).load().unwrap();
    let paths: Vec<_> = client.status().sets.iter().map(|set| set.path.to_path_buf()).collect();
    assert_eq!(paths, [chain.clone(), roots.clone()]);
    fs::write(&roots, "nothing").unwrap();
    let next = renewed(&all[0].ca);
    fs::write(&chain, &next.chain).unwrap();
    fs::write(&key, &next.key).unwrap();
    let Reload::Refused(error) = client.reload_now() else { panic!("the roots are broken") };
    assert_eq!((error.layer(), error.path()), (Layer::Pem, Some(roots.as_path())));
    let server = server(&all[0].server, &[&all[0].ca], KINDS[2]);
    assert_eq!(handshake(&server, &client.config()).unwrap().client, Some(next.leaf));
    // And the other way round.
    fs::write(&key, "nothing").unwrap();
    fs::write(&roots, bundle(&[&all[0], &all[1]])).unwrap();
    let Reload::Refused(error) = client.reload_now() else { panic!("the key is broken") };
    assert_eq!((error.layer(), error.path()), (Layer::Pem, Some(key.as_path())));
    let other = crate::world::server(&all[1].server, &[&all[0].ca], KINDS[2]);
    assert!(handshake(&other, &client.config()).is_ok());
}

#[test]
fn inv01_roots_beside_the_identity_are_of_its_set_unless_separate() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let sets = |client: ClientReloader| -> Vec<_> {
        client.status().sets.iter().map(|set| set.path.to_path_buf()).collect()
    };
    assert_eq!(sets(client(&volume).load().unwrap()), [volume.path("tls.crt")]);
    let separate = client(&volume).separate_roots(true).load().unwrap();
    assert_eq!(sets(separate), [volume.path("tls.crt"), volume.path("ca.crt")]);
    let dir = tempfile::tempdir().unwrap();
    let further = dir.path().join("further.crt");
    fs::write(&further, &own.ca.pem).unwrap();
    let two = client(&volume).roots(&further).load().unwrap();
    assert_eq!(sets(two), [volume.path("tls.crt"), further]);
}

#[test]
fn inv11_end_of_an_identity_is_reported_with_its_file() {
    let own = Generation::new(0);
    let volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
    let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&reported);
    let _client = client(&volume)
        .expiry_warnings([Duration::from_secs(30 * 86_400)])
        .on_event(move |event| keep.lock().unwrap().push(event.to_string()))
        .load()
        .unwrap();
    let reported = reported.lock().unwrap();
    let [line] = reported.as_slice() else { panic!("{reported:?}") };
    assert!(line.starts_with("CONFIG:CERT_EXPIRING"), "{line}");
    assert!(line.contains(&volume.path("tls.crt").display().to_string()), "{line}");
}

#[test]
fn inv08_the_same_bytes_publish_nothing_and_sessions_go_on() {
    let own = Generation::new(0);
    for kind in KINDS {
        let server = server(&own.server, &[&own.ca], kind);
        let mut volume = Volume::in_memory(&files(&own.client, &own.ca.pem));
        let client = client(&volume).load().unwrap();
        handshake(&server, &client.config()).unwrap();
        for _ in 0..3 {
            let served = client.current();
            common::Volume::publish_in_one_tick(&mut volume, &files(&own.client, &own.ca.pem));
            assert_eq!(client.reload_now(), Reload::Unchanged);
            assert!(Arc::ptr_eq(&served, &client.current()));
            assert!(handshake(&server, &client.config()).unwrap().resumed, "{kind:?}");
        }
    }
}

/// The root is gone from the files, and waiting for the date would go on trusting it.
#[test]
fn inv05_roots_do_not_wait_for_the_date_of_a_served_identity() {
    let all = generations(2);
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let subject = Subject::client("client 0").valid(now + hour, now + 9 * hour);
    let early = all[0].ca.issue(&subject, &PrivateKey::p256());
    let mut volume = Volume::in_memory(&files(&early, &bundle(&[&all[0], &all[1]])));
    let client = client(&volume).load().unwrap();
    let server = server(&all[0].server, &[], KINDS[2]);
    assert!(handshake(&server, &client.config()).is_ok());
    volume.publish(&files(&early, &bundle(&[&all[1]])));
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert!(handshake(&server, &client.config()).is_err());
    // Another identity that is early is waited for, as ever.
    let next = all[0].ca.issue(&subject, &PrivateKey::p256());
    volume.publish(&files(&next, &bundle(&[&all[1]])));
    assert!(matches!(client.reload_now(), Reload::Deferred(_)));
}

/// The rehearsal has no verifier of a server, and takes such an identity.
#[test]
fn inv16_an_identity_that_servers_reject_is_warned_of() {
    let own = Generation::new(0);
    let warned = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&warned);
    let mut volume = Volume::new(&files(&own.client, &own.ca.pem));
    let client = client(&volume)
        .on_event(move |event| {
            if let Event::Warning { warning } = event {
                keep.lock().unwrap().push(warning.clone());
            }
        })
        .load()
        .unwrap();
    let accepts = |client: &ClientReloader| {
        KINDS.map(|kind| handshake(&server(&own.server, &[&own.ca], kind), &client.config()).is_ok())
    };
    assert_eq!(accepts(&client), [true; 4]);
    assert!(warned.lock().unwrap().is_empty());
    let for_servers = own.ca.issue(&Subject::server("client 0"), &PrivateKey::p256());
    // The second time only the roots change, and nothing new is to be said.
    for roots in [own.ca.pem.clone(), own.ca.pem.repeat(2)] {
        volume.publish(&files(&for_servers, &roots));
        assert_eq!(client.reload_now(), Reload::Reloaded);
        assert_eq!(accepts(&client), [false; 4]);
        let warned = warned.lock().unwrap();
        let [warning] = warned.as_slice() else { panic!("{warned:?}") };
        assert_eq!((warning.layer(), warning.path()), (Layer::Chain, Some(&*volume.path("tls.crt"))));
        assert!(warning.why().contains("clientAuth"), "{warning}");
    }
}

#[test]
fn the_root_stores_of_several_calls_add_up() {
    let all = generations(2);
    let store = |of: &Generation| {
        let mut store = rustls::RootCertStore::empty();
        store.add(of.ca.der().clone()).unwrap();
        store
    };
    let volume = Volume::new(&files(&all[0].client, &all[0].ca.pem));
    let client = ClientReloader::builder()
        .identity(volume.path("tls.crt"), volume.path("tls.key"))
        .root_store(store(&all[0]))
        .root_store(store(&all[1]))
        .load()
        .unwrap();
    for of in &all {
        assert!(handshake(&server(&of.server, &[], KINDS[2]), &client.config()).is_ok());
    }
}
