//! One set in two volumes: the configurations served between the two swaps, in a simulated world.
//!
//! Checks: INV-01, ASM-05.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{Build, Builder, Built, Context, Error, Files, Timing, watch::MakeWatcher};
use rustls_reload_harness::sim::{InteractiveWorld, SimWatcher, WorldConfig};
use rustls_reload_testkit::{NamedFile, Op, kubelet_first, kubelet_update};

/// The generation of each file, which is its only byte.
type Generations = Vec<u8>;

/// A build step whose value is the generations.
struct Recorded;

impl Build for Recorded {
    type Value = Generations;

    fn build(&mut self, files: &Files, _: &Context<'_, Generations>) -> Result<Built<Generations>, Error> {
        Ok(Built::new(files.iter().map(|(_, bytes)| bytes[0]).collect()))
    }
}

const PAIR: [&str; 2] = ["tls.crt", "tls.key"];

fn files<'a>(names: &[&'a str], byte: &'a [u8]) -> Vec<NamedFile<'a>> {
    names.iter().map(|name| (*name, byte)).collect()
}

/// Returns everything that is served during these updates, with a pause between them.
fn served(
    paths: &[&str],
    base: &[Op],
    updates: &[Vec<Op>],
    pause: Duration,
    settle: Duration,
) -> Vec<Generations> {
    let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
    let timing = Timing { settle, ..Timing::default() };
    let mut live = InteractiveWorld::<Generations>::new(&paths, base, timing, WorldConfig::default());
    let sim = live.sim().clone();
    let watcher: MakeWatcher = {
        let sim = sim.clone();
        Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints))))
    };
    let all = Arc::new(Mutex::new(Vec::new()));
    let builder = Builder::new(&paths, Recorded).timing(timing).clock(sim.clock()).watcher(Some(watcher));
    let builder = builder.on_publish({
        let all = Arc::clone(&all);
        move |published| all.lock().unwrap().push(published.value.clone())
    });
    live.load_by(builder).unwrap();
    live.start();
    for update in updates {
        update.iter().for_each(|op| sim.apply(op).unwrap());
        live.until(pause, |_| false);
    }
    assert!(
        live.until(Duration::from_secs(60), |reloader| reloader
            .current()
            .value
            .iter()
            .all(|byte| *byte == 2))
    );
    let all = all.lock().unwrap();
    all.clone()
}

/// Publishes a pair and a CA bundle in two volumes.
fn two_volumes(pause: Duration, settle: Duration) -> Vec<Generations> {
    let (pair, trust) = (Path::new("pair"), Path::new("trust"));
    let dirs = [Op::Mkdir("pair".into()), Op::Mkdir("trust".into())];
    let base = dirs.into_iter().chain(kubelet_first(pair, "..1", &files(&PAIR, &[1]))).chain(kubelet_first(
        trust,
        "..1",
        &files(&["ca.crt"], &[1]),
    ));
    let base: Vec<_> = base.collect();
    let updates = [
        kubelet_update(pair, "..1", "..2", &files(&PAIR, &[2])),
        kubelet_update(trust, "..1", "..2", &files(&["ca.crt"], &[2])),
    ];
    served(&["/pair/tls.crt", "/pair/tls.key", "/trust/ca.crt"], &base, &updates, pause, settle)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Checks the manual's statement about two volumes, with the default settle time and with a longer
/// one.
#[test]
fn inv01_two_volumes_mix_only_beyond_the_settle_time() {
    let settle = Timing::default().settle;
    for pause in [ms(0), ms(5), ms(100), settle - ms(50)] {
        assert_eq!(two_volumes(pause, settle), [[2, 2, 2]], "{pause:?} between the swaps");
    }
    for pause in [settle + ms(200), ms(2000), ms(20_000)] {
        assert_eq!(two_volumes(pause, settle), [[2, 2, 1], [2, 2, 2]], "{pause:?} between the swaps");
    }
    for pause in [settle + ms(200), ms(2000)] {
        assert_eq!(two_volumes(pause, ms(3000)), [[2, 2, 2]], "{pause:?}, and a longer settle time");
    }
}

/// Checks the manual's recipe: one projected volume has one link for all files.
#[test]
fn inv01_one_projected_volume_never_mixes_and_does_not_settle() {
    let (vol, names) = (Path::new("tls"), ["tls.crt", "tls.key", "ca.crt"]);
    let mut base = vec![Op::Mkdir("tls".into())];
    base.extend(kubelet_first(vol, "..1", &files(&names, &[1])));
    let update = kubelet_update(vol, "..1", "..2", &files(&names, &[2]));
    let paths = ["/tls/tls.crt", "/tls/tls.key", "/tls/ca.crt"];
    // The update is served within a minute, long before the settle time is over.
    assert_eq!(served(&paths, &base, &[update], ms(100), ms(600_000)), [[2, 2, 2]]);
}
