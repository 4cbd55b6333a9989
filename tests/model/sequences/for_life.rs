//! One configuration for life in a case on real files: `rotating_config()` of a server or a client,
//! in handshakes with a peer of each CA that the case has. The peers keep their sessions.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use rustls::{
    ClientConfig, Error as TlsError, ServerConfig, client::Resumption, pki_types::CertificateDer,
    server::ServerSessionMemoryCache, sign::SingleCertAndKey,
};
use rustls_reload::{ClientReloader, Reloader, ServerReloader};
use rustls_reload_harness::sim::{BLOCK, CA, CHAIN, Contents};

use super::{
    cert_cache::Block,
    client,
    plan::Plan,
    real::{CERT_CACHE, Side},
    server::Wrong,
};
use crate::common::{client_of_any, handshake, handshake_as};

/// Number of sessions that a wrong design keeps.
const KEPT: usize = 64;

/// The chain that a configuration presents, and whether a session was resumed.
type Met = (Vec<CertificateDer<'static>>, bool);

/// A peer of one configuration for life.
pub struct Peer {
    /// The CA that has issued its certificate.
    ca: Block,
    /// Makes a handshake, whose error means that the peer is rejected.
    meet: Box<dyn Fn() -> Result<Met, TlsError> + Send>,
}

/// A handshake with one configuration for life.
#[derive(Debug)]
pub struct Meeting {
    /// The generations from the one served before it to the one served after it.
    pub generations: RangeInclusive<u64>,
    /// The CA that has issued the peer's certificate.
    pub ca: Block,
    /// The chain that the configuration presents; `None` if the peer is rejected.
    pub chain: Option<Contents>,
    pub resumed: bool,
}

impl Meeting {
    /// Returns whether these files trust the peer.
    pub fn is_trusted_by(&self, files: &Contents) -> bool {
        files[CA].as_ref().is_some_and(|bundle| bundle.chunks_exact(BLOCK).any(|ca| *ca == self.ca))
    }

    /// Returns whether the chain is the one in these files.
    pub fn presents(&self, files: &Contents) -> bool {
        self.chain.as_ref().is_none_or(|chain| chain[CHAIN] == files[CHAIN])
    }
}

/// Makes a handshake with each peer.
pub fn meet<T: Side>(reloader: &Reloader<T>, peers: &[Peer]) -> Vec<Meeting> {
    let generation = || reloader.current().generation;
    let met = peers.iter().map(|Peer { ca, meet }| {
        let (before, met, after) = (generation(), meet(), generation());
        let resumed = met.as_ref().is_ok_and(|(_, resumed)| *resumed);
        let chain = met.ok().map(|(chain, _)| CERT_CACHE.shown(&chain, &[]));
        Meeting { generations: before..=after, ca: *ca, chain, resumed }
    });
    met.collect()
}

/// Returns the CAs of a case.
pub fn cas(plan: &Plan) -> BTreeSet<Block> {
    let files = plan.contents.iter().filter_map(|contents| contents[CA].as_ref());
    files.flat_map(|file| file.chunks_exact(BLOCK)).map(|block| block.try_into().unwrap()).collect()
}

/// Returns a client of each CA that a case has, in TLS 1.2 or 1.3 by turns.
pub fn clients(server: &ServerReloader, plan: &Plan, wrong: Wrong) -> Vec<Peer> {
    let mut config = Arc::unwrap_or_clone(server.rotating_config());
    if wrong == Wrong::ResumesForLife {
        config.session_storage = ServerSessionMemoryCache::new(KEPT);
        (config.send_tls13_tickets, config.max_tls13_tickets) = (2, 2);
    }
    let config = Arc::new(config);
    let issued = cas(plan).into_iter().filter_map(|ca| Some((ca, CERT_CACHE.client(&ca)?)));
    let peer = |(number, (ca, shown))| {
        let version = [&rustls::version::TLS12, &rustls::version::TLS13][number % 2];
        let shows = Arc::new(SingleCertAndKey::from(shown));
        let mut client = ClientConfig::clone(&client_of_any(shows, version));
        client.resumption = Resumption::in_memory_sessions(KEPT);
        let (config, client) = (Arc::clone(&config), Arc::new(client));
        let meet = move || {
            let connection = handshake(&config, &client)?;
            Ok((connection.chain, connection.resumed))
        };
        Peer { ca, meet: Box::new(meet) }
    };
    issued.enumerate().map(peer).collect()
}

/// Returns a server of each CA that a case has.
pub fn servers(client: &ClientReloader, plan: &Plan, wrong: Wrong) -> Vec<Peer> {
    let mut config = client.rotating_config();
    if wrong == Wrong::ResumesForLife {
        config.resumption = Resumption::in_memory_sessions(KEPT);
    }
    let config = Arc::new(config);
    let peer = |(ca, name, server): (Block, String, Arc<ServerConfig>)| {
        let config = Arc::clone(&config);
        let meet = move || {
            let connection = handshake_as(&server, &config, &name)?;
            Ok((connection.client_chain, connection.resumed))
        };
        Peer { ca, meet: Box::new(meet) }
    };
    client::servers(plan).into_iter().map(peer).collect()
}
