//! An inspection reports the result of a load: the same refusal, and for a set that passes
//! everything that the stages found.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, Volume, invalid_updates};
use rustls_reload::{
    ClientAuth, Error, Inspection, Layer, ServerReloader, Warning, internal,
    watch::{MakeWatcher, Watched, Watcher},
};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

const DAY: Duration = Duration::from_secs(86_400);

/// Makes a pair that is valid for this many days from now.
fn valid_for(ca: &Authority, days: u32) -> Pair {
    let now = SystemTime::now();
    ca.issue(&Subject::server("localhost").valid(now - DAY, now + days * DAY), &PrivateKey::p256())
}

fn layers(warnings: &[Warning]) -> Vec<Layer> {
    warnings.iter().map(Warning::layer).collect()
}

/// Returns the warnings about the pair in `dir`, where an end within two weeks is near.
fn warnings(volume: &Volume) -> Vec<Warning> {
    let inspection = volume.server().inspect(14 * DAY);
    assert_eq!(inspection.refused, None);
    inspection.warnings
}

#[test]
fn inv11_a_broken_set_is_refused_with_the_error_of_a_first_load() {
    let numbers: Vec<_> = (0..invalid_updates().len()).collect();
    let compared = common::at_once(&numbers, |number| is_refused_alike(*number));
    let counted = compared.into_iter().filter(|refused| *refused).count();
    println!("broken sets compared: {counted}");
    assert!(counted >= 25, "{counted}");
}

/// Compares a first load of the broken set of this number with an inspection. Returns `false` where
/// neither refuses it.
fn is_refused_alike(i: usize) -> bool {
    let update = invalid_updates().swap_remove(i);
    let what = format!("{}: {:?}", update.what, update.blamed);
    let mut volume = Volume::of(&Generation::new(2 * i)).private();
    volume.publish_invalid(&Generation::new(2 * i + 1).files(), |payload| (update.invalidate)(payload));
    let server = || volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let (loaded, inspection) = (server().load().err(), server().inspect(Duration::ZERO));
    assert_eq!(inspection.refused, loaded, "{what}");
    if update.layer == Layer::Validity {
        // Only a reload refuses this set; a first load does not.
        assert_eq!(loaded, None, "{what}");
        assert_eq!(layers(&inspection.warnings), [Layer::Validity], "{what}");
        return false;
    }
    assert_eq!(loaded.map(|error| error.layer()), Some(update.layer), "{what}");
    // Stages after the one that refused were not reached, and stages before it have passed.
    let reached = |layer| update.layer == layer;
    let Inspection { sizes, chain, key, matched, client_cas, rehearsed, warnings, watched, .. } = inspection;
    assert_eq!(sizes.is_empty(), reached(Layer::Read), "{what}");
    assert_eq!(chain.is_empty(), update.blamed == Some("tls.crt") || reached(Layer::Read), "{what}");
    let of_ca = update.blamed == Some("ca.crt") && !reached(Layer::Read);
    assert_eq!(key.is_some(), of_ca || reached(Layer::Match), "{what}");
    assert_eq!(matched, of_ca.then_some(true), "{what}");
    assert!(client_cas.is_empty() && rehearsed.is_empty() && warnings.is_empty(), "{what}");
    assert!(watched.is_empty(), "{what}");
    true
}

#[test]
fn inv03_causes_outside_files_are_reported_after_those_in_them() {
    let volume = Volume::of(&Generation::new(0));
    let replaces: fn(&mut rustls::ServerConfig) =
        |config| config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    let panics: fn(&mut rustls::ServerConfig) = |_| panic!("by design");
    for (closure, layer) in [(replaces, Layer::Config), (panics, Layer::Panic)] {
        let inspection = volume.server().configure(closure).inspect(Duration::ZERO);
        assert_eq!(inspection.refused.map(|error| error.layer()), Some(layer));
        assert_eq!(inspection.matched, Some(true), "{layer}");
        assert!(inspection.rehearsed.is_empty() && inspection.watched.is_empty(), "{layer}");
    }
    let inspection = ServerReloader::builder("", "tls.key").inspect(Duration::ZERO);
    assert_eq!(inspection.refused.map(|error| error.layer()), Some(Layer::Settings));
}

#[test]
fn valid_set_is_reported_as_it_is_loaded_and_watched() {
    let generation = Generation::new(0);
    let ca = generation.ca.intermediate("between");
    let now = SystemTime::now();
    let subject = Subject::server("localhost").valid(now - DAY, now + 90 * DAY);
    let server = ca.issue_with_chain(&subject, &PrivateKey::ed25519());
    let files = [
        ("tls.crt", server.chain.as_bytes()),
        ("tls.key", server.key.as_bytes()),
        ("ca.crt", generation.ca.pem.as_bytes()),
    ];
    let volume = Volume::new(&files).private();
    let with_ca = |mode| volume.server().client_ca(volume.path("ca.crt"), mode);
    for mode in [ClientAuth::Optional, ClientAuth::Required] {
        let found = with_ca(mode).inspect(14 * DAY);
        let walk = internal::inspected_walk(&found).clone();
        assert_eq!((found.refused, found.warnings), (None, vec![]));
        assert_eq!(found.paths, ["tls.crt", "tls.key", "ca.crt"].map(|name| volume.path(name)));
        assert_eq!(found.sizes, [files.map(|(_, bytes)| bytes.len())]);
        assert_eq!(found.chain, [server.leaf.clone(), ca.der().clone()]);
        assert_eq!((found.key, found.matched), (Some("Ed25519"), Some(true)));
        assert_eq!(found.client_cas, [generation.ca.der().clone()]);
        assert_eq!(found.rehearsed, ["TLS 1.3", "TLS 1.2"]);
        let end = walk.traces[1].last().unwrap().entry;
        assert_eq!(walk.entries[end].path, volume.path("..generation_0/tls.key"));
        // A running server watches the same directories.
        let reloader = with_ca(mode).load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        common::started(&mut events);
        assert_eq!(found.watched, reloader.status().watched);
        assert!(found.watched.contains(&volume.dir()) && found.watched.contains(&PathBuf::from("/")));
        assert_eq!(found.unwatched, reloader.status().unwatched);
    }
}

#[test]
fn only_the_versions_that_are_enabled_are_rehearsed() {
    let volume = Volume::of(&Generation::new(0));
    let found = volume.server().versions(&[&rustls::version::TLS12]).inspect(Duration::ZERO);
    assert_eq!((found.rehearsed, found.refused), (vec!["TLS 1.2"], None));
}

#[test]
fn leaf_near_or_past_its_end_is_a_warning() {
    let ca = Authority::root("CA");
    for (days, warned) in [(3, true), (13, true), (15, false), (90, false)] {
        let pair = valid_for(&ca, days);
        let volume =
            Volume::new(&[("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]).private();
        let expected = if warned { vec![Layer::Validity] } else { vec![] };
        assert_eq!(layers(&warnings(&volume)), expected, "{days} days");
        assert_eq!(volume.server().inspect(DAY).warnings, [], "{days} days are not within one");
    }
    let now = SystemTime::now();
    for window in [(now - 2 * DAY, now - DAY), (now + DAY, now + 2 * DAY)] {
        let pair = ca.issue(&Subject::server("localhost").valid(window.0, window.1), &PrivateKey::p256());
        let volume =
            Volume::new(&[("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]).private();
        let reported = warnings(&volume);
        assert_eq!(layers(&reported), [Layer::Validity], "reported once: {reported:?}");
        assert_eq!(reported[0].path(), Some(volume.path("tls.crt").as_path()));
    }
}

#[test]
fn disordered_chain_or_expired_intermediate_is_a_warning() {
    let root = Authority::root("root");
    let (upper, other) = (root.intermediate("upper"), Authority::root("other"));
    let lower = upper.intermediate("lower");
    let pair = valid_for(&lower, 90);
    let now = SystemTime::now();
    let old = root.issue(&Subject::server("old").valid(now - 2 * DAY, now - DAY), &PrivateKey::p256());
    let chain = |behind: &[&str]| pair.chain.clone() + &behind.concat();
    for (behind, expected) in [
        (&[][..], vec![]),
        (&[&lower.pem, &upper.pem, &root.pem], vec![]),
        (&[&upper.pem, &lower.pem], vec![Layer::Chain, Layer::Chain]),
        (&[&lower.pem, &other.pem], vec![Layer::Chain]),
        (&[&old.chain], vec![Layer::Chain, Layer::Validity]),
    ] {
        let chain = chain(&behind.iter().map(|pem: &&String| pem.as_str()).collect::<Vec<_>>());
        let volume =
            Volume::new(&[("tls.crt", chain.as_bytes()), ("tls.key", pair.key.as_bytes())]).private();
        assert_eq!(layers(&warnings(&volume)), expected, "{} behind", behind.len());
    }
}

#[test]
fn a_client_ca_outside_its_dates_is_a_warning() {
    let ca = Authority::root("CA");
    let (pair, now) = (valid_for(&ca, 90), SystemTime::now());
    let old = ca.twin("Old Root", (now - 2 * DAY, now - DAY));
    let bundle = ca.pem.clone() + &old;
    let volume = Volume::new(&[
        ("tls.crt", pair.chain.as_bytes()),
        ("tls.key", pair.key.as_bytes()),
        ("ca.crt", bundle.as_bytes()),
    ])
    .private();
    let found = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required).inspect(DAY);
    assert_eq!(found.refused, None);
    assert_eq!(found.client_cas.len(), 2);
    let [reported] = found.warnings.as_slice() else { panic!("{:?}", found.warnings) };
    assert_eq!((reported.layer(), reported.path()), (Layer::ClientCa, Some(volume.path("ca.crt").as_path())));
    assert!(reported.why().starts_with("the client CA CN=Old Root has expired at "), "{reported}");
    let effect = "rustls ignores the dates of a client CA, so no client is rejected for them";
    assert!(reported.why().ends_with(effect), "{reported}");
}

/// A watcher that watches nothing, and returns a given result for these directories.
struct Says(Vec<PathBuf>, Result<Watched, ()>);

impl Watcher for Says {
    fn watch(&mut self, dir: &Path) -> Result<Watched, Error> {
        if self.0.iter().any(|named| named == dir) {
            return self.1.map_err(|()| Error::new(Layer::Watch, "not this one").at(dir));
        }
        Ok(Watched::Armed)
    }

    fn unwatch(&mut self, _: &Path) {}
}

#[test]
fn each_directory_without_events_is_reported_once() {
    let pair = valid_for(&Authority::root("CA"), 90);
    let volume =
        Volume::new(&[("tls.crt", pair.chain.as_bytes()), ("tls.key", pair.key.as_bytes())]).private();
    let inspect = |dirs: &[PathBuf], says: Result<Watched, ()>| {
        let dirs = dirs.to_vec();
        let make: MakeWatcher = Box::new(move |_| Ok(Box::new(Says(dirs.clone(), says))));
        let found = volume.server().watcher(Some(make)).inspect(DAY);
        assert_eq!(found.refused, None);
        let mut reported: Vec<_> =
            found.warnings.iter().map(|reported| reported.path().unwrap().to_owned()).collect();
        reported.sort();
        (reported, found.watched, found.unwatched)
    };
    let payload = volume.path("..generation_0");
    // Directories with a file or a link in them, directories without, and both.
    let holds = vec![volume.dir(), payload];
    let leads = vec![PathBuf::from("/")];
    let (reported, watched, unwatched) = inspect(&holds, Err(()));
    assert_eq!((&reported, unwatched), (&holds, vec![]));
    assert!(!watched.is_empty() && holds.iter().all(|dir| !watched.contains(dir)), "{watched:?}");
    let (reported, watched, unwatched) = inspect(&leads, Ok(Watched::Denied));
    assert_eq!((reported, &unwatched), (vec![], &leads), "what only leads there is no fault");
    assert!(!watched.contains(&leads[0]));
    let (reported, _, unwatched) = inspect(&[&*leads, &*holds].concat(), Ok(Watched::Denied));
    assert_eq!((reported, unwatched), (holds.clone(), leads));
    let (reported, watched, _) = inspect(&holds[1..], Ok(Watched::Silent("NFS")));
    assert_eq!(reported, holds[1..], "its events are not to be relied on");
    assert!(watched.contains(&holds[1]));
    // Without a watcher there is one warning for all directories.
    let found = volume.server().watcher(None).inspect(DAY);
    assert_eq!((layers(&found.warnings), found.watched), (vec![Layer::Watch], vec![]));
}
