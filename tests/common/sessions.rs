//! Servers whose rule for the storage of sessions differs: the shipped rule, and wrong ones for the
//! same checkers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring::Ticketer,
    pki_types::CertificateRevocationListDer,
    server::ServerSessionMemoryCache,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Reload, SESSION_LIMIT, ServerReloader, internal::crl};

use super::Volume;

/// A rule that chooses the storage of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The rule of the crate.
    Shipped,
    /// One storage for the life of the server. Breaks: INV-09
    SharesAlways,
    /// A new storage at each publication. Breaks: INV-08, INV-09
    FreshAlways,
    /// A storage for each trust, as if that were hashed: an earlier trust gets its old storage
    /// back. Breaks: INV-09
    Hashes,
    /// The shipped rule, but without CRLs in the trust. Breaks: INV-09
    ForgetsLists,
}

/// A TLS version, and whether sessions resume by tickets.
pub type Kind = (&'static SupportedProtocolVersion, bool);

/// TLS 1.2 and 1.3, with stored sessions and with tickets.
pub const KINDS: [Kind; 4] = [(&TLS12, false), (&TLS12, true), (&TLS13, false), (&TLS13, true)];

/// A server that requires client certificates and is reloaded manually.
pub struct Sessions {
    pub volume: Volume,
    pub reloader: ServerReloader,
    rule: Rule,
    tickets: bool,
    /// The storages by the key that the rule uses.
    states: HashMap<Vec<u8>, Arc<ServerConfig>>,
    /// The trust at the last publication without CRLs, and the number of its changes.
    trusted: (Vec<u8>, u64),
    current: (u64, Arc<ServerConfig>),
}

impl Sessions {
    /// Loads a server of chain, key, client CAs and, if there is a fourth file, CRLs.
    pub fn new(files: &[super::NamedFile<'_>], name: &str, tickets: bool, rule: Rule) -> Self {
        let volume = Volume::in_memory(files);
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let server = files.get(3).into_iter().fold(server, |server, (list, _)| server.crl(volume.path(list)));
        let server = if tickets { server.tickets(Ticketer::new) } else { server };
        let reloader = server.load().unwrap();
        let current = (0, reloader.config());
        let (states, trusted) = (HashMap::new(), (Vec::new(), 0));
        let mut this = Self { volume, reloader, rule, tickets, states, trusted, current };
        this.take_up(files, name);
        this
    }

    /// Publishes these files and serves them before it returns. `name` is the server's name.
    pub fn publish(&mut self, files: &[super::NamedFile<'_>], name: &str) -> Reload {
        self.volume.publish_in_one_tick(files);
        let answer = self.reloader.reload_now();
        self.take_up(files, name);
        answer
    }

    /// Returns the configuration of the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.1)
    }

    fn take_up(&mut self, files: &[super::NamedFile<'_>], name: &str) {
        let served = self.reloader.current();
        if served.generation == self.current.0 {
            return;
        }
        let mut config = served.value.config.as_ref().clone();
        let key = match self.rule {
            Rule::Shipped => {
                self.current = (served.generation, Arc::clone(&served.value.config));
                return;
            }
            Rule::SharesAlways => Vec::new(),
            Rule::FreshAlways => served.generation.to_be_bytes().to_vec(),
            Rule::Hashes => [trusted(files, name), revoked(files)].concat(),
            Rule::ForgetsLists => {
                let now = trusted(files, name);
                self.trusted.1 += u64::from(now != self.trusted.0);
                self.trusted.0 = now;
                self.trusted.1.to_be_bytes().to_vec()
            }
        };
        match self.states.get(&key) {
            Some(state) => {
                config.session_storage = Arc::clone(&state.session_storage);
                config.ticketer = Arc::clone(&state.ticketer);
            }
            None => {
                config.session_storage = ServerSessionMemoryCache::new(SESSION_LIMIT);
                if self.tickets {
                    config.ticketer = Ticketer::new().unwrap();
                }
            }
        }
        self.current = (served.generation, Arc::new(config));
        self.states.entry(key).or_insert_with(|| Arc::clone(&self.current.1));
    }
}

/// Returns the trust: the client CAs, regardless of order and repetition, and the server's name.
fn trusted(files: &[super::NamedFile<'_>], name: &str) -> Vec<u8> {
    let bundle = rustls_reload::internal::pem::ca_bundle(files[2].1).unwrap();
    let cas: BTreeSet<&[u8]> = bundle.iter().map(AsRef::as_ref).collect();
    cas.into_iter().chain([name.as_bytes()]).collect::<Vec<_>>().concat()
}

/// Returns the serial numbers in the lists of these files, list by list.
fn revoked(files: &[super::NamedFile<'_>]) -> Vec<u8> {
    let lists = files.get(3).map(|(_, lists)| crl::parse(lists).unwrap()).unwrap_or_default();
    let serials = |list: &CertificateRevocationListDer<'_>| {
        [b"list", &*crl::fields(list).unwrap().revoked.concat()].concat()
    };
    lists.iter().flat_map(serials).collect()
}
