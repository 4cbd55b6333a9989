//! Limit on the connections that the process can afford.

/// Limit on open connections, however many descriptors there are: each costs memory too.
const CONNECTIONS_LIMIT: usize = 4096;
/// Descriptors that a reload needs besides one for each directory on the way to the files: 64 files
/// at a time, and some for the watcher and for directories that come into use later.
const RELOAD_RESERVE: usize = 64 + 32;

/// Raises the limit on descriptors as far as that is useful and allowed.
pub(crate) fn raise() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let useful = (CONNECTIONS_LIMIT + 4 * RELOAD_RESERVE) as u64;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < useful) {
            let raised = limit.maximum.map_or(useful, |maximum| maximum.min(useful));
            // Without more descriptors the limit on connections is lower.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
        }
    }
}

/// Returns the number of descriptors that the process may have; `None` where nothing limits it.
#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}

/// Returns the number of open connections that leaves a reload enough descriptors, where `dirs`
/// directories lead to the files.
///
/// Called once everything else is open.
pub(crate) fn connections(dirs: usize) -> usize {
    // Linux, macOS and the BSDs list the open descriptors here.
    let open = std::fs::read_dir("/dev/fd").map_or(64, Iterator::count);
    descriptors().map_or(CONNECTIONS_LIMIT, |limit| affordable(limit, open, dirs))
}

/// Computes [`connections`]. With very few descriptors, connections get half of the free ones.
fn affordable(limit: usize, open: usize, dirs: usize) -> usize {
    let free = limit.saturating_sub(open);
    free.saturating_sub(RELOAD_RESERVE + dirs).max(free / 2).clamp(1, CONNECTIONS_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks: INV-15. Engine: generated, exhaustive up to 6,000 descriptors.
    #[test]
    fn inv15_connections_leave_the_descriptors_of_a_reload() {
        for dirs in [0, 4, 50] {
            for open in [16, 25, 100] {
                for limit in open..6_000 {
                    let (most, free) = (affordable(limit, open, dirs), limit - open);
                    assert!((1..=CONNECTIONS_LIMIT).contains(&most), "{limit}: {most}");
                    let left = free.saturating_sub(most);
                    let wanted = (RELOAD_RESERVE + dirs).min(free / 2);
                    assert!(left >= wanted || free <= 1, "{limit}, {open}, {dirs}: {most} leave {left}");
                }
            }
        }
        assert_eq!([256, 1_024, 1_000_000].map(|limit| affordable(limit, 20, 4)), [136, 904, 4_096]);
    }
}
