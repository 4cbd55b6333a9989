//! Bytes that did not change: nothing is published or reported, and sessions go on resuming.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use crate::common::{self, Volume, by_events_only, client, expect, generations, handshake};
use rustls::version::TLS13;
use rustls_reload::{ClientAuth, Event, Reload, fs::NativeFs};
use rustls_reload_testkit::{InterceptFs, Verb};

#[test]
fn inv08_equal_bytes_publish_and_report_nothing_and_keep_sessions() {
    let generations = generations(2);
    let old = &generations[0];
    let mut volume = Volume::of(old);
    let reloader = volume.server().timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let (current, served) = (reloader.config(), reloader.current());
    let client = client(&generations, &[&TLS13]);
    assert!(!handshake(&current, &client).unwrap().resumed);
    let mut snapshots = reloader.status().snapshots;
    type Touch<'a> = &'a dyn Fn(&mut Volume);
    let touches: [(&str, Touch<'_>); 6] = [
        ("rewritten in place", &|volume| fs::write(volume.path("tls.crt"), &old.server.chain).unwrap()),
        ("touched", &|volume| {
            let file = fs::File::options().write(true).open(volume.path("tls.key")).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("an update with equal bytes", &|volume| _ = volume.publish(&old.files())),
        ("the same in one tick", &|volume| _ = volume.publish_in_one_tick(&old.files())),
        ("a link put anew where it was", &|volume| {
            let (link, beside) = (volume.path("..data"), volume.path("..data_tmp"));
            std::os::unix::fs::symlink(fs::read_link(&link).unwrap(), &beside).unwrap();
            fs::rename(beside, link).unwrap();
        }),
        ("a file in the place of the link", &|volume| {
            common::replace(&volume.path("tls.crt"), old.server.chain.as_bytes());
        }),
    ];
    for (what, touch) in touches {
        touch(&mut volume);
        // A snapshot was taken, so that the absence of events has a meaning.
        let deadline = std::time::Instant::now() + common::DEADLINE;
        while reloader.status().snapshots == snapshots {
            assert!(std::time::Instant::now() < deadline, "{what}: no snapshot was taken");
            std::thread::yield_now();
        }
        assert_eq!(reloader.reload_now(), Reload::Unchanged, "{what}");
        snapshots = reloader.status().snapshots;
        assert!(Arc::ptr_eq(&current, &reloader.config()), "{what}");
        assert!(Arc::ptr_eq(&served, &reloader.current()), "{what}");
        assert!(handshake(&reloader.config(), &client).unwrap().resumed, "{what}: the session is gone");
        assert_eq!(common::drain(&mut events), [], "{what}");
    }
    // The next real change causes the next event.
    common::replace(&volume.path("tls.crt"), generations[1].server.chain.as_bytes());
    common::replace(&volume.path("tls.key"), generations[1].server.key.as_bytes());
    let reported = expect(&mut events, "anything", |event| Some(event.clone()));
    assert!(matches!(reported, Event::Published { generation: 2, recovered: false, .. }), "{reported}");
    assert!(
        handshake(&reloader.config(), &client).unwrap().resumed,
        "nor does a renewal of the same name lose one"
    );
}

/// Checks: INV-12. The cost of an idle server: each file is looked up once, and of each link only
/// the target is read.
#[test]
fn inv12_snapshot_of_unchanged_files_reads_no_link_times() {
    let generation = &generations(1)[0];
    let volume = Volume::of(generation);
    let counts = Arc::new(Mutex::new(HashMap::new()));
    let counting = Arc::clone(&counts);
    let hook = move |verb: Verb| {
        *counting.lock().unwrap().entry(verb).or_insert(0) += 1;
        Ok(usize::MAX)
    };
    let fs = InterceptFs::new(NativeFs::default(), Arc::new(hook));
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let reloader = server.load_from(fs).unwrap();
    counts.lock().unwrap().clear();
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let counts = counts.lock().unwrap();
    let of = |verb| counts.get(&verb).copied().unwrap_or(0);
    // There are three files. `tls.crt`, `tls.key`, `ca.crt` and `..data` are links, and the path to
    // the volume may have more.
    for verb in [Verb::Stat, Verb::Open, Verb::StatFile, Verb::Read] {
        assert_eq!(of(verb), 3, "{verb:?} of {counts:?}");
    }
    assert!(of(Verb::ReadLink) >= 4, "{counts:?}");
}
