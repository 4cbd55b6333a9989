//! A server's handshakes amid publications, in every order of their steps.
//!
//! Checks: INV-01, INV-02, INV-04, INV-09. Engine: exhaustive.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, Error as TlsError, ServerConfig, crypto::ring::Ticketer, server::ServerSessionMemoryCache,
};
use rustls_reload::{ClientAuth, Reload, ServerReloader};
use rustls_reload_harness::settings;
use rustls_reload_testkit::Pair;

use crate::common::{
    CompletedHandshake, Generation, Handshake, Volume, client_showing,
    orders::{self, Config, World, immediate},
    sessions::Kind,
};

/// The files of one publication: the generation of the server's pair, and those of the client CAs.
struct Files {
    server: usize,
    cas: &'static [usize],
    /// Whether the list of the client's CA names the client.
    revokes: bool,
}

impl orders::Files for Files {
    fn is_trusting(&self) -> bool {
        self.cas.contains(&0) && !self.revokes
    }

    fn trusts_as(&self, other: &Self) -> bool {
        (self.cas, self.revokes) == (other.cas, other.revokes)
    }
}

const fn files(server: usize, cas: &'static [usize], revokes: bool) -> Files {
    Files { server, cas, revokes }
}

struct Serving {
    all: Arc<[Generation]>,
    history: &'static [Files],
    published: usize,
    volume: Volume,
    reloader: ServerReloader,
    /// One configuration for life.
    config: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

impl Files {
    /// Returns the text of each file. The lists have this number.
    fn texts(&self, all: &[Generation], number: usize) -> [(&'static str, String); 4] {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let list = |ca: &usize| {
            let revoked = (self.revokes && *ca == 0).then_some(&all[0].client.leaf);
            let list = all[*ca].ca.crl(revoked.as_slice(), (now - hour, now + hour), number as u64);
            list.pem
        };
        let Pair { chain, key, .. } = all[self.server].server.clone();
        let bundle = self.cas.iter().map(|ca| all[*ca].ca.pem.as_str()).collect();
        let lists = self.cas.iter().map(list).collect();
        [("tls.crt", chain), ("tls.key", key), ("ca.crt", bundle), ("ca.crl", lists)]
    }
}

impl World for Serving {
    type Files = Files;

    /// CA and list change with the pair and without it, and return.
    const HISTORIES: &'static [[Files; 3]] = &[
        [files(0, &[0], false), files(1, &[1], false), files(2, &[0], false)],
        [files(0, &[0, 1], false), files(0, &[1], false), files(1, &[0, 1], false)],
        [files(0, &[1], false), files(1, &[0, 1], false), files(1, &[1], false)],
        [files(0, &[0], false), files(1, &[0], true), files(1, &[0], false)],
        [files(0, &[0], true), files(1, &[0], false), files(2, &[0], true)],
    ];

    fn new(
        all: &Arc<[Generation]>,
        history: &'static [Files],
        config: Config,
        (version, tickets): Kind,
    ) -> Self {
        let texts = history[0].texts(all, 1);
        let volume = Volume::in_memory(&texts.each_ref().map(|(name, text)| (*name, text.as_bytes())));
        let server = volume.server().timing(immediate());
        let server = server.client_ca(volume.path("ca.crt"), ClientAuth::Required).crl(volume.path("ca.crl"));
        let server = if tickets { server.tickets(Ticketer::new) } else { server };
        let reloader = server.load().unwrap();
        let config = (config != Config::EachConnection).then(|| {
            let mut kept = Arc::unwrap_or_clone(reloader.rotating_config());
            if config == Config::ForLifeResuming {
                (kept.send_tls13_tickets, kept.max_tls13_tickets) = (2, 2);
                if tickets {
                    kept.ticketer = Ticketer::new().unwrap();
                } else {
                    kept.session_storage = ServerSessionMemoryCache::new(16);
                }
            }
            Arc::new(kept)
        });
        let client = client_showing(&all.iter().collect::<Vec<_>>(), Some(&all[0]), &[version]);
        Self { all: Arc::clone(all), history, published: 0, volume, reloader, config, client }
    }

    fn publish(&mut self) {
        self.published += 1;
        let texts = self.history[self.published].texts(&self.all, self.published + 1);
        self.volume.publish_in_one_tick(&texts.each_ref().map(|(name, text)| (*name, text.as_bytes())));
        assert_eq!(self.reloader.reload_now(), Reload::Reloaded);
    }

    fn begin(&mut self) -> Result<Handshake, TlsError> {
        let config = self.config.as_ref().map_or_else(|| self.reloader.config(), Arc::clone);
        Handshake::begin(config, &self.client)
    }

    /// The certificate comes before the client's, and is never newer than the trust.
    fn shows_wrongly(
        all: &[Generation],
        served: &[Files],
        connection: &CompletedHandshake,
    ) -> Option<&'static str> {
        let shown = served.iter().position(|files| all[files.server].server.leaf == *connection.leaf());
        let Some(shown) = shown else { return Some("INV-01: a certificate that is not served") };
        let trusting = served[shown..].iter().any(orders::Files::is_trusting);
        (!trusting).then_some("INV-04: the certificate is newer than the trust")
    }
}

#[test]
fn inv09_server_handshakes_amid_publications_in_every_order() {
    orders::hold_in_every_order::<Serving>("server", settings::is("INTERLEAVE", "whole"));
}
