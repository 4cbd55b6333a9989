//! Files that are mounted alone, such as those of a Kubernetes subPath.

use std::{ffi::OsString, path::PathBuf};

use crate::{
    read::walk::Walk,
    report::error::{Layer, Warning},
};

/// Warns of files that are mount points: a rename over the file at its source never becomes visible
/// here.
pub(crate) fn warnings(walk: &Walk, paths: &[PathBuf]) -> Vec<Warning> {
    let points = mount_points();
    let alone = |(i, path): (usize, &PathBuf)| {
        points.contains(&walk.file(i)?.path).then(|| {
            let why = "the file is mounted alone (subPath, or a bind mount of one file): a replacement at \
                       its source never appears here; mount its directory instead";
            Warning::new(Layer::Watch, why).at(path)
        })
    };
    paths.iter().enumerate().filter_map(alone).collect()
}

/// Returns the mount points of this process; none where the system has no such list.
fn mount_points() -> Vec<PathBuf> {
    let list = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    list.split(|byte| *byte == b'\n').filter_map(mount_point).collect()
}

/// Parses the mount point in a line of proc_pid_mountinfo(5): the fifth field, in which white space
/// and backslashes are octal escapes.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let (mut path, mut at) = (Vec::with_capacity(field.len()), 0);
    while let Some(byte) = field.get(at) {
        let meant = field.get(at..at + 4).and_then(octal);
        path.push(meant.unwrap_or(*byte));
        at += if meant.is_some() { 4 } else { 1 };
    }
    Some(os_string(path).into())
}

/// Returns the byte that a backslash and three octal digits stand for.
fn octal(escape: &[u8]) -> Option<u8> {
    let digits = escape.strip_prefix(b"\\")?;
    let digit =
        |sum: u32, digit: &u8| matches!(digit, b'0'..=b'7').then(|| sum * 8 + u32::from(digit - b'0'));
    u8::try_from(digits.iter().try_fold(0, digit)?).ok()
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_with_what_is_escaped_in_it() {
        let line = b"36 35 98:0 /mnt1 /mnt2/a\\040b\\134c/\xc3\xa9 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some("/mnt2/a b\\c/\u{e9}".into()));
        // None of these sequences is an escape.
        assert_eq!(mount_point(b"36 35 98:0 / /\\04 rw"), Some("/\\04".into()));
        assert_eq!(mount_point(b"36 35 98:0 / /\\999\\777 rw"), Some("/\\999\\777".into()));
        assert_eq!(mount_point(b"36 35 98:0 /mnt1"), None);
        assert_eq!(mount_point(b""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_mount_points_of_this_process_are_found() {
        assert!(mount_points().contains(&PathBuf::from("/proc")), "{:?}", mount_points());
    }
}
