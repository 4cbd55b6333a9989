//! The revocation lists of a generation: which of them count, and what refuses a set of them.
//!
//! webpki takes the first list that it finds under the name of a certificate's issuer, verifies its signature during the
//! handshake, and where there are no lists at all checks nothing. So all of this is settled before: a list signed by
//! another key than its CA's would refuse every client, an older list before a newer one would let revoked ones in, and
//! an empty set would let in all.

use std::{
    cmp::{Ordering, Reverse},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateRevocationListDer, TrustAnchor},
    server::{ClientCertVerifierBuilder, WebPkiClientVerifier},
};

use crate::{
    crl::{self, Fields},
    der::{self, Reader, SEQUENCE},
    error::{Error, Layer},
    event::Timestamp,
};

const BIT_STRING: u8 = 0x03;

/// What is asked of the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) end_entity_only: bool,
    pub(super) allow_unknown: bool,
    pub(super) ignore_expiration: bool,
}

impl Policy {
    pub(super) fn apply(
        self,
        lists: &Lists,
        builder: ClientCertVerifierBuilder,
    ) -> ClientCertVerifierBuilder {
        let mut builder = builder.with_crls(lists.iter().map(|(_, der)| der.clone()));
        if self.end_entity_only {
            builder = builder.only_check_end_entity_revocation();
        }
        if self.allow_unknown {
            builder = builder.allow_unknown_revocation_status();
        }
        if !self.ignore_expiration {
            builder = builder.enforce_revocation_expiration();
        }
        builder
    }

    /// Whether it refuses anybody whom `other` lets in.
    pub(super) fn is_stricter_than(self, other: Self) -> bool {
        (other.end_entity_only && !self.end_entity_only)
            || (other.allow_unknown && !self.allow_unknown)
            || (other.ignore_expiration && !self.ignore_expiration)
    }
}

/// The lists that count, the newest first; foreign ones are behind all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    counting: Vec<List>,
    superseded: Vec<CertificateRevocationListDer<'static>>,
}

#[derive(Clone, Debug)]
struct List {
    path: PathBuf,
    der: CertificateRevocationListDer<'static>,
    /// Its issuer and scope: each list is compared with each, and to read them again each time would take minutes.
    issuer: Vec<u8>,
    scope: Option<Vec<u8>>,
    /// The public key of the CA that signed it; `None` where no CA of the bundle has its issuer's name.
    signer: Option<Vec<u8>>,
    /// CAs of the bundle have its issuer's name, and none of them has signed it.
    foreign: bool,
}

impl List {
    /// Every list was read when it was parsed.
    fn fields(&self) -> Option<Fields<'_>> {
        crl::fields(&self.der)
    }
}

/// What a set of lists is judged by besides itself.
pub(super) struct Court<'a> {
    pub(super) policy: Policy,
    pub(super) roots: &'a Arc<RootCertStore>,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) wall: Duration,
    pub(super) served: Option<&'a Lists>,
}

impl Lists {
    /// The lists with the files that they are of.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &CertificateRevocationListDer<'static>)> {
        self.counting.iter().map(|list| (list.path.as_path(), &list.der))
    }

    /// What is read of each, with the key of the CA that signed it.
    pub(super) fn fields(&self) -> impl Iterator<Item = (Fields<'_>, Option<&[u8]>)> {
        self.counting.iter().filter_map(|list| Some((list.fields()?, list.signer.as_deref())))
    }

    /// Reads the lists of these files, of all sets that are to be served together.
    ///
    /// 1. Each has to be one that rustls can use, and signed by a CA of the bundle where one has its issuer's name.
    /// 2. Of several of one issuer, key and scope the newest counts.
    /// 3. None may have expired unless the served one of its issuer has, too.
    /// 4. No CA may lose its lists. 5. What an operator should know.
    ///
    /// A list that is served already refuses nothing by 1 and 3: a change of the client CAs may come from another publisher.
    pub(super) fn read<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a [u8])>,
        court: &Court<'_>,
        warnings: &mut Vec<Error>,
    ) -> Result<Self, Error> {
        let (mut lists, mut foreign) = (Vec::new(), Vec::new());
        for (path, file) in files {
            for der in crl::parse(file).map_err(|error| error.at(path))? {
                // 1.
                let list = court.admit(path, der).map_err(|why| Error::new(Layer::Crl, why).at(path))?;
                if list.foreign { foreign.push(list) } else { lists.push(list) }
            }
        }
        foreign.iter().try_for_each(|list| court.foreign(list, &lists, warnings))?;
        if lists.is_empty() && foreign.is_empty() {
            return Ok(Self::default());
        }
        // 2.
        sort(&mut lists);
        sort(&mut foreign);
        lists.append(&mut foreign);
        let lists = Self::superseding(lists, warnings);
        // 3.
        for list in lists.counting.iter().filter(|list| !list.foreign) {
            court.expired(list, warnings)?;
        }
        // 4.
        court.lost(&lists, warnings)?;
        // 5.
        lists.counting.iter().for_each(|list| court.rolled_back(list, warnings));
        court.without(&lists, warnings);
        Ok(lists)
    }

    /// Keeps the first of each issuer, key and scope.
    fn superseding(lists: Vec<List>, warnings: &mut Vec<Error>) -> Self {
        let mut kept = Self::default();
        for list in lists {
            match kept.counting.iter().find(|newer| replaces(newer, &list)) {
                None => {
                    kept.counting.push(list);
                    continue;
                }
                Some(newer) if newer.der == list.der => {}
                Some(newer) => {
                    let why = format!(
                        "a newer revocation list of the same issuer lies in {}: this one does not count",
                        newer.path.display()
                    );
                    warnings.push(Error::new(Layer::Crl, why).at(&list.path));
                }
            }
            kept.superseded.push(list.der);
        }
        kept
    }

    fn of<'a>(&'a self, issuer: &'a [u8]) -> impl Iterator<Item = &'a List> {
        self.counting.iter().filter(move |list| list.issuer == issuer)
    }

    /// Whether this very list was read, be it one that does not count.
    fn has(&self, der: &CertificateRevocationListDer<'_>) -> bool {
        self.counting.iter().any(|list| list.der == *der) || self.superseded.contains(der)
    }
}

fn sort(lists: &mut [List]) {
    // Stable: what is of one age stays in the order of the files.
    lists.sort_by_cached_key(|list| {
        let age = list.fields().map(|fields| {
            let number = fields.magnitude().map(|(length, digits)| (length, digits.to_vec()));
            (fields.this_update, number)
        });
        Reverse(age)
    });
}

/// Whether both are about the same certificates.
fn replaces(a: &List, b: &List) -> bool {
    (&a.issuer, &a.signer, &a.scope) == (&b.issuer, &b.signer, &b.scope)
}

impl Court<'_> {
    /// A list that passed all that it is judged by alone.
    fn admit(&self, path: &Path, der: CertificateRevocationListDer<'static>) -> Result<List, String> {
        let fields = crl::fields(&der).ok_or("the revocation list is malformed")?;
        let signer = self.signer(&der, &fields)?;
        let foreign = signer.is_none() && self.anchors(fields.issuer).next().is_some();
        let (issuer, scope) = (fields.issuer.to_vec(), fields.scope.map(<[u8]>::to_vec));
        Ok(List { path: path.to_owned(), der, issuer, scope, signer, foreign })
    }

    /// Judges a list under the name of CAs none of which has signed it. It must not take the place of one that they have
    /// signed; served it may be, where it was before the CAs changed, and lets none of their clients in.
    fn foreign(&self, list: &List, lists: &[List], warnings: &mut Vec<Error>) -> Result<(), Error> {
        let issuer = name(&list.issuer);
        let others = lists.iter().any(|other| other.issuer == list.issuer);
        let replaces_none = |served: &Lists| {
            let mut old = served.of(&list.issuer).peekable();
            served.has(&list.der) || old.peek().is_some() && old.all(|old| old.foreign)
        };
        if !others && !self.served.is_some_and(replaces_none) {
            let why = format!(
                "the revocation list of {issuer} is not signed by the CA of that name, or in a way that the crypto \
                 provider does not know"
            );
            return Err(Error::new(Layer::Crl, why).at(&list.path));
        }
        let mut why = format!("the revocation list of {issuer} is not signed by any CA of that name");
        if !others && !self.policy.allow_unknown {
            why.push_str(": no client of it is let in until one is there that it has signed");
        }
        warnings.push(Error::new(Layer::Crl, why).at(&list.path));
        Ok(())
    }

    /// The key of the CA that signed a list; `None` where none has, as with the list of an intermediate that clients send:
    /// that one is verified in each handshake.
    fn signer(
        &self,
        der: &CertificateRevocationListDer<'static>,
        fields: &Fields<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        if !fields.version_2 {
            return Err("the revocation list is of version 1: rustls takes version 2 only".to_owned());
        }
        if fields.next_update.is_none() {
            return Err("the revocation list does not say when the next one is due".to_owned());
        }
        // What else rustls does not take: delta lists, indirect ones, critical extensions that it does not know.
        WebPkiClientVerifier::builder_with_provider(Arc::clone(self.roots), Arc::clone(self.provider))
            .with_crls([der.clone()])
            .build()
            .map_err(|error| format!("rustls does not take the revocation list: {error}"))?;
        let algorithms = &self.provider.signature_verification_algorithms;
        let signer = self.anchors(fields.issuer).find(|anchor| signed_by(fields, anchor, algorithms));
        Ok(signer.map(|anchor| anchor.subject_public_key_info.to_vec()))
    }

    fn anchors<'a>(&'a self, subject: &'a [u8]) -> impl Iterator<Item = &'a TrustAnchor<'static>> {
        self.roots.roots.iter().filter(move |anchor| anchor.subject.as_ref() == subject)
    }

    /// The rule about dates: as for a leaf, what has expired does not replace what has not.
    fn expired(&self, list: &List, warnings: &mut Vec<Error>) -> Result<(), Error> {
        let expired = |list: &List| {
            let next = list.fields().and_then(|fields| fields.next_update);
            next.filter(|next| self.wall >= *next)
        };
        let (Some(fields), Some(at)) = (list.fields(), expired(list)) else { return Ok(()) };
        let effect = if self.policy.ignore_expiration {
            "it counts all the same"
        } else {
            "no client of it is let in"
        };
        let why = format!("the revocation list of {} has expired at {}", name(fields.issuer), Timestamp(at));
        let served = |lists: &Lists| lists.of(fields.issuer).any(|served| expired(served).is_some());
        if self.served.is_some_and(|lists| !served(lists) && !lists.has(&list.der)) {
            return Err(Error::new(Layer::Crl, why).at(&list.path));
        }
        warnings.push(Error::new(Layer::Crl, format!("{why}: {effect}")).at(&list.path));
        Ok(())
    }

    /// An issuer of which there were lists and now are none: what it revoked would be forgotten.
    fn lost(&self, lists: &Lists, warnings: &mut Vec<Error>) -> Result<(), Error> {
        for served in self.served.into_iter().flat_map(|served| &served.counting) {
            if lists.of(&served.issuer).next().is_some() {
                continue;
            }
            let why = format!("there is no revocation list of {} any more", name(&served.issuer));
            let gone = Error::new(Layer::Crl, why).at(&served.path);
            if self.anchors(&served.issuer).next().is_some() {
                return Err(gone);
            }
            warnings.push(gone);
        }
        Ok(())
    }

    /// An older list than the served one. Who publishes the files may go back to an earlier update as a whole, so it is
    /// not refused; but what was revoked in between is let in again.
    fn rolled_back(&self, list: &List, warnings: &mut Vec<Error>) {
        let Some(new) = list.fields() else { return };
        for served in
            self.served.into_iter().flat_map(|served| &served.counting).filter(|old| replaces(old, list))
        {
            let Some(old) = served.fields() else { continue };
            if new.this_update < old.this_update || new.numbered(&old) == Some(Ordering::Less) {
                let why = format!(
                    "the revocation list of {} is older than the one before it: issued {} after {}, number {} after {}",
                    name(new.issuer),
                    Timestamp(new.this_update),
                    Timestamp(old.this_update),
                    new.number.map_or_else(|| "-".to_owned(), der::serial_hex),
                    old.number.map_or_else(|| "-".to_owned(), der::serial_hex),
                );
                warnings.push(Error::new(Layer::Crl, why).at(&list.path));
            }
        }
    }

    /// CAs of which there is no list, and names that two keys share: rustls finds a list by its issuer's name alone.
    fn without(&self, lists: &Lists, warnings: &mut Vec<Error>) {
        let mut seen: Vec<&[u8]> = Vec::new();
        for anchor in &self.roots.roots {
            let (subject, key) = (anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref());
            if seen.contains(&subject) {
                continue;
            }
            seen.push(subject);
            let listed = lists.of(subject).next().is_some();
            let several = self.anchors(subject).any(|other| other.subject_public_key_info.as_ref() != key);
            let why = match (listed, several) {
                (true, true) => format!(
                    "there are several CAs of the name {} with keys of their own: clients of those whose revocation list \
                     is not the newest are refused",
                    name(subject)
                ),
                (false, _) if !self.policy.allow_unknown => {
                    format!("there is no revocation list of {}: no client of it is let in", name(subject))
                }
                _ => continue,
            };
            warnings.push(Error::new(Layer::Crl, why));
        }
    }
}

/// Whether the key of a CA has signed a list, by the algorithms of the provider (RFC 5280 section 6.3.3 (g)).
fn signed_by(list: &Fields<'_>, anchor: &TrustAnchor<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
    let mut spki = Reader(anchor.subject_public_key_info.as_ref());
    let (Some(kind), Some(bits)) = (spki.read(SEQUENCE), spki.read(BIT_STRING)) else { return false };
    let Some(key) = bits.strip_prefix(&[0]) else { return false };
    algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == list.algorithm
            && algorithm.public_key_alg_id().as_ref() == kind
            && algorithm.verify_signature(key, list.signed, list.signature).is_ok()
    })
}

/// An issuer, in words.
pub(super) fn name(name: &[u8]) -> String {
    der::name(name).filter(|text| !text.is_empty()).unwrap_or_else(|| "a CA without a name".to_owned())
}
