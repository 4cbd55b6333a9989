//! Failures of watching: changes before it begins, lost events, no events, and no watches.

use super::*;

/// Old releases are kept, so that only a watch on the link's own directory reports a change.
pub fn overflow() -> Scenario {
    Scenario::of(11, "queue overflow", RELEASE, |run| {
        run.start();
        for round in 0..run.rounds {
            let (set, ops) = update(run, RELEASE);
            // The kernel takes 10 ms to replace a watch that has just ended.
            let pace = if round % 2 == 0 {
                run.world.fate().mute();
                Pace::Commit
            } else {
                run.world.fate().deafen();
                Pace::Soon
            };
            run.world.pass(Duration::from_millis(20));
            run.moved(&ops);
            // A snapshot for earlier events may still be in progress.
            run.stalled |= !run.world.idle(Duration::from_millis(20));
            let since = run.world.now();
            run.world.fate().overflow();
            run.served(pace, set, since);
            // Later changes are noticed by events again.
            let (set, ops) = update(run, RELEASE);
            run.commit(Pace::Commit, set, &ops);
        }
    })
}

pub fn change_before_the_start() -> Scenario {
    Scenario::of(12, "change before the start", KUBELET, |run| {
        for _ in 0..run.rounds {
            run.world.load();
            let (set, ops) = update(run, KUBELET);
            let since = run.moved(&ops);
            run.world.start();
            run.served(Pace::Soon, set, since);
            run.expected.push(Reported::Started);
        }
    })
}

/// The old release is kept, so that only a second snapshot finds the change.
pub fn change_while_arming() -> Scenario {
    Scenario::of(12, "change while arming", RELEASE, |run| {
        for _ in 0..run.rounds {
            run.world.load();
            let (set, ops) = update(run, RELEASE);
            let commit = ops.iter().rposition(|op| matches!(op, Op::Rename(..))).unwrap();
            run.world.apply(&ops[..commit]);
            run.world.tick();
            let (dir, move_it) = (run.world.at("srv"), run.world.later(ops[commit..].to_vec()));
            run.world.fate().before_watching(dir, move_it);
            let since = run.world.now();
            run.world.start();
            run.served(Pace::Soon, set, since);
            run.expected.push(Reported::Started);
        }
    })
}

pub fn rewritten_before_the_start() -> Scenario {
    Scenario::of(12, "rewritten before the start", PLAIN, |run| {
        for _ in 0..run.rounds {
            run.world.load();
            let (set, ops) = update(run, PLAIN);
            let since = run.steps(&ops);
            run.world.start();
            run.expected.push(Reported::Started);
            run.served(Pace::Settle, set, since);
        }
    })
}

pub fn no_events() -> Scenario {
    Scenario::of(13, "no events", KUBELET, |run| {
        run.world.fate().deafen();
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, KUBELET);
            run.commit(Pace::Poll, set, &ops);
        }
    })
    .polled()
}

pub fn no_events_in_place() -> Scenario {
    Scenario::of(13, "no events, in place", PLAIN, |run| {
        run.world.fate().deafen();
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, PLAIN);
            run.write(Pace::PollSettle, set, &ops);
        }
    })
    .polled()
}

pub fn no_watcher() -> Scenario {
    Scenario::of(14, "no watcher at the start", KUBELET, |run| {
        run.world.fate().none_left(true);
        run.expected.push(Reported::Degraded);
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, KUBELET);
            run.commit(Pace::Degraded, set, &ops);
            assert_eq!(run.world.status().degraded.unwrap().0.layer(), Layer::Watch);
        }
        run.world.fate().none_left(false);
        run.reported(Reported::Restored);
        assert_eq!(run.world.status().degraded, None);
        let (set, ops) = update(run, KUBELET);
        run.commit(Pace::Soon, set, &ops);
    })
    .polled()
}

pub fn no_watches() -> Scenario {
    Scenario::of(14, "no watches while re-arming", KUBELET, |run| {
        run.start();
        for _ in 0..run.rounds {
            run.world.fate().full(true);
            // An event of a directory that is still watched reports the first update. The new
            // directory cannot be watched.
            run.expected.push(Reported::Degraded);
            let (set, ops) = update(run, KUBELET);
            run.commit(Pace::Commit, set, &ops);
            assert_eq!(run.world.status().degraded.unwrap().0.layer(), Layer::Watch);
            // No events arrive of the new directory.
            let set = Set { leaf: run.number + 500, ..run.set };
            let path = format!("vol/..{}/tls.crt", run.number);
            let ops = write(Path::new(&path), &run.files(set)[0]);
            run.write(Pace::DegradedSettle, set, &ops);
            run.world.fate().full(false);
            run.reported(Reported::Restored);
            let (set, ops) = update(run, KUBELET);
            run.commit(Pace::Commit, set, &ops);
        }
    })
    .polled()
}
