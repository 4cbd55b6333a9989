//! What is no news: neighbours, the own reads, nothing at all.

use super::*;

/// Written, replaced and removed.
fn neighbour(dir: &str) -> Vec<Op> {
    let (file, next) = (Path::new(dir).join("neighbour"), Path::new(dir).join("neighbour.next"));
    let mut ops = write(&next, b"one").to_vec();
    ops.push(Op::Rename(next, file.clone()));
    ops.extend(write(&file, b"two"));
    ops.push(Op::Unlink(file));
    ops
}

/// Every 100 ms for so long, then as fast as that goes for a fifth of that; ten rotations during each.
pub fn chatty_neighbour(time: Duration) -> Scenario {
    Scenario::of(20, "chatty neighbour", KUBELET, move |run| {
        run.start();
        for (every, time) in [(Duration::from_millis(100), time), (Duration::ZERO, time / 5)] {
            let (begin, before) = (run.world.now(), run.world.disturbed());
            let looks = run.world.status().snapshots;
            run.world.neighbour(every, neighbour("vol"));
            for round in 1..=run.rounds {
                let (set, ops) = update(run, KUBELET);
                run.commit(Pace::Commit, set, &ops);
                run.world.pass((begin + time * round / run.rounds).saturating_sub(run.world.now()));
            }
            run.world.neighbour(Duration::ZERO, Vec::new());
            let (looks, elapsed) = (run.world.status().snapshots - looks, run.world.now() - begin);
            let times = run.world.disturbed() - before;
            // Every 100 ms, and a busy machine is late; or a good deal more often.
            let tenths = time.as_millis() / 100;
            let least = if every.is_zero() { tenths * 5 } else { tenths / 2 };
            run.stalled |= u128::from(times) <= least;
            // A rotation is some events in a row; the rest are polls.
            let polls = elapsed.div_duration_f64(run.world.timing().poll) as u64 + 1;
            let bound = polls + 10 * u64::from(run.rounds);
            assert!(looks <= bound, "{looks} looks for {} rotations and {polls} polls", run.rounds);
        }
    })
    .polled()
}

/// What is written beside the set does not count as the set's moving.
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
        // Were reading the files a hint, each of these would begin a chain of looks, one every few milliseconds.
        for _ in 0..run.rounds {
            assert_eq!(run.world.reload(), Reload::Unchanged);
        }
        quiet(run);
    })
    .polled()
}

/// Half as many polls pass as there are rounds, and nobody looks between them.
fn quiet(run: &mut Run<'_>) {
    let poll = run.world.timing().poll;
    // What the last rotation left to be looked at is looked at.
    run.world.pass(poll);
    let (begin, looks) = (run.world.now(), run.world.status().snapshots);
    run.world.pass(poll * run.rounds.div_ceil(2));
    let looks = run.world.status().snapshots - looks;
    let polls = (run.world.now() - begin).div_duration_f64(poll) as u64;
    assert!(looks > 0 && looks <= polls + 1, "{looks} looks in the time of {polls} polls");
    assert!(run.world.serves(run.set));
}

/// Looks are the poll's, and what is served is served.
pub fn nothing_happens(is_heard: bool) -> Scenario {
    let name = if is_heard { "nothing ever happens" } else { "nothing is ever heard" };
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
