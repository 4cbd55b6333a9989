//! Warnings about files that pass every check. Nothing here rejects anything.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};

use super::{anchors, chain, findings::Inspection};
use crate::{
    pki::{
        crl,
        der::{self, Fields},
    },
    read::walk::Walk,
    report::{
        error::{Layer, Warning},
        event::Timestamp,
    },
    watch::{lacks_remote_events, mounts},
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
    let key = paths.iter().position(|path| *path == named.key);
    found.extend(key.map(|key| files(paths, walk, key)).unwrap_or_default());
    // The start already reported a directory that holds files.
    let is_reported = |dir: &&PathBuf| inspection.warnings.iter().any(|warning| warning.path() == Some(dir));
    found.extend(no_events(inspection.watched.iter().filter(|dir| !is_reported(dir)), lacks_remote_events));
    found
}

/// Warns of files that are mounted alone, and of a key, at this index, that every user can read.
pub(super) fn files(paths: &[PathBuf], walk: &Walk, key: usize) -> Vec<Warning> {
    let file = walk.file(key).map(|entry| entry.path.as_path());
    let readable = paths.get(key).and_then(|path| readable(path, file));
    readable.into_iter().chain(mounts::warnings(walk, paths)).collect()
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
    fn each_directory_on_a_remote_file_system_is_reported() {
        let dirs = ["/", "/net/tls"].map(PathBuf::from);
        let warnings = no_events(dirs.iter(), |dir| dir.starts_with("/net").then_some("NFS"));
        let [only] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert_eq!((only.layer(), only.path()), (Layer::Watch, Some(Path::new("/net/tls"))));
        assert!(only.why().contains("NFS"), "{only}");
    }
}
