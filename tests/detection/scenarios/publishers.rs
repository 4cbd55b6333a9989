//! Publishers: links and directories that are swapped, replaced, removed and made again.

use super::*;

pub fn kubelet() -> Scenario {
    Scenario::of(1, "kubelet swap", KUBELET, committed(KUBELET))
}

pub fn parent_re_pointed() -> Scenario {
    Scenario::of(2, "parent re-pointed", Publisher::Release(false), |run| {
        run.start();
        for round in 0..run.rounds {
            // The target is relative and absolute in turn. The old release is kept.
            let (set, ops) = update(run, Publisher::Release(round % 2 == 1));
            run.commit(Pace::Commit, set, &ops);
        }
        run.commit(Pace::Commit, Set::whole(1), &point("srv/current", "releases/1"));
    })
}

pub fn grandparent_re_pointed() -> Scenario {
    let release = |number: u32, files: &Files| {
        let mut ops = fill(&format!("srv/{number}/certs/default"), 2, files);
        ops.extend(point("srv/current", &number.to_string()));
        ops
    };
    let base = move |files: &Files| [vec![Op::Mkdir("srv".into())], release(1, files)].concat();
    Scenario::new(3, "grandparent re-pointed", "srv/current/certs/default", base, move |run| {
        run.start();
        for _ in 0..run.rounds {
            let set = run.next();
            let ops = release(run.number, &run.files(set));
            run.commit(Pace::Commit, set, &ops);
        }
        run.commit(Pace::Commit, Set::whole(1), &point("srv/current", "1"));
    })
}

pub fn linked_volume() -> Scenario {
    Scenario::of(4, "link into a volume", Publisher::LinkedVolume, committed(Publisher::LinkedVolume))
}

pub fn target_rewritten() -> Scenario {
    let base = |files: &Files| {
        let mut ops = fill("store", 1, files);
        ops.push(Op::Mkdir("live".into()));
        for name in NAMES {
            ops.push(Op::Symlink(Path::new("../store").join(name), Path::new("live").join(name)));
        }
        ops
    };
    Scenario::new(5, "target rewritten", "live", base, |run| {
        run.start();
        for _ in 0..run.rounds {
            let set = run.next();
            let ops = rewrite("store", &run.files(set));
            run.write(Pace::Settle, set, &ops);
        }
    })
}

pub fn certbot() -> Scenario {
    Scenario::of(6, "certbot's links", Publisher::Certbot, settled(Publisher::Certbot))
}

pub fn removed_for_seconds() -> Scenario {
    Scenario::of(7, "removed, later made", PLAIN, |run| {
        run.start();
        for _ in 0..run.rounds {
            run.steps(&[Op::Unlink("vol/tls.crt".into()), Op::Unlink("vol/tls.key".into())]);
            run.refused(Layer::Read);
            run.world.pass(run.settle * 4);
            assert!(run.world.serves(run.set));
            let set = run.next();
            let ops = rewrite("vol", &run.files(set));
            run.write(Pace::Settle, set, &ops);
        }
    })
}

/// The new directory may get the inode number of the old one; then only an event shows that it is
/// another.
pub fn directory_remade() -> Scenario {
    let scenario = Scenario::of(8, "directory remade", PLAIN, |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, Publisher::DirRemade);
            run.write(Pace::Settle, set, &ops);
            in_place(run, "vol");
        }
        let dir = run.world.at("vol");
        assert!(run.world.status().watched.contains(&dir), "the new directory is not watched");
    });
    Scenario { reuse: true, ..scenario }
}

pub fn directory_swapped() -> Scenario {
    Scenario::of(9, "directory swapped twice", PLAIN, |run| {
        run.start();
        for _ in 0..2 * run.rounds {
            let (set, ops) = update(run, Publisher::DirSwapped);
            run.write(Pace::Settle, set, &ops);
            in_place(run, "vol");
        }
        // Changes in the directory that was moved away do not concern the server.
        let (old, files) = (format!("old{}", run.number - 1), run.files(Set::whole(1)));
        run.world.apply(&rewrite(&old, &files));
        assert_eq!(run.world.reload(), Reload::Unchanged);
    })
}

pub fn missing_at_every_level() -> Scenario {
    const LEVELS: [&str; 4] = ["a", "a/b", "a/b/c", "a/b/c/d"];
    let base = |files: &Files| fill(LEVELS[3], 1, files);
    Scenario::new(10, "missing at each level", LEVELS[3], base, |run| {
        run.start();
        for round in 0..run.rounds.max(4) {
            let level = round as usize % 4;
            let mut ops = unlink(LEVELS[3]);
            ops.extend(LEVELS[level..].iter().rev().map(|dir| Op::Rmdir(dir.into())));
            run.steps(&ops);
            run.refused(Layer::Read);
            let (watched, gone) = (run.world.status().watched, run.world.at(LEVELS[level]));
            assert!(!watched.contains(&gone), "it is not there: {watched:?}");
            let set = run.next();
            let ops = fill(LEVELS[3], level + 1, &run.files(set));
            run.write(Pace::Settle, set, &ops);
            in_place(run, LEVELS[3]);
        }
    })
}
