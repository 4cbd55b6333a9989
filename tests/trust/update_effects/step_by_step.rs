//! Updates written step by step, with handshakes in a simulated world after each step.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{files, let_in, renewed_with_the_same_key, served};
use crate::common::{Generation, NamedFile, generations};
use rustls_reload::{ClientAuth, ServerReloader, ServerTls, Timing, internal};
use rustls_reload_harness::sim::{InteractiveWorld, SimWatcher, WorldConfig};
use rustls_reload_testkit::{Op, kubelet_first, kubelet_update};

fn at(name: &str) -> PathBuf {
    Path::new("/volume").join(name)
}

/// Makes a server on a simulated disk that requires client certificates and is driven by the test.
fn simulated(base: &[Op]) -> InteractiveWorld<ServerTls> {
    let paths = ["tls.crt", "tls.key", "ca.crt"].map(at);
    let mut live = InteractiveWorld::new(&paths, base, Timing::default(), WorldConfig::default());
    let sim = live.sim().clone();
    let server = ServerReloader::builder(&paths[0], &paths[1])
        .client_ca(&paths[2], ClientAuth::Required)
        .clock(sim.clock())
        .watcher(Some(Box::new(move |hints| Ok(Box::new(SimWatcher::new(&sim, hints))))));
    live.load_by(internal::generic(server).unwrap()).unwrap();
    live.start();
    live
}

/// Writes a file in place in two halves.
fn in_place((name, bytes): NamedFile<'_>) -> [Op; 3] {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    [Op::Create(at(name)), Op::Append(at(name), one.to_vec()), Op::Append(at(name), two.to_vec())]
}

/// Writes a file under another name and renames it.
fn replaced((name, bytes): NamedFile<'_>) -> [Op; 3] {
    let next = at(&format!("{name}.next"));
    [Op::Create(next.clone()), Op::Append(next.clone(), bytes.to_vec()), Op::Rename(next, at(name))]
}

/// Performs an update with a pause after each step. Asserts that the served set is whole after each
/// step, and is the new one in the end.
fn stays_whole(
    base: &[Op],
    update: &[Op],
    pause: u64,
    generations: &[Generation; 2],
) -> Result<usize, String> {
    let mut live = simulated(base);
    for step in update {
        live.sim().apply(step).unwrap();
        live.until(Duration::from_millis(pause), |_| false);
        served(&live.reloader().current().value.config, generations)?;
    }
    live.until(Duration::from_secs(30), |reloader| reloader.status().generation > 1);
    match served(&live.reloader().current().value.config, generations)? {
        1 => Ok(update.len()),
        _ => Err("not served in the end".to_owned()),
    }
}

/// The set passes the comparison of key and leaf although half of it is old.
#[test]
fn inv01_renewal_with_its_key_is_served_with_its_own_client_ca() {
    let generations = renewed_with_the_same_key();
    let [old, new] = &generations;
    let plain: Vec<Op> = std::iter::once(Op::Mkdir("/volume".into()))
        .chain(old.files().into_iter().flat_map(in_place))
        .collect();
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]];
    let update = |order: [usize; 3], way: fn(NamedFile<'_>) -> [Op; 3]| -> Vec<Op> {
        order.into_iter().flat_map(|i| way(new.files()[i])).collect()
    };
    // With the longest pause, two visible changes are less than the settle time apart (ASM-05).
    let mut updates: Vec<(&[Op], Vec<Op>, u64)> = Vec::new();
    for order in orders {
        updates.extend([(&plain[..], update(order, in_place), 450), (&plain, update(order, replaced), 150)]);
    }
    let dir = Path::new("/volume");
    let mut volume = vec![Op::Mkdir("/volume".into())];
    volume.extend(kubelet_first(dir, "..1", &old.files()));
    updates.push((&volume, kubelet_update(dir, "..1", "..2", &new.files()), 10_000));
    let mut moments = 0;
    for (base, update, longest) in &updates {
        for pause in [0, 3, 40, *longest] {
            moments += stays_whole(base, update, pause, &generations).unwrap();
        }
    }
    println!("{moments} moments of updates that keep the key, none of them mixed");
    // The check also finds the mixture that a publisher with longer pauses makes, in which key and
    // leaf match.
    let mixed = stays_whole(&plain, &update([0, 1, 2], replaced), 450, &generations).unwrap_err();
    assert!(mixed.starts_with("mixed"), "{mixed}");
}

/// A file that is cut off after an END line is valid PEM. Only a later change shows that it is not
/// finished.
#[test]
fn inv01_bundle_cut_after_an_end_line_waits_for_its_writer() {
    let all = generations(3);
    let both = all[0].ca.pem.clone() + &all[1].ca.pem;
    let next = all[0].ca.pem.clone() + &all[1].ca.pem + &all[2].ca.pem;
    let mut base = vec![Op::Mkdir("/volume".into())];
    base.extend(files(&all[0].server, &both).into_iter().flat_map(in_place));
    let mut live = simulated(&base);
    let shown = [Some(&all[0]), Some(&all[1]), Some(&all[2])];
    let ends = [all[0].ca.pem.len(), both.len(), next.len()];
    live.sim().apply(&Op::Create(at("ca.crt"))).unwrap();
    for (i, end) in ends.into_iter().enumerate() {
        let begin = if i == 0 { 0 } else { ends[i - 1] };
        live.sim().apply(&Op::Append(at("ca.crt"), next.as_bytes()[begin..end].to_vec())).unwrap();
        if end == next.len() {
            break;
        }
        live.until(Duration::from_millis(4_900), |_| false);
        let seen = let_in(&live.reloader().current().value.config, &[&all[0]], shown);
        assert_eq!(seen, [true, true, false], "after {} certificates", i + 1);
    }
    live.until(Duration::from_secs(30), |reloader| reloader.status().generation == 2);
    assert_eq!(let_in(&live.reloader().current().value.config, &[&all[0]], shown), [true; 3]);
}
