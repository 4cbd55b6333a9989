//! One CRL of a file, and what is known of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::Policy;
use crate::{
    pki::der,
    server::{
        revocation_list::{Parsed, Span},
        signer::Signer,
    },
};

/// A CRL with its file and what is known of its signer.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(super) path: PathBuf,
    pub(crate) parsed: Arc<Parsed>,
    pub(crate) signer: Signer,
    /// Whether CAs of the bundle have its issuer's name, and none of them signed it.
    pub(super) foreign: bool,
    /// Whether a CA that was removed from the bundle signed it.
    pub(crate) retired: bool,
    /// Entries on hold that a newer CRL of the same issuer, key and scope released, each with the
    /// end of that CRL.
    pub(crate) released: Arc<[(Span, Duration)]>,
}

impl List {
    /// Returns whether the CRL revokes the certificate of its issuer that has this serial number.
    pub(crate) fn names(&self, serial: &[u8], policy: Policy, now: Duration) -> bool {
        let released =
            |span| self.released(span).is_some_and(|until| policy.ignore_expiration || now < until);
        !self.parsed.named(serial).iter().all(released)
    }

    /// Returns the serial numbers that the CRL revokes, in ascending order.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.parsed.serials().iter();
        all.filter(|span| self.released(span).is_none()).map(|span| self.parsed.serial(span))
    }

    /// Returns until when this entry is released from hold.
    fn released(&self, span: &Span) -> Option<Duration> {
        let place = self.released.binary_search_by_key(span, |(span, _)| *span).ok()?;
        self.released.get(place).map(|(_, until)| *until)
    }

    /// Returns whether both have the same issuer, scope and signer, so that they cover the same
    /// certificates.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        (&self.parsed.canonical, &self.parsed.scope) == (&other.parsed.canonical, &other.parsed.scope)
            && self.signer.is_same(&other.signer)
    }

    /// Returns whether it was issued no earlier than `other`, a CRL for the same certificates: by
    /// date, then by number.
    pub(crate) fn is_as_new_as(&self, other: &Self) -> bool {
        let age =
            |list: &Self| (list.parsed.this_update, list.parsed.magnitude().map(|(l, d)| (l, d.to_vec())));
        age(self) >= age(other)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn issuer(&self) -> String {
        name(&self.parsed.issuer)
    }

    /// Returns whether both share one parsed file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parsed, &other.parsed)
    }

    pub(crate) fn is_expired(&self, wall: Duration) -> bool {
        wall >= self.parsed.next_update
    }
}

/// Returns an issuer's name in words.
pub(crate) fn name(name: &[u8]) -> String {
    der::name(name).filter(|text| !text.is_empty()).unwrap_or_else(|| "a CA without a name".to_owned())
}

#[cfg(all(test, not(loom)))]
impl List {
    /// Makes a CRL with these serial numbers and without an issuer.
    pub(crate) fn of_serials(serials: &[Vec<u8>]) -> Self {
        let parsed = Arc::new(Parsed::of_serials(serials));
        Self {
            path: PathBuf::new(),
            parsed,
            signer: Signer::Other(None),
            foreign: false,
            retired: false,
            released: Arc::default(),
        }
    }
}
