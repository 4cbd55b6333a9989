//! Warnings about files that pass every check. Nothing here rejects anything.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};

use super::{anchors, chain, findings::Inspection};
use crate::{
    fs::Kind,
    pki::{
        crl,
        der::{self, Fields},
    },
    read::walk::{Entry, Lookup, Walk},
    report::{
        error::{Layer, Warning},
        event::Timestamp,
    },
    watch::lacks_remote_events,
};

/// Returns all warnings about files that were accepted; none for files that were rejected, because
/// their error says more.
///
/// `chains` holds every chain that would be served with its path, the default one first.
pub(super) fn warnings(
    inspection: &Inspection,
    chains: &[(PathBuf, Vec<CertificateDer<'static>>)],
    provider: Option<&CryptoProvider>,
    wall: Duration,
    soon: Duration,
) -> Vec<Warning> {
    if inspection.refused.is_some() {
        return Vec::new();
    }
    let Inspection { paths, walk, client_cas, crls, named, .. } = inspection;
    let algorithms = provider.map(|provider| &provider.signature_verification_algorithms);
    let mut found = Vec::new();
    for (path, chain) in chains {
        found.extend(chain::warnings(path, chain, algorithms));
        // The build already warned of a leaf outside its validity.
        let warned = inspection
            .warnings
            .iter()
            .any(|warning| warning.layer() == Layer::Validity && warning.path() == Some(path));
        found.extend(dates(path, chain, wall, (!warned).then_some(soon)));
    }
    if let Some(client_ca) = &named.client_ca {
        found.extend(client_cas.iter().filter_map(|ca| self::client_ca(client_ca, ca, wall)));
        found.extend(crls.iter().flat_map(|(path, list)| revocation(path, list, client_cas, wall, soon)));
    }
    let key = paths.iter().position(|path| *path == named.key).and_then(|place| file(walk, place));
    found.extend(readable(&named.key, key.map(|entry| entry.path.as_path())));
    found.extend(mounted(walk, paths, &mount_points()));
    // The start already reported a directory that holds files.
    let is_reported = |dir: &&PathBuf| inspection.warnings.iter().any(|warning| warning.path() == Some(dir));
    found.extend(no_events(inspection.watched.iter().filter(|dir| !is_reported(dir)), lacks_remote_events));
    found
}

/// Returns the file that the path at `index` leads to.
fn file(walk: &Walk, index: usize) -> Option<&Entry> {
    let entry = &walk.entries[walk.traces.get(index)?.last()?.entry];
    matches!(&entry.seen, Lookup::Node(stat) if stat.kind == Kind::File).then_some(entry)
}

/// Warns of a leaf that expires within `soon`, and of other certificates of the chain outside their
/// validity. The build warns of a leaf outside its own.
fn dates(path: &Path, chain: &[CertificateDer<'_>], wall: Duration, soon: Option<Duration>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (i, certificate) in chain.iter().enumerate() {
        let Some(fields) = der::fields(certificate) else { continue };
        let why = if i == 0 {
            let expires_soon = soon.is_some_and(|soon| fields.not_after < wall.saturating_add(soon));
            expires_soon.then(|| format!("the leaf expires at {}", Timestamp(fields.not_after)))
        } else {
            outside(&fields, wall).map(|how| format!("certificate {} of {} {how}", i + 1, chain.len()))
        };
        warnings.extend(why.map(|why| Warning::new(Layer::Validity, why).at(path)));
    }
    warnings
}

/// Warns of a client CA outside its validity, which rustls ignores (RFC 5280 section 6.2 leaves
/// that open).
fn client_ca(path: &Path, certificate: &CertificateDer<'_>, wall: Duration) -> Option<Warning> {
    let fields = der::fields(certificate)?;
    let why = format!(
        "the client CA {} {}: rustls ignores the dates of a client CA, so no client is rejected for them",
        anchors::subject(fields.subject),
        outside(&fields, wall)?
    );
    Some(Warning::new(Layer::ClientCa, why).at(path))
}

/// Warns of a CRL that expires within `soon`, of one whose issue date is in the future, and of one
/// whose issuer is not in the bundle. The build warns of a CRL that has expired.
fn revocation(
    path: &Path,
    list: &[u8],
    bundle: &[CertificateDer<'_>],
    wall: Duration,
    soon: Duration,
) -> Vec<Warning> {
    let Some(list) = crl::fields(list) else { return Vec::new() };
    let canonical = der::canonical_name(list.issuer);
    let known = |ca: &CertificateDer<'_>| {
        der::fields(ca).is_some_and(|ca| der::canonical_name(ca.subject) == canonical)
    };
    let known = bundle.iter().any(known);
    let due = list.next_update.filter(|next| wall < *next && *next < wall.saturating_add(soon));
    let whys = [
        due.map(|next| format!("the CRL expires at {}", Timestamp(next))),
        (wall < list.this_update)
            .then(|| format!("the CRL is dated in the future, {}", Timestamp(list.this_update))),
        (!known).then(|| {
            "the CRL is of none of the client CAs: it applies to clients that send an \
             intermediate of its issuer's name, and is verified in their handshake"
                .to_owned()
        }),
    ];
    whys.into_iter().flatten().map(|why| Warning::new(Layer::Crl, why).at(path)).collect()
}

fn outside(fields: &Fields<'_>, wall: Duration) -> Option<String> {
    if wall < fields.not_before {
        Some(format!("is valid only from {}", Timestamp(fields.not_before)))
    } else if wall.as_secs() > fields.not_after.as_secs() {
        Some(format!("has expired at {}", Timestamp(fields.not_after)))
    } else {
        None
    }
}

/// Warns of a key that every user can read: its mode allows that, and each directory on the way
/// lets every user through.
#[cfg(unix)]
fn readable(path: &Path, file: Option<&Path>) -> Option<Warning> {
    use std::os::unix::fs::MetadataExt;
    let file = file?;
    // A symlink in a resolved path is one of procfs, which needs more rights than its mode says.
    let allows = |path: &Path, bit: u32| {
        std::fs::symlink_metadata(path).is_ok_and(|found| found.mode() & bit != 0 && !found.is_symlink())
    };
    let everybody = allows(file, 0o004) && file.ancestors().skip(1).all(|dir| allows(dir, 0o001));
    let where_it_is = || if file == path { String::new() } else { format!(" (at {})", file.display()) };
    everybody.then(|| {
        let why = format!(
            "every user of this machine can read the private key{}: remove that right, for example with \
             `chmod o-r`",
            where_it_is()
        );
        Warning::new(Layer::Key, why).at(path)
    })
}

#[cfg(not(unix))]
fn readable(_: &Path, _: Option<&Path>) -> Option<Warning> {
    None
}

/// Warns of files that are mount points: a rename over the file at its source never becomes visible
/// here.
fn mounted(walk: &Walk, paths: &[PathBuf], points: &[PathBuf]) -> Vec<Warning> {
    let alone = |(i, path): (usize, &PathBuf)| {
        let file = file(walk, i)?;
        points.contains(&file.path).then(|| {
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

fn no_events<'a>(
    watched: impl Iterator<Item = &'a PathBuf>,
    lacks_events: impl Fn(&Path) -> Option<&'static str>,
) -> Vec<Warning> {
    let warnings = watched.filter_map(|dir| {
        let why =
            format!("{} reports no events of changes made elsewhere: polling finds them", lacks_events(dir)?);
        Some(Warning::new(Layer::Watch, why).at(dir))
    });
    warnings.collect()
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

    #[test]
    fn each_directory_on_a_remote_file_system_is_reported() {
        let dirs = ["/", "/net/tls"].map(PathBuf::from);
        let warnings = no_events(dirs.iter(), |dir| dir.starts_with("/net").then_some("NFS"));
        let [only] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert_eq!((only.layer(), only.path()), (Layer::Watch, Some(Path::new("/net/tls"))));
        assert!(only.why().contains("NFS"), "{only}");
    }
}
