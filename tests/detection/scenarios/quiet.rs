//! Occurrences that are no change: writes of neighbours, the server's own reads, and nothing at
//! all.

use super::*;

/// Returns the steps of a neighbour: its file is written, replaced and removed.
fn neighbour(dir: &str) -> Vec<Op> {
    let (file, next) = (Path::new(dir).join("neighbour"), Path::new(dir).join("neighbour.next"));
    let mut ops = write(&next, b"one").to_vec();
    ops.push(Op::Rename(next, file.clone()));
    ops.extend(write(&file, b"two"));
    ops.push(Op::Unlink(file));
    ops
}

/// The neighbour acts every 100 ms for `time`, then without a pause for a fifth of that. Ten
/// rotations happen during each.
pub fn chatty_neighbour(time: Duration) -> Scenario {
    Scenario::of(20, "chatty neighbour", KUBELET, move |run| {
        run.start();
        for (every, time) in [(Duration::from_millis(100), time), (Duration::ZERO, time / 5)] {
            let (begin, before) = (run.world.now(), run.world.disturbed());
            let snapshots = run.world.status().snapshots;
            run.world.neighbour(every, neighbour("vol"));
            for round in 1..=run.rounds {
                let (set, ops) = update(run, KUBELET);
                run.commit(Pace::Commit, set, &ops);
                run.world.pass((begin + time * round / run.rounds).saturating_sub(run.world.now()));
            }
            run.world.neighbour(Duration::ZERO, Vec::new());
            let (snapshots, elapsed) = (run.world.status().snapshots - snapshots, run.world.now() - begin);
            let times = run.world.disturbed() - before;
            // A neighbour that acts every 100 ms may be late on a busy machine. Without a pause it
            // acts far more often.
            let tenths = time.as_millis() / 100;
            let least = if every.is_zero() { tenths * 5 } else { tenths / 2 };
            run.stalled |= u128::from(times) <= least;
            // A rotation causes at most ten snapshots; the other snapshots are polls.
            let polls = elapsed.div_duration_f64(run.world.timing().poll) as u64 + 1;
            let bound = polls + 10 * u64::from(run.rounds);
            assert!(
                snapshots <= bound,
                "{snapshots} snapshots for {} rotations and {polls} polls",
                run.rounds
            );
        }
    })
    .polled()
}

/// Writes beside the set do not count as changes of the set.
pub fn chatty_neighbour_in_place() -> Scenario {
    Scenario::of(20, "chatty neighbour, in place", PLAIN, |run| {
        run.start();
        run.world.neighbour(Duration::ZERO, neighbour("vol"));
        for _ in 0..run.rounds {
            let (set, ops) = update(run, PLAIN);
            run.write(Pace::Settle, set, &ops);
        }
        run.world.neighbour(Duration::ZERO, Vec::new());
        assert!(run.world.disturbed() > u64::from(run.rounds));
    })
}

pub fn own_reads() -> Scenario {
    Scenario::of(21, "the reader's own reads", KUBELET, |run| {
        run.start();
        for _ in 0..run.rounds {
            let (set, ops) = update(run, KUBELET);
            run.commit(Pace::Commit, set, &ops);
        }
        // If reads caused hints, each reload would start a chain of snapshots, a few milliseconds
        // apart.
        for _ in 0..run.rounds {
            assert_eq!(run.world.reload(), Reload::Unchanged);
        }
        quiet(run);
    })
    .polled()
}

/// Waits for half as many polls as there are rounds, and asserts that there are no snapshots in
/// between.
fn quiet(run: &mut Run<'_>) {
    let poll = run.world.timing().poll;
    // Waits for the snapshots that the last rotation may still cause.
    run.world.pass(poll);
    let (begin, snapshots) = (run.world.now(), run.world.status().snapshots);
    run.world.pass(poll * run.rounds.div_ceil(2));
    let snapshots = run.world.status().snapshots - snapshots;
    let polls = (run.world.now() - begin).div_duration_f64(poll) as u64;
    assert!(snapshots > 0 && snapshots <= polls + 1, "{snapshots} snapshots in the time of {polls} polls");
    assert!(run.world.serves(run.set));
}

/// Asserts that only the poll takes snapshots, and that the served set stays.
pub fn nothing_happens(is_heard: bool) -> Scenario {
    let name = if is_heard { "nothing ever happens" } else { "no event ever arrives" };
    Scenario::of(23, name, PLAIN, move |run| {
        if !is_heard {
            run.world.fate().deafen();
        }
        run.start();
        let generation = run.world.status().generation;
        quiet(run);
        assert_eq!(run.world.status().generation, generation);
    })
    .polled()
}
