//! The build step of the shipped server, with bytes instead of files.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rustls::{
    Error as TlsError, ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider,
    server::ProducesTickets,
};
use rustls_reload::{
    Build, Built, ClientAuth, Context, Error, Files, InitialBuild, ServerReloader, ServerTls,
    internal::{self, ServerBuild},
};

use super::{
    cert_cache::CertCache,
    world::{LEAVES, Leaf, Policy, State},
};

/// A crypto provider and its ticketer.
#[derive(Clone)]
pub struct Provider {
    pub crypto: Arc<CryptoProvider>,
    pub ticketer: fn() -> Result<Arc<dyn ProducesTickets>, TlsError>,
}

/// The sorting of the files into sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Pair, client CAs and lists in one set.
    One,
    /// Lists in a set of their own.
    Lists,
    /// Each part in a set of its own.
    Three,
    /// The pair in one set, and client CAs with their lists in another.
    Clients,
    /// Lists in two directories: the first list of each state in one, the others in the second.
    TwoPublishers,
}

impl Layout {
    /// Returns the sets with client CAs and lists, without repeats.
    pub fn of_clients(self) -> &'static [usize] {
        match self {
            Self::One => &[0],
            Self::Lists => &[0, 1],
            Self::Three => &[1, 2],
            Self::Clients => &[1],
            Self::TwoPublishers => &[0, 1, 2],
        }
    }
}

/// The settings of a server.
#[derive(Clone)]
pub struct Setup {
    pub provider: Provider,
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub mode: Option<ClientAuth>,
    pub policy: Policy,
    pub layout: Layout,
    pub has_lists: bool,
    pub tickets: bool,
    pub further: bool,
    pub strict: bool,
    pub over_reloads: bool,
    pub cache: Option<usize>,
}

impl Setup {
    /// Returns settings with both versions, required client certificates, and one set.
    pub fn new(provider: &Provider) -> Self {
        Self {
            provider: provider.clone(),
            versions: rustls::ALL_VERSIONS,
            mode: Some(ClientAuth::Required),
            policy: Policy::default(),
            layout: Layout::One,
            has_lists: true,
            tickets: false,
            further: false,
            strict: false,
            over_reloads: true,
            cache: None,
        }
    }
}

/// The number of TLS 1.3 sessions that a client gets from each handshake. Each can be offered once.
pub const TICKETS: usize = 16;

/// A server between two loads.
pub struct Server {
    build: ServerBuild,
    layout: Layout,
    mode: Option<ClientAuth>,
}

impl Server {
    pub fn new(setup: &Setup) -> Self {
        Self::configured(setup, |config| config.send_tls13_tickets = TICKETS)
    }

    /// Makes the server with this closure for further settings.
    pub fn configured(setup: &Setup, configure: impl FnMut(&mut ServerConfig) + Send + 'static) -> Self {
        let mut builder = ServerReloader::builder("/tls/tls.crt", "/tls/tls.key")
            .provider(Arc::clone(&setup.provider.crypto))
            .versions(setup.versions)
            .strict_names(setup.strict)
            .resume_over_reloads(setup.over_reloads)
            .configure(configure);
        if setup.further {
            builder = builder.pair("/further/tls.crt", "/further/tls.key");
        }
        if let Some(mode) = setup.mode {
            builder = builder.client_ca("/tls/ca.crt", mode);
        }
        builder = builder.separate_client_ca(matches!(setup.layout, Layout::Three | Layout::Clients));
        builder = builder.crls_with_client_ca(setup.layout == Layout::Clients);
        builder = match setup.layout {
            _ if !setup.has_lists => builder,
            Layout::One => builder.crl("/tls/ca.crl"),
            Layout::Lists | Layout::Three | Layout::Clients => builder.crl_dir("/lists"),
            Layout::TwoPublishers => builder.crl_dir("/lists").crl_dir("/more"),
        };
        let Policy { leaf_only, allow_unknown, use_expired } = setup.policy;
        builder = if leaf_only { builder.only_check_end_entity_revocation() } else { builder };
        builder = if allow_unknown { builder.allow_unknown_revocation_status() } else { builder };
        builder = if use_expired { builder.ignore_revocation_expiration() } else { builder };
        builder = if setup.tickets { builder.tickets(setup.provider.ticketer) } else { builder };
        builder = setup.cache.into_iter().fold(builder, |builder, cache| builder.session_cache(cache));
        let slot = Mutex::new(None);
        let generic = internal::generic(builder).unwrap();
        drop(internal::around(generic, |build| {
            *slot.lock().unwrap() = Some(build);
            Nobody
        }));
        let build = slot.into_inner().unwrap().unwrap();
        Self { build, layout: setup.layout, mode: setup.mode }
    }

    /// Returns the files of all sets.
    pub fn files(&self, cache: &CertCache, state: &State, leaves: &[Leaf]) -> Vec<Files> {
        let pair = |dir: &str, leaf: &Leaf| {
            let pair = cache.leaf(leaf);
            vec![file(dir, "tls.crt", &pair.chain), file(dir, "tls.key", &pair.key)]
        };
        let mut sets = vec![pair("/tls", &leaves[0])];
        sets.extend(leaves[1..].iter().map(|leaf| pair("/further", leaf)));
        if self.mode.is_none() {
            return sets.into_iter().map(Files::new).collect();
        }
        let bundle = file("/tls", "ca.crt", &cache.bundle(state.bundle));
        let list = |dir: &'static str| {
            let lists = state.lists().iter().enumerate();
            lists.map(move |(i, list)| file(dir, &format!("{i}.crl"), cache.list_pem(list)))
        };
        match self.layout {
            Layout::One => {
                sets[0].push(bundle);
                let all = state.lists.map(|lists| lists.iter().map(|list| cache.list_pem(list)).collect());
                sets[0].extend(all.map(|all: String| file("/tls", "ca.crl", &all)));
            }
            Layout::Lists => {
                sets[0].push(bundle);
                sets.push(list("/lists").collect());
            }
            Layout::Three => sets.extend([vec![bundle], list("/lists").collect()]),
            Layout::Clients => sets.push(std::iter::once(bundle).chain(list("/lists")).collect()),
            Layout::TwoPublishers => {
                sets[0].push(bundle);
                sets.extend([list("/lists").take(1).collect(), list("/more").skip(1).collect()]);
            }
        }
        sets.into_iter().map(Files::new).collect()
    }

    pub fn first(&mut self, files: &[Files]) -> Result<InitialBuild<ServerTls>, Error> {
        self.build.first(files, wall())
    }

    pub fn change(
        &mut self,
        served: &ServerTls,
        set: usize,
        files: &Files,
    ) -> Result<Built<ServerTls>, Error> {
        let mut context = Context::new(wall(), Some(served));
        context.set = set;
        self.build.build(files, &context)
    }

    /// Loads a state with the first leaves.
    pub fn load(&mut self, cache: &CertCache, state: &State) -> Result<InitialBuild<ServerTls>, Error> {
        let files = self.files(cache, state, &LEAVES[..1]);
        self.first(&files)
    }
}

pub fn file(dir: &str, name: &str, text: &str) -> (PathBuf, Vec<u8>) {
    (PathBuf::from(dir).join(name), text.into())
}

fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// A placeholder for the build step that was taken out.
struct Nobody;

impl Build for Nobody {
    type Value = ServerTls;

    fn build(&mut self, _: &Files, _: &Context<'_, ServerTls>) -> Result<Built<ServerTls>, Error> {
        unreachable!("nothing is loaded")
    }
}
