//! Servers with three sets, each wrong in one way, with rustls's own verifier.

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
    /// Builds a set of lists with the client CAs of the first load. Breaks: INV-14
    ForgetsTheServedCas,
    /// Treats a broken, empty or missing directory of lists as one without lists. Breaks: INV-14
    BrokenListsAreNone,
    /// Builds the whole from all files on disk that are valid by themselves. Breaks: INV-14
    TakesTheLastSeen,
    /// Drops lists that no CA has signed, and with the last of them the check. Breaks: INV-14
    DropsListsOfOtherKeys,
    /// Refuses all sets for one broken file. Breaks: INV-14, INV-15
    OneSet,
}

/// A server with one of the rules.
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

/// Configures rustls's own verifier, with the lists that a CA of the bundle has signed before all
/// others.
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
