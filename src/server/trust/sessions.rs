//! The state that sessions live in, and the settings of resumption.

use std::{fmt, sync::Arc};

use rustls::{
    Error as TlsError, ServerConfig,
    server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};

use super::{ServerTrust, TrustEpoch};
use crate::{
    decide::trust::Epoch,
    report::error::{Error, Layer},
    server::rehearse::NoTickets,
};

/// Default limit of stored sessions: enough for 1,024 TLS 1.2 clients, or half as many TLS 1.3
/// clients.
///
/// rustls's own default is 256. A larger storage is slower: a TLS 1.3 session is searched for among
/// all that are stored.
pub const SESSION_LIMIT: usize = 1024;

/// The content of a test ticket, by which a ticketer shows whether it can decrypt another one's
/// tickets.
const PROBE: &[u8] = b"whose is this?";

/// The state of resumption: every server that holds it resumes all of its sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    storage: Arc<dyn StoresServerSessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Sessions {
    pub(crate) fn put_into(&self, config: &mut ServerConfig) {
        config.session_storage = Arc::clone(&self.storage);
        config.ticketer = Arc::clone(&self.ticketer);
    }

    pub(crate) fn stored_by(&self, config: &ServerConfig) -> bool {
        Arc::ptr_eq(&self.storage, &config.session_storage)
    }

    pub(crate) fn ticketed_by(&self, config: &ServerConfig) -> bool {
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
pub(crate) struct Resumption {
    pub(crate) limit: usize,
    pub(crate) make: Option<MakeTicketer>,
    pub(crate) over_reloads: bool,
}

impl Default for Resumption {
    fn default() -> Self {
        Self { limit: SESSION_LIMIT, make: None, over_reloads: true }
    }
}

impl Resumption {
    /// Returns the epoch of a value that is to replace `served`.
    pub(crate) fn epoch(
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
        // At the first load a second ticketer is made for the comparison, so that shared keys are
        // an error at the start.
        let other = served.map_or_else(ticketer, |served| Ok(Arc::clone(&served.ticketer)))?;
        if other.encrypt(PROBE).is_some_and(|ticket| fresh.decrypt(&ticket).is_some()) {
            let why = "the new ticketer accepts the tickets of another one: it needs keys of its own";
            return Err(Error::new(Layer::Config, why));
        }
        Ok(Sessions { storage, ticketer: fresh })
    }
}
