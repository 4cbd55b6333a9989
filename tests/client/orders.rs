//! A client's handshakes amid publications, in every order of their steps.
//!
//! Checks: INV-01, INV-02, INV-09. Engine: exhaustive.

use std::sync::Arc;

use rustls::{ClientConfig, Error as TlsError, ServerConfig, client::Resumption};
use rustls_reload::{ClientReloader, Reload};
use rustls_reload_harness::settings;

use crate::{
    common::{
        CompletedHandshake, Generation, Handshake, Volume,
        orders::{self, Config, World, immediate},
        sessions::Kind,
    },
    world,
};

/// The files of one publication: the generation of the identity, and those of the roots.
#[derive(PartialEq, Eq)]
struct Files {
    identity: usize,
    roots: &'static [usize],
}

impl orders::Files for Files {
    fn is_trusting(&self) -> bool {
        self.roots.contains(&0)
    }

    fn trusts_as(&self, other: &Self) -> bool {
        self == other
    }
}

impl Files {
    fn bundle(&self, all: &[Generation]) -> String {
        self.roots.iter().map(|root| all[*root].ca.pem.as_str()).collect()
    }
}

const fn files(identity: usize, roots: &'static [usize]) -> Files {
    Files { identity, roots }
}

struct Connecting {
    all: Arc<[Generation]>,
    history: &'static [Files],
    published: usize,
    volume: Volume,
    reloader: ClientReloader,
    /// One configuration for life.
    config: Option<Arc<ClientConfig>>,
    server: Arc<ServerConfig>,
}

impl World for Connecting {
    type Files = Files;

    /// Roots change with the identity and without it, and return.
    const HISTORIES: &'static [[Files; 3]] = &[
        [files(0, &[0]), files(1, &[1]), files(2, &[0])],
        [files(0, &[0, 1]), files(0, &[1]), files(0, &[0, 1])],
        [files(0, &[1]), files(1, &[0, 1]), files(1, &[1])],
        [files(0, &[0]), files(1, &[0]), files(0, &[0])],
        [files(0, &[0]), files(0, &[0, 1]), files(0, &[0])],
    ];

    fn new(all: &Arc<[Generation]>, history: &'static [Files], config: Config, kind: Kind) -> Self {
        let bundle = history[0].bundle(all);
        let volume = Volume::in_memory(&world::files(&all[history[0].identity].client, &bundle));
        let reloader = world::client(&volume).timing(immediate()).load().unwrap();
        let config = (config != Config::EachConnection).then(|| {
            let mut kept = reloader.rotating_config();
            if config == Config::ForLifeResuming {
                kept.resumption = Resumption::default();
            }
            Arc::new(kept)
        });
        let clients: Vec<_> = all.iter().map(|of| &of.ca).collect();
        let server = world::server(&all[0].server, &clients, kind);
        Self { all: Arc::clone(all), history, published: 0, volume, reloader, config, server }
    }

    fn publish(&mut self) {
        self.published += 1;
        let files = &self.history[self.published];
        let bundle = files.bundle(&self.all);
        self.volume.publish_in_one_tick(&world::files(&self.all[files.identity].client, &bundle));
        assert_eq!(self.reloader.reload_now(), Reload::Reloaded);
    }

    fn begin(&mut self) -> Result<Handshake, TlsError> {
        let config = self.config.as_ref().map_or_else(|| self.reloader.config(), Arc::clone);
        Handshake::begin(Arc::clone(&self.server), &config)
    }

    fn shows_wrongly(
        all: &[Generation],
        served: &[Files],
        connection: &CompletedHandshake,
    ) -> Option<&'static str> {
        let shown = |files: &Files| connection.client.as_ref() == Some(&all[files.identity].client.leaf);
        (!served.iter().any(shown)).then_some("INV-01: an identity that is not served")
    }
}

#[test]
fn inv09_client_handshakes_amid_publications_in_every_order() {
    orders::hold_in_every_order::<Connecting>("client", settings::is("INTERLEAVE", "whole"));
}
