//! The policy about dates: which leaves a reload accepts, defers and rejects, and how a clock that
//! may be wrong changes that.
//!
//! | the new leaf is | first load | served leaf not expired | served leaf expired |
//! |---|---|---|---|
//! | valid | served | served | served |
//! | not valid yet | served, with a warning | deferred until it is | deferred until it is |
//! | expired | served, with a warning | rejected | served, with a warning |
//!
//! A leaf that is served already is evaluated as at the first load when another file of its set
//! changes: a CA that is removed does not wait for its date.
//!
//! A clock that may be wrong by some skew makes all of this more careful. The new leaf counts as
//! valid only if it is valid at every possible true time. The served leaf counts as expired only if
//! it has expired at every possible true time. In between, a leaf that outlives the served one is
//! accepted: it is never the worse of the two.

use std::{path::Path, time::Duration};

use crate::report::{
    error::{Error, Layer, Warning},
    event::{Leaf, Timestamp},
};

/// The wall clock's time, and by how much it may be wrong in either direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub(crate) wall: Duration,
    pub(crate) skew: Duration,
}

impl Time {
    /// Returns the wall time from which the leaf is valid at every possible true time.
    fn begins(self, leaf: &Leaf) -> Duration {
        leaf.not_before.saturating_add(self.skew)
    }

    /// Returns whether the leaf may have expired. It is valid until its last second ends.
    fn may_be_over(self, leaf: &Leaf) -> bool {
        self.wall.saturating_add(self.skew).as_secs() > leaf.not_after.as_secs()
    }

    /// Returns whether the leaf has expired at every possible true time.
    fn is_over(self, leaf: &Leaf) -> bool {
        self.wall.as_secs() > leaf.not_after.saturating_add(self.skew).as_secs()
    }
}

/// Evaluates a leaf by its dates; `served` is `None` at the first load.
///
/// Returns the wall time until which the leaf is deferred, or `None` if it may be served at once.
/// Adds a warning if it may be served although it is outside its dates.
///
/// # Errors
/// [`Layer::Validity`]. The message does not depend on the time, so that it is reported once.
pub(crate) fn evaluate(
    leaf: &Leaf,
    path: &Path,
    served: Option<&Leaf>,
    time: Time,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Duration>, Error> {
    let early = time.wall < time.begins(leaf);
    if !early && !time.may_be_over(leaf) {
        return Ok(None);
    }
    let outside = Error::new(Layer::Validity, outside(leaf, early, time.skew)).at(path);
    // Another file of the set has changed, a CA that has to go perhaps. Waiting would keep both.
    match served.filter(|served| served.fingerprint != leaf.fingerprint) {
        Some(_) if early => return Ok(Some(time.begins(leaf))),
        Some(served) if !time.is_over(served) && leaf.not_after < served.not_after => return Err(outside),
        _ => warnings.push(outside.into()),
    }
    Ok(None)
}

fn outside(leaf: &Leaf, early: bool, skew: Duration) -> String {
    let why = match (early, skew.is_zero()) {
        (true, _) => format!("the leaf is valid only from {}", Timestamp(leaf.not_before)),
        (false, true) => format!("the leaf has expired at {}", Timestamp(leaf.not_after)),
        // The message is the same before and after the end.
        (false, false) => format!("the leaf is valid only until {}", Timestamp(leaf.not_after)),
    };
    if skew.is_zero() {
        return why;
    }
    format!("{why}, and the clock may be wrong by {} s", skew.as_secs_f64())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::report::event::Fingerprint;

    fn leaf(from: u64, to: u64) -> Leaf {
        Leaf {
            fingerprint: Fingerprint([0; 32]),
            serial: String::new(),
            names: Vec::new(),
            not_before: Duration::from_secs(from),
            not_after: Duration::from_secs(to),
        }
    }

    /// The result for a leaf, in the words of the table.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Served,
        Warned,
        Held(u64),
        Refused,
    }

    /// Returns the result for a leaf that is not the served one.
    fn fate(new: &Leaf, served: Option<&Leaf>, wall: u64, skew: u64) -> Fate {
        let other = |served: &Leaf| Leaf { fingerprint: Fingerprint([1; 32]), ..served.clone() };
        fate_after(new, served.map(other).as_ref(), wall, skew)
    }

    fn fate_after(new: &Leaf, served: Option<&Leaf>, wall: u64, skew: u64) -> Fate {
        let seconds = Duration::from_secs;
        let (time, mut warnings) = (Time { wall: seconds(wall), skew: seconds(skew) }, Vec::new());
        match (evaluate(new, Path::new("tls.crt"), served, time, &mut warnings), warnings.len()) {
            (Ok(None), 0) => Fate::Served,
            (Ok(None), 1) => Fate::Warned,
            (Ok(Some(date)), 0) => Fate::Held(date.as_secs()),
            (Err(error), 0) if error.layer() == Layer::Validity => Fate::Refused,
            other => panic!("{other:?}"),
        }
    }

    /// Checks: INV-02, ASM-04. Engine: generated.
    ///
    /// Tries every small calendar with every possible true time. A leaf that replaces a valid one
    /// is itself valid or outlives it. A leaf that is valid by every clock is neither deferred nor
    /// rejected.
    #[test]
    fn inv02_no_leaf_is_replaced_by_a_worse_one_at_any_true_time() {
        let serves =
            |leaf: &Leaf, t: u64| (leaf.not_before.as_secs()..=leaf.not_after.as_secs()).contains(&t);
        let days = 8;
        let leaves: Vec<Leaf> =
            (0..days).flat_map(|from| (from..days).map(move |to| leaf(from + 2, to + 2))).collect();
        let mut counts = [0_u32; 4];
        for (new, served) in leaves.iter().flat_map(|new| leaves.iter().map(move |served| (new, served))) {
            for (wall, skew) in (2..days + 3).flat_map(|wall| (0..=2).map(move |skew| (wall, skew))) {
                let fate = fate(new, Some(served), wall, skew);
                let mut all_right = true;
                for t in wall - skew..=wall + skew {
                    all_right &= serves(new, t);
                    let taken = matches!(fate, Fate::Served | Fate::Warned);
                    let worse = serves(served, t) && !serves(new, t) && new.not_after < served.not_after;
                    assert!(!(taken && worse), "{new:?} for {served:?} at {t}, by a clock at {wall}");
                    let early = t < new.not_before.as_secs();
                    assert!(!(taken && early), "{new:?} before its time, at {t}, by a clock at {wall}");
                }
                assert_eq!(all_right, fate == Fate::Served, "{new:?} for {served:?} at {wall} within {skew}");
                counts[match fate {
                    Fate::Served => 0,
                    Fate::Warned => 1,
                    Fate::Held(_) => 2,
                    Fate::Refused => 3,
                }] += 1;
            }
        }
        assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
    }

    #[test]
    fn the_table_is_what_happens() {
        let (early, valid, over) = (leaf(20, 40), leaf(5, 30), leaf(1, 9));
        let (served, expired, future) = (leaf(0, 12), leaf(0, 8), leaf(15, 50));
        for (new, fates) in [
            (&valid, [Fate::Served; 4]),
            (&early, [Fate::Warned, Fate::Held(20), Fate::Held(20), Fate::Held(20)]),
            (&over, [Fate::Warned, Fate::Refused, Fate::Warned, Fate::Refused]),
        ] {
            let served = [None, Some(&served), Some(&expired), Some(&future)];
            assert_eq!(served.map(|served| fate(new, served, 10, 0)), fates, "{new:?}");
        }
    }

    /// Checks: INV-05. Engine: generated.
    #[test]
    fn inv05_a_leaf_that_is_served_is_neither_waited_for_nor_rejected() {
        for (from, to, wall) in
            (2..6).flat_map(|from| (from..6).flat_map(move |to| (0..9).map(move |wall| (from, to, wall))))
        {
            let leaf = leaf(from, to);
            let again = fate_after(&leaf, Some(&leaf), wall, 1.min(wall));
            assert_eq!(again, fate(&leaf, None, wall, 1.min(wall)), "{leaf:?} at {wall}");
        }
    }

    #[test]
    fn skew_delays_a_new_leaf_and_extends_the_served_one() {
        let served = leaf(0, 100);
        assert_eq!(fate(&leaf(50, 150), Some(&served), 52, 5), Fate::Held(55));
        assert_eq!(fate(&leaf(50, 150), Some(&served), 55, 5), Fate::Served);
        assert_eq!(fate(&leaf(1, 60), Some(&served), 55, 5), Fate::Served);
        assert_eq!(fate(&leaf(1, 60), Some(&served), 56, 5), Fate::Refused);
        assert_eq!(fate(&leaf(1, 60), Some(&served), 105, 5), Fate::Refused);
        assert_eq!(fate(&leaf(1, 60), Some(&served), 106, 5), Fate::Warned);
        // A leaf that ends at the same time is not worse, and the longest skew does not overflow.
        assert_eq!(fate(&leaf(1, 100), Some(&served), 98, 5), Fate::Warned);
        assert_eq!(fate(&leaf(1, u64::MAX), Some(&served), 98, u64::MAX), Fate::Held(u64::MAX));
    }
}
