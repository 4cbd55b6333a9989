//! Reports about the near end of the served leaf.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rustls_reload::{Clock, Event, Reload, ServerReloader, Timing, internal};
use rustls_reload_harness::sim::{EPOCH, InteractiveWorld, SimWatcher, WorldConfig};
use rustls_reload_testkit::{Authority, Op, Pair, PrivateKey, Subject};

use super::{HOUR, Stage, files, issue};
use crate::common::{self, Volume, Wall, started};

/// Returns the threshold of a report in seconds, or 0 for the end itself.
fn nearing(event: &Event) -> Option<u64> {
    match event {
        Event::Expiring { within, .. } => Some(within.as_secs()),
        Event::Expired { .. } => Some(0),
        _ => None,
    }
}

/// Returns the thresholds of all reports until so many snapshots were taken.
fn received(stage: &mut Stage, snapshots: u64) -> Vec<u64> {
    let first = stage.reloader.status().snapshots;
    let start = std::time::Instant::now();
    // Reports of a snapshot come before the next one begins.
    while stage.reloader.status().snapshots < first + snapshots + 1 {
        assert!(start.elapsed() < common::DEADLINE, "no snapshot is taken");
        std::thread::yield_now();
    }
    let reported = common::drain(&mut stage.events);
    reported.iter().filter_map(|event| nearing(event)).collect()
}

#[test]
fn inv11_end_of_the_served_leaf_is_reported_once_per_threshold() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let mut stage = Stage::new((-HOUR, 10 * HOUR), |server| server.expiry_warnings([hours(2), hours(5)]));
    assert_eq!((received(&mut stage, 2), stage.reloader.status().expiring), (vec![], None));
    // The clock passes a threshold, the same one again, both sides of the second one, and the end
    // of the leaf.
    for (seconds, reported, within) in [
        (5 * HOUR, vec![5 * 3600], Some(hours(5))),
        (8 * HOUR - 1, vec![], Some(hours(5))),
        (8 * HOUR, vec![2 * 3600], Some(hours(2))),
        (10 * HOUR, vec![], Some(hours(2))),
        (10 * HOUR + 1, vec![0], None),
        // After the clock is set back, the status shows the present state, and no report is
        // repeated.
        (5 * HOUR, vec![], Some(hours(5))),
        (10 * HOUR + 1, vec![], None),
    ] {
        stage.wall.set(seconds);
        assert_eq!(received(&mut stage, 3), reported, "at {seconds} s");
        let near = stage.reloader.status().expiring.unwrap();
        assert_eq!(near.within, within, "at {seconds} s");
        assert_eq!(near.certificate.path, stage.volume.path("tls.crt"));
        let leaf = stage.reloader.status().leaf.unwrap();
        assert_eq!(
            (near.certificate.fingerprint, near.certificate.not_after),
            (leaf.fingerprint, leaf.not_after)
        );
    }
    // An equal leaf in other bytes, and another start, are not reported again.
    let old = stage.generation.server.clone();
    let commented = Pair { chain: format!("a comment\n{}", old.chain), ..old };
    stage.volume.publish(&files(&commented));
    common::published(&mut stage.events);
    stage.reloader.stop().unwrap();
    stage.reloader.start().unwrap();
    started(&mut stage.events);
    assert_eq!(received(&mut stage, 3), Vec::<u64>::new());
    assert_eq!(stage.reloader.status().expiring.unwrap().within, None);
    // A new leaf has thresholds of its own.
    let wall = Arc::clone(&stage.wall);
    stage.publish((9 * HOUR, 40 * HOUR));
    common::published(&mut stage.events);
    assert_eq!((received(&mut stage, 3), stage.reloader.status().expiring), (vec![], None));
    wall.set(36 * HOUR);
    assert_eq!(received(&mut stage, 3), [5 * 3600]);
}

#[test]
fn inv11_leaf_near_its_end_is_reported_by_first_and_manual_loads() {
    let (wall, ca) = (Wall::new(), Authority::root("CA"));
    let pairs = [(-10 * HOUR, HOUR), (-10 * HOUR, -HOUR)].map(|window| issue(&ca, &wall, window));
    let reported = Arc::new(Mutex::new(Vec::new()));
    let load = |pair: &Pair| {
        let volume = Volume::new(&files(pair));
        let keep = Arc::clone(&reported);
        let observer = move |event: &Event| keep.lock().unwrap().push(event.to_string());
        let reloader =
            volume.server().clock(Arc::clone(&wall) as Arc<dyn Clock>).on_event(observer).load().unwrap();
        (volume, reloader, std::mem::take(&mut *reported.lock().unwrap()))
    };
    // A sixth of the validity or less is left: 1 h of 11 h.
    let (volume, reloader, lines) = load(&pairs[0]);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let start = format!(
        "CONFIG:CERT_EXPIRING [LOW] TLS certificate expires soon: validity: {}: the leaf expires at 20",
        volume.path("tls.crt").display()
    );
    assert!(line.starts_with(&start), "{line}");
    assert!(
        line.contains(&format!("[within:6600s fingerprint:{}]", reloader.status().leaf.unwrap().fingerprint))
    );
    assert_eq!(reloader.status().expiring.unwrap().within, Some(Duration::from_secs(6600)));
    wall.set(2 * HOUR);
    assert_eq!(reloader.reload_now(), Reload::Unchanged);
    let lines = std::mem::take(&mut *reported.lock().unwrap());
    assert!(matches!(&lines[..], [line] if line.starts_with("CONFIG:CERT_EXPIRED [HIGH] ")), "{lines:?}");
    // An expired leaf is reported twice at the start: that it is served anyway, and that it has
    // expired.
    let (_volume, reloader, lines) = load(&pairs[1]);
    let [warning, expired] = &lines[..] else { panic!("{lines:?}") };
    assert!(
        warning.starts_with("warning: ") && expired.starts_with("CONFIG:CERT_EXPIRED [HIGH] "),
        "{lines:?}"
    );
    assert_eq!(reloader.status().expiring.unwrap().within, None);
}

/// Ninety days of simulated time with the default thresholds: one leaf is renewed when a third is
/// left, the other is not.
#[test]
fn inv11_missed_renewal_is_reported_and_a_timely_one_is_not() {
    let day = Duration::from_secs(86_400);
    let ca = Authority::root("CA");
    let pair = |from: u32| {
        let at = |days: u32| SystemTime::UNIX_EPOCH + EPOCH.wall + days * day;
        ca.issue(&Subject::server("localhost").valid(at(from), at(from + 90)), &PrivateKey::ed25519())
    };
    let write = |pair: &Pair| {
        let write = |(path, text): (&str, &String)| {
            [Op::Create(path.into()), Op::Append(path.into(), text.clone().into_bytes())]
        };
        ["/tls.crt", "/tls.key"].into_iter().zip([&pair.chain, &pair.key]).flat_map(write).collect::<Vec<_>>()
    };
    let paths = ["/tls.crt", "/tls.key"].map(Into::into);
    let poll = Duration::from_secs(3600);
    let timing = Timing { poll, ..Timing::default() };
    let mut live = InteractiveWorld::new(&paths, &write(&pair(0)), timing, WorldConfig::default());
    let sim = live.sim().clone();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let (keep, clock) = (Arc::clone(&reported), sim.clone());
    let server = ServerReloader::builder(&paths[0], &paths[1])
        .timing(timing)
        .clock(sim.clock())
        .watcher(Some(Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints))))))
        .on_event(move |event| {
            let since = clock.now().wall.saturating_sub(EPOCH.wall);
            keep.lock().unwrap().extend(nearing(event).map(|within| (since, within)));
        });
    live.load_by(internal::generic(server).unwrap()).unwrap();
    live.start();
    for renewal in 1..=3 {
        live.until(60 * day, |_| false);
        write(&pair(60 * renewal)).iter().for_each(|op| live.sim().apply(op).unwrap());
    }
    live.until(100 * day, |_| false);
    assert_eq!(live.reloader().status().generation, 4);
    let reported = reported.lock().unwrap();
    let end = (180 + 90) * day;
    let wanted = [15, 7, 1, 0].map(|days| (end - days * day, u64::from(days) * 86_400));
    assert_eq!(reported.len(), 4, "{reported:?}");
    for ((at, within), (due, threshold)) in reported.iter().zip(wanted) {
        assert_eq!(*within, threshold);
        assert!(*at >= due && *at <= due + poll + Duration::from_secs(1), "{within} s: {:?} late", *at - due);
    }
}
