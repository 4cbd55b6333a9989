//! Servers whose sessions live where a rule puts them: the shipped rule, and wrong ones for the same checkers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring::Ticketer,
    server::ServerSessionMemoryCache,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Reload, SESSION_LIMIT, ServerReloader};

use super::Volume;

/// Where the state of sessions lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Where the crate puts it.
    Shipped,
    /// In one place for life. Breaks: INV-09
    SharesAlways,
    /// In another place at each publication. Breaks: INV-08, INV-09
    FreshAlways,
    /// By what is trusted, as if that were hashed: it is back when an earlier trust is. Breaks: INV-09
    Hashes,
}

/// How sessions resume.
pub type Kind = (&'static SupportedProtocolVersion, bool);

/// TLS 1.2 and 1.3, with stored sessions and with tickets.
pub const KINDS: [Kind; 4] = [(&TLS12, false), (&TLS12, true), (&TLS13, false), (&TLS13, true)];

/// A server that requires client certificates and reloads by hand.
pub struct Sessions {
    pub volume: Volume,
    pub reloader: ServerReloader,
    rule: Rule,
    tickets: bool,
    /// By what the rule goes by.
    states: HashMap<Vec<u8>, Arc<ServerConfig>>,
    current: (u64, Arc<ServerConfig>),
}

impl Sessions {
    pub fn new(files: &[super::Keyed<'_>; 3], name: &str, tickets: bool, rule: Rule) -> Self {
        let volume = Volume::new(files);
        let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let server = if tickets { server.tickets(Ticketer::new) } else { server };
        let reloader = server.load().unwrap();
        let current = (0, reloader.current());
        let states = HashMap::new();
        let mut this = Self { volume, reloader, rule, tickets, states, current };
        this.take_up(files, name);
        this
    }

    /// Publishes these files, and serves them when it returns; `name` is the server's.
    pub fn publish(&mut self, files: &[super::Keyed<'_>; 3], name: &str) -> Reload {
        self.volume.publish_in_one_tick(files);
        let answer = self.reloader.reload_now();
        self.take_up(files, name);
        answer
    }

    /// What the next handshake is shaken with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.1)
    }

    fn take_up(&mut self, files: &[super::Keyed<'_>; 3], name: &str) {
        let served = self.reloader.served();
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
            Rule::Hashes => {
                // As in the shipped rule, neither order nor duplicates matter.
                let bundle = rustls_reload::pem::ca_bundle(files[2].1).unwrap();
                let cas: BTreeSet<&[u8]> = bundle.iter().map(AsRef::as_ref).collect();
                cas.into_iter().chain([name.as_bytes()]).collect::<Vec<_>>().concat()
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
