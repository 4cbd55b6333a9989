//! Designs of a server with three sets, each wrong in one way, with rustls's own verifier behind them.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{
    Sorting, Walked,
    oracle::{Oracle, Part},
    world::{Bundle, Ca, List, Lists, State, Tls, World},
};
use crate::common::certified;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Right,
    /// A set of lists is built beside the client CAs of the first load. Breaks: INV-14
    ForgetsTheServedCas,
    /// A directory of lists that is broken, empty or gone counts as one without lists. Breaks: INV-14
    BrokenListsAreNone,
    /// The whole is built from all files as they are on disk, each good one taken alone. Breaks: INV-14
    TakesTheLastSeen,
    /// Lists that no CA has signed go, and with the last of them the check. Breaks: INV-14
    DropsListsOfOtherKeys,
    /// A broken file anywhere refuses all sets. Breaks: INV-14, INV-15
    OneSet,
}

/// A server by one of the rules.
pub struct Design<'a> {
    world: &'a World,
    rule: Rule,
    first: State,
    oracle: Oracle,
    config: Arc<ServerConfig>,
}

impl<'a> Design<'a> {
    pub fn new(world: &'a World, rule: Rule, first: State) -> Self {
        let sets: &[&[Part]] = match rule {
            Rule::OneSet => Sorting::Together.sets(),
            _ => Sorting::Three.sets(),
        };
        let oracle = Oracle::new(sets, first, false);
        let config = config(world, &first, rule);
        Self { world, rule, first, oracle, config }
    }

    fn served(&self) -> State {
        let (served, disk) = (self.oracle.served, self.oracle.disk);
        match self.rule {
            Rule::ForgetsTheServedCas if served.lists != self.first.lists => {
                State { bundle: self.first.bundle, ..served }
            }
            Rule::BrokenListsAreNone if !matches!(disk.lists, Lists::Good(_)) => {
                State { lists: Lists::Good(&[]), ..served }
            }
            Rule::TakesTheLastSeen if matches!(disk.lists, Lists::Good(_)) => {
                State { lists: disk.lists, ..served }
            }
            _ => served,
        }
    }
}

impl Walked for Design<'_> {
    fn reload(&mut self, disk: &State) -> Option<Vec<bool>> {
        self.oracle.disk = *disk;
        self.oracle.reload();
        self.config = config(self.world, &self.served(), self.rule);
        None
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    fn epoch(&self) -> Option<u64> {
        None
    }
}

/// rustls's own verifier, with the lists that a CA of the bundle has signed before all others.
fn config(world: &World, state: &State, rule: Rule) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    let bundle = world.bundle(state.bundle);
    for ca in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(ca.unwrap()).unwrap();
    }
    let signed = |list: &List| {
        let Bundle::Good(cas) = state.bundle else { return false };
        let name_is_trusted = |ca: &Ca| ca.name() == list.ca.name();
        cas.contains(&list.ca) || !cas.iter().any(name_is_trusted)
    };
    let mut lists: Vec<_> = state.listed().to_vec();
    lists.sort_by_key(|list| !signed(list));
    if rule == Rule::DropsListsOfOtherKeys {
        lists.retain(signed);
    }
    let lists = lists
        .iter()
        .map(|list| CertificateRevocationListDer::from_pem_slice(world.list(*list).as_bytes()).unwrap());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(lists)
        .build()
        .unwrap();
    let Tls::Good(pair) = state.tls else { panic!("a broken pair is served") };
    let key = certified(world.leaf(pair), world.key(pair));
    let resolver = rustls::sign::SingleCertAndKey::from(key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    Arc::new(config)
}
