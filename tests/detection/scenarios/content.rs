//! The smallest changes to the content of the files.

use super::*;

pub fn same_size_and_time() -> Scenario {
    let steps = |files: &Files| {
        let mut ops = write(Path::new("vol/tls.crt"), &files[0]).to_vec();
        ops.push(Op::Modified("vol/tls.crt".into(), Duration::from_secs(1_700_000_000)));
        ops
    };
    let base = move |files: &Files| [fill("vol", 1, files), steps(files)].concat();
    Scenario::new(15, "same size, same mtime", "vol", base, move |run| {
        run.start();
        for _ in 0..run.rounds {
            let (old, set) = (run.set, Set { leaf: run.next().leaf, ..run.set });
            let (old, files) = (run.files(old), run.files(set));
            assert!(old[0] != files[0] && old[0].len() == files[0].len());
            run.write(Pace::Settle, set, &steps(&files));
        }
    })
}

/// The timestamps of the simulated disk are whole seconds.
pub fn twice_within_a_second() -> Scenario {
    let scenario = Scenario::of(16, "twice within a second", PLAIN, |run| {
        run.start();
        for _ in 0..run.rounds {
            // The second update comes before the first has settled, and the third once the second
            // is served.
            let (first, second) = (run.next(), run.next());
            let begin = run.world.now();
            let mut ops = rewrite("vol", &run.files(first));
            ops.extend(rewrite("vol", &run.files(second)));
            run.write(Pace::Settle, second, &ops);
            let third = run.next();
            let ops = rewrite("vol", &run.files(third));
            // With the default delays a second has passed by then.
            let limit = Duration::from_secs(1);
            run.stalled |= run.settle < limit / 2 && run.world.now() - begin >= limit;
            run.write(Pace::Settle, third, &ops);
        }
    });
    Scenario { tick: Duration::from_secs(1), ..scenario }
}

/// Changes one of the three files, by a rename, and then in a volume.
fn only(number: u8, names: [&'static str; 2], index: usize, change: fn(Set, Set) -> Set) -> [Scenario; 2] {
    let path = Path::new("vol").join(NAMES[index]);
    let plain = Scenario::of(number, names[0], PLAIN, move |run| {
        run.start();
        for _ in 0..run.rounds {
            let set = change(run.set, run.next());
            let mut ops = write(Path::new("vol/next"), &run.files(set)[index]).to_vec();
            ops.push(Op::Rename("vol/next".into(), path.clone()));
            run.write(Pace::Settle, set, &ops);
        }
    });
    let volume = Scenario::of(number, names[1], KUBELET, move |run| {
        run.start();
        for _ in 0..run.rounds {
            let set = change(run.set, run.next());
            let files = run.files(set);
            let ops = whole(KUBELET.update(run.number, &files));
            run.commit(Pace::Commit, set, &ops);
        }
    });
    [plain, volume]
}

pub fn only_the_leaf() -> [Scenario; 2] {
    only(17, ["only the leaf", "only the leaf, in a volume"], 0, |old, new| Set { leaf: new.leaf, ..old })
}

pub fn only_an_intermediate() -> [Scenario; 2] {
    let names = ["only an intermediate", "only an intermediate, in a volume"];
    only(18, names, 0, |old, new| Set { issuer: new.issuer, ..old })
}

pub fn only_the_client_ca() -> [Scenario; 2] {
    let names = ["only the client CA", "only the client CA, in a volume"];
    only(19, names, 2, |old, new| Set { ca: new.ca, ..old })
}
