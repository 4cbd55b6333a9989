//! The sizes and counts beyond which a file set is not read.

/// The largest file read, in bytes (4 MiB). A Kubernetes Secret holds at most 1 MiB; Debian's whole
/// CA bundle is 220 kB.
pub const FILE_LIMIT: u64 = 4 << 20;
/// The largest file of CRLs read, in bytes (64 MiB). Public authorities publish lists
/// of up to 100 MB in all, and of 10 to 20 MB each.
pub const LIST_FILE_LIMIT: u64 = LISTED_BYTES_LIMIT;
/// Symlinks followed on one path; Linux stops at the same number (path_resolution(7)).
pub const LINK_LIMIT: usize = 40;
/// Names looked up on one path, so that a symlink loop through directories ends as well.
pub const LOOKUP_LIMIT: usize = 512;

/// Names that are looked up in one directory whose files all belong to the set.
pub const LISTING_LIMIT: usize = 1024;
/// Names in such a directory that begin with a dot and are skipped: there may be no end of them.
pub const HIDDEN_LIMIT: usize = 16 * LISTING_LIMIT;
/// Bytes of all files in such a directory together (64 MiB).
pub const LISTED_BYTES_LIMIT: u64 = 64 << 20;

/// Returns the warning about a file whose length has reached 80 % of its limit: beyond the limit,
/// each update is rejected.
pub(crate) fn near_limit(limit: u64, length: usize) -> Option<String> {
    (length as u64 >= limit / 5 * 4)
        .then(|| format!("{length} bytes are close to the limit of {limit}: above it, updates are rejected"))
}
