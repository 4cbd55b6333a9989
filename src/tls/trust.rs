//! What the sessions of a server are made under, and the state that they live in.
//!
//! rustls resumes a session by its cipher suite and server name alone, and takes the client's certificate as it was
//! stored: nobody verifies it again. So the state goes on only while everything that it was verified under does.

use std::{collections::BTreeSet, fmt, sync::Arc};

use rustls::{
    Error as TlsError, ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};

use super::{rehearse::NoTickets, server::ClientAuth};
use crate::{
    build::Shrunk,
    der,
    error::{Error, Layer},
    event::{Fingerprint, Lost},
    sha256,
    trust::{Epoch, Trust},
};

/// Sessions stored where no other number is set: enough for 1,024 clients of TLS 1.2 or half as many of TLS 1.3.
///
/// rustls's own default is 256. A larger storage is slower: a TLS 1.3 session is searched for among all that are stored.
pub const SESSION_LIMIT: usize = 1024;

/// What is encrypted to see whether another ticketer can read it.
const PROBE: &[u8] = b"whose is this?";

pub(super) type TrustEpoch = Epoch<Arc<ServerTrust>, Sessions>;

/// What sessions are made under, byte for byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerTrust {
    mode: Option<ClientAuth>,
    /// DER; neither order nor duplicates matter.
    cas: BTreeSet<Vec<u8>>,
    /// Of each pair, in the order of the settings: the default first.
    names: Vec<BTreeSet<(u8, Vec<u8>)>>,
}

impl ServerTrust {
    /// The trust in nobody, asking for this.
    pub(super) fn new(mode: Option<ClientAuth>) -> Self {
        Self { mode, cas: BTreeSet::new(), names: Vec::new() }
    }

    /// Trusts these client CAs.
    pub(super) fn cas(&mut self, certificates: &[CertificateDer<'_>]) {
        self.cas.extend(certificates.iter().map(|certificate| certificate.to_vec()));
    }

    /// Serves the names of this leaf as well.
    pub(super) fn pair(&mut self, leaf: &CertificateDer<'_>) {
        let owned = |(tag, name): (u8, &[u8])| (tag, name.to_vec());
        let names = der::fields(leaf).map(|fields| der::identity(&fields).into_iter().map(owned).collect());
        // One that cannot be read has no name but itself.
        self.names.push(names.unwrap_or_else(|| BTreeSet::from([(0, leaf.to_vec())])));
    }
}

impl ServerTrust {
    /// What `served` trusts and this does not.
    fn lost(&self, served: &Self) -> Vec<Lost> {
        let mut lost: Vec<_> =
            served.cas.difference(&self.cas).map(|ca| Lost::ClientCa(fingerprint(ca))).collect();
        if strictness(self.mode) > strictness(served.mode) {
            lost.push(Lost::Unauthenticated);
        }
        lost
    }
}

/// What to tell of an epoch that is to take the place of another.
pub(super) fn shrunk(epoch: &TrustEpoch, served: &TrustEpoch) -> Option<Shrunk> {
    let shrank = epoch.shrank_after(served.number());
    shrank.then(|| Shrunk { epoch: epoch.number(), lost: epoch.trust().lost(served.trust()) })
}

fn fingerprint(certificate: &[u8]) -> Fingerprint {
    Fingerprint(sha256::digest(certificate))
}

fn strictness(mode: Option<ClientAuth>) -> u8 {
    match mode {
        None => 0,
        Some(ClientAuth::Optional) => 1,
        Some(ClientAuth::Required) => 2,
    }
}

impl Trust for ServerTrust {
    /// Whether a CA went, or less is asked of clients no more: names are no trust of clients.
    fn shrinks(&self, served: &Self) -> bool {
        !served.cas.is_subset(&self.cas) || strictness(self.mode) > strictness(served.mode)
    }
}

/// What can resume sessions: whoever has it has them all.
#[derive(Clone)]
pub(super) struct Sessions {
    storage: Arc<dyn StoresServerSessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Sessions {
    pub(super) fn put_into(&self, config: &mut ServerConfig) {
        config.session_storage = Arc::clone(&self.storage);
        config.ticketer = Arc::clone(&self.ticketer);
    }

    pub(super) fn stored_by(&self, config: &ServerConfig) -> bool {
        Arc::ptr_eq(&self.storage, &config.session_storage)
    }

    pub(super) fn ticketed_by(&self, config: &ServerConfig) -> bool {
        Arc::ptr_eq(&self.ticketer, &config.ticketer)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

type MakeTicketer = Box<dyn FnMut() -> Result<Arc<dyn ProducesTickets>, TlsError> + Send>;

/// The settings of resumption.
pub(super) struct Resumption {
    pub(super) limit: usize,
    pub(super) make: Option<MakeTicketer>,
    pub(super) over_reloads: bool,
}

impl Default for Resumption {
    fn default() -> Self {
        Self { limit: SESSION_LIMIT, make: None, over_reloads: true }
    }
}

impl Resumption {
    /// The epoch of what is to take the place of what is `served`.
    pub(super) fn epoch(
        &mut self,
        served: Option<&TrustEpoch>,
        trust: ServerTrust,
    ) -> Result<TrustEpoch, Error> {
        Epoch::after(served, Arc::new(trust), self.over_reloads, |served| self.fresh(served))
    }

    fn fresh(&mut self, served: Option<&Sessions>) -> Result<Sessions, Error> {
        let storage: Arc<dyn StoresServerSessions> = match self.limit {
            0 => Arc::new(NoServerSessionStorage {}),
            limit => ServerSessionMemoryCache::new(limit),
        };
        let Some(make) = &mut self.make else {
            return Ok(Sessions { storage, ticketer: Arc::new(NoTickets) });
        };
        let mut ticketer = || {
            make().map_err(|error| Error::new(Layer::Config, format!("no ticketer could be made: {error}")))
        };
        let fresh = ticketer()?;
        // At the first load another one is made for the comparison, so that shared keys are an error at the start.
        let other = served.map_or_else(ticketer, |served| Ok(Arc::clone(&served.ticketer)))?;
        if other.encrypt(PROBE).is_some_and(|ticket| fresh.decrypt(&ticket).is_some()) {
            let why = "the ticketer that was made takes the tickets of another: it needs keys of its own";
            return Err(Error::new(Layer::Config, why));
        }
        Ok(Sessions { storage, ticketer: fresh })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A trust of these CAs, and what else there is.
    fn trust(mode: Option<ClientAuth>, cas: &[u8], leaf: u8) -> ServerTrust {
        let mut trust = ServerTrust::new(mode);
        let cas: Vec<_> = cas.iter().map(|ca| CertificateDer::from(vec![*ca])).collect();
        trust.cas(&cas);
        trust.pair(&CertificateDer::from(vec![leaf]));
        trust
    }

    /// Checks: INV-11.
    #[test]
    fn inv11_a_ca_that_has_gone_and_a_stricter_mode_shrink_the_trust_and_nothing_else_does() {
        use ClientAuth::{Optional, Required};
        let modes = [None, Some(Optional), Some(Required)];
        let sets: [&[u8]; 5] = [&[], &[1], &[2], &[1, 2], &[2, 1, 2]];
        let mut shrank = 0;
        for (old, strict) in modes.iter().enumerate() {
            for (new, stricter) in modes.iter().enumerate() {
                for (had, has) in sets.iter().flat_map(|had| sets.iter().map(move |has| (had, has))) {
                    let (served, next) = (trust(*strict, had, 1), trust(*stricter, has, 2));
                    let gone: BTreeSet<_> = had.iter().filter(|ca| !has.contains(ca)).collect();
                    let mut lost: Vec<_> =
                        gone.iter().map(|ca| Lost::ClientCa(fingerprint(&[**ca]))).collect();
                    if new > old {
                        lost.push(Lost::Unauthenticated);
                    }
                    assert_eq!(next.lost(&served), lost, "{served:?} {next:?}");
                    assert_eq!(next.shrinks(&served), !lost.is_empty(), "{served:?} {next:?}");
                    shrank += usize::from(!lost.is_empty());
                }
            }
        }
        assert_eq!(
            shrank,
            3 * 25 + 6 * 10,
            "each pair of sets where the mode is stricter, else those that lack a CA"
        );
    }
}
