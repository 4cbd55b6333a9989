//! The plan: under which path each directory of a walk is watched, and which names count in it.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use crate::{fs::FileId, read::walk::WalkedDir};

/// A directory that a file set subscribes to.
#[derive(Hash)]
pub(crate) struct Planned {
    /// The path that it is watched under.
    pub(crate) path: PathBuf,
    pub(super) id: FileId,
    pub(super) names: BTreeSet<OsString>,
    /// As [`WalkedDir::only_traversed`].
    pub(super) only_traversed: bool,
    /// Whether every name counts that does not begin with a dot.
    pub(super) listed: bool,
    /// Whether the file set walks this very path.
    pub(super) own: bool,
}

/// Returns where to watch each directory of a walk. `shared` returns the path under which a
/// directory is watched already. Two paths to one directory would share one watch, and its events
/// would name either path.
pub(crate) fn plan<'a>(
    walked: &'a [WalkedDir],
    shared: impl Fn(&WalkedDir) -> Option<&'a PathBuf>,
) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::with_capacity(walked.len());
    for dir in walked {
        let knowable = dir.id.ino != 0;
        let own = plan.iter().find(|planned| knowable && planned.own && planned.id == dir.id);
        let path = match own {
            Some(planned) => planned.path.clone(),
            None => shared(dir).filter(|_| knowable).unwrap_or(&dir.path).clone(),
        };
        let own = path == dir.path;
        match plan.iter_mut().find(|planned| planned.path == path) {
            Some(planned) => {
                planned.names.extend(dir.names.iter().cloned());
                planned.only_traversed &= dir.only_traversed;
                planned.listed |= dir.listed.is_some();
                planned.own |= own;
            }
            None => plan.push(Planned {
                own,
                path,
                id: dir.id,
                names: dir.names.clone(),
                only_traversed: dir.only_traversed,
                listed: dir.listed.is_some(),
            }),
        }
    }
    plan
}
