//! File systems that do not report changes made elsewhere as events.

use std::path::Path;

/// Returns the kind of the file system at `dir`, if it is known to deliver no events for changes
/// that are made elsewhere.
///
/// Elsewhere means on another host, or by the process behind a FUSE mount. Only the poll finds such
/// a change, although every watch was accepted. Returns `None` if this is not known of the file
/// system, if the call fails, and on every platform but Linux.
///
/// Not promised: `None` does not mean that there are events. An overlay over such a file system has
/// a number of its own. Like every call that goes to a network file system, this one can block for
/// as long as the server is away.
///
/// # Sources
///
/// inotify(7), limitations: "it does not catch remote events that occur on network filesystems".
/// The numbers of file systems that hosts share are from statfs(2) and `linux/magic.h`
/// (`linux/gfs2_ondisk.h` for GFS2). The numbers of Lustre, GPFS, VirtualBox and VMware are from
/// coreutils' `src/stat.c`, which calls all of these remote so that `tail -f` polls there.
///
/// FUSE, virtiofs included, has no messages for events (libfuse wiki, "Fsnotify and FUSE"). Neither
/// has 9p, which coreutils calls local (kata-containers/runtime issue 1505: ConfigMap updates over
/// 9p are not seen). procfs reports nothing about the processes that its directories stand for.
#[must_use]
pub(crate) fn lacks_remote_events(dir: &Path) -> Option<&'static str> {
    kind_of(dir).and_then(name)
}

/// Returns whether `dir` lies on procfs, Linux's file system of processes.
#[cfg(all(feature = "notify", not(windows), not(loom)))]
pub(super) fn on_procfs(dir: &Path) -> bool {
    kind_of(dir) == Some(PROCFS)
}

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROCFS: u32 = 0x9fa0;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kind_of(dir: &Path) -> Option<u32> {
    // The number has 32 bits; the field is wider or signed, depending on the architecture.
    rustix::fs::statfs(dir).ok().map(|found| found.f_type as u32)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kind_of(_: &Path) -> Option<u32> {
    None
}

/// Returns the name of a file system without remote events, by its number.
fn name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        // The numbers of OpenAFS and of the kernel's own AFS.
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        // Its directories stand for processes, and links in them for the files that these have
        // open.
        PROCFS => "procfs",
        0x786f_4256 => "VirtualBox shared folder",
        0xbacb_acbc => "VMware shared folder",
        _ => return None,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shared_file_systems_are_silent_and_local_ones_are_not() {
        let known = [
            (0x6969, "NFS"),
            (0xff53_4d42, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9p"),
            (0x00c3_6400, "Ceph"),
            (0x517b, "SMB"),
            (0x5346_414f, "AFS"),
            (0x6b41_4653, "AFS"),
            (0x7375_7245, "Coda"),
            (0x564c, "NCP"),
            (0x7461_636f, "OCFS2"),
            (0x0116_1970, "GFS2"),
            (0x0bd0_0bd0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x786f_4256, "VirtualBox shared folder"),
            (0xbacb_acbc, "VMware shared folder"),
            (0x9fa0, "procfs"),
        ];
        for (magic, expected) in known {
            assert_eq!(name(magic), Some(expected), "{magic:#x}");
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, sysfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x6265_6572] {
            assert_eq!(name(magic), None, "{magic:#x}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_system_is_asked_for_its_number() {
        let proc_number = kind_of(Path::new("/proc"));
        assert_eq!(proc_number, Some(0x9fa0), "statfs(2): PROC_SUPER_MAGIC");
        assert_eq!(lacks_remote_events(Path::new("/proc")), Some("procfs"));
        assert_eq!(
            lacks_remote_events(Path::new("/proc/self/root")),
            lacks_remote_events(Path::new("/")),
            "where it leads"
        );
    }

    #[test]
    fn local_and_missing_directories_are_not_remote() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(
            lacks_remote_events(dir.path()),
            None,
            "the temporary directory lies on a shared file system"
        );
        assert_eq!(lacks_remote_events(&dir.path().join("missing")), None);
    }
}
