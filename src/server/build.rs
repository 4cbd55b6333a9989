//! The build step of a server: from the bytes of a file set to a `ServerConfig`.

use std::{sync::Arc, time::Duration};

use rustls::{
    ConfigBuilder, ServerConfig, WantsVerifier,
    server::{ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    anchors, chain,
    clients::{Anchors, Clients, Settings},
    crl::{Lists, Policy},
    dates::{self, Time},
    findings::InspectionLog,
    layout::{Layout, SetLayout, SetRole, missing},
    pairs::{self, Always, Pair, Pairs, SniPair},
    rehearse::rehearse,
    revocation::Verifier,
    settings::Tls,
    trust::{ClientAuth, Resumption, Sessions, TrustEpoch, reduction, subject_names},
    validate,
};
use crate::{
    build::{Build, Built, Context, InitialBuild, lost_a_file, lost_its_end, same_paths},
    pki::{crl, pem},
    read::snapshot::Files,
    report::{
        error::{Error, Layer, Warning},
        event::Leaf,
        steps,
    },
};

/// The published value of a server: an immutable configuration and its description.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerTls {
    /// The configuration, for `rustls::ServerConnection`, tokio-rustls and other consumers.
    pub config: Arc<ServerConfig>,
    /// The description of the leaf; with several pairs, of the default pair's leaf.
    pub leaf: Leaf,
    pub(super) resolver: Arc<Pairs>,
    clients: Arc<Clients>,
    pub(super) epoch: TrustEpoch,
    /// The verifier of `config`, which cannot be read back from it.
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// The first step of `config`, for configurations with another verifier.
    pub(super) unverified: ConfigBuilder<ServerConfig, WantsVerifier>,
}

impl ServerTls {
    /// Returns the number of the trust epoch that its sessions are made in; the first load's is 1.
    ///
    /// Each publication that changes client CAs, the certificates that their CRLs list, client
    /// authentication or the names of a pair increases it by one. So does a publication that
    /// returns to an earlier trust (INV-09). Sessions resume within an epoch only.
    #[must_use]
    pub fn trust_epoch(&self) -> u64 {
        self.epoch.number()
    }

    /// Returns the description of the leaf for a client that sends this SNI, or none; `None` if
    /// such a client is not answered.
    #[must_use]
    pub fn leaf_for(&self, name: Option<&str>) -> Option<&Leaf> {
        self.resolver.answering(name).map(|pair| &pair.leaf)
    }
}

/// The build step of a server: makes [`ServerTls`] from chain, key, client CAs and CRLs.
pub struct ServerBuild {
    pub(super) tls: Tls<ServerConfig>,
    pub(super) layout: Layout,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) revocation: Policy,
    pub(super) resumption: Resumption,
    /// The SNI pairs, in the order of their file sets.
    pub(super) pairs: Vec<SniPair>,
    pub(super) strict_names: bool,
    /// Records the findings of each stage, if the load is an inspection.
    pub(super) found: InspectionLog,
}

impl Build for ServerBuild {
    type Value = ServerTls;

    fn build(&mut self, files: &Files, context: &Context<'_, ServerTls>) -> Result<Built<ServerTls>, Error> {
        let Some(served) = context.served else {
            let InitialBuild { value, leaves, warnings } =
                self.first(std::slice::from_ref(files), context.wall)?;
            return Ok(Built { leaf: leaves.into_iter().next().flatten(), warnings, ..Built::new(value) });
        };
        let set = self.layout.get(context.set).cloned().ok_or_else(missing)?;
        let mut warnings = set.near_limits(files);
        let pair = set.role.pair().map(|_| self.pair(&set, files)).transpose()?;
        let settings = self.settings(context.wall);
        let clients = steps::parse(|| settings.after(&served.clients, (context.set, files), &mut warnings))?;
        let before = set.role.pair().and_then(|place| served.resolver.get(place)).map(|pair| &pair.leaf);
        let (mut leaf, mut not_before) = (None, None);
        if let Some(pair) = &pair {
            leaf = Some(pair.leaf.clone());
            not_before = self.judge_leaf(pair, before, context.wall, &mut warnings)?;
        }
        let pairs = match (set.role.pair(), pair) {
            (Some(place), Some(pair)) => Arc::new(served.resolver.with(place, pair)?),
            _ => Arc::clone(&served.resolver),
        };
        // If no pair has changed, the default pair shows that handshakes succeed.
        let changed = set.role.pair().unwrap_or(0);
        let value = self.whole(pairs, clients, Some(served), changed..changed + 1)?;
        let reduced_trust = reduction(&value.epoch, &served.epoch);
        Ok(Built { leaf, warnings, not_before, reduced_trust, ..Built::new(value) })
    }

    fn first(&mut self, sets: &[Files], wall: Duration) -> Result<InitialBuild<ServerTls>, Error> {
        let (mut pairs, mut leaves, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        self.found.note(|found| (found.files, found.wall) = (self.layout.inspected_of(sets), wall));
        let mut clients = None;
        for (set, files) in self.layout.iter().zip(sets) {
            warnings.extend(set.near_limits(files));
            let pair = set.role.pair().map(|_| self.pair(set, files)).transpose()?;
            if set.role == SetRole::Default {
                clients = Some(steps::parse(|| self.settings(wall).first(sets, &mut warnings))?);
            }
            leaves.push(pair.as_ref().map(|pair| pair.leaf.clone()));
            let Some(pair) = pair else { continue };
            self.judge_leaf(&pair, None, wall, &mut warnings)?;
            self.found.note(|found| found.warnings.clone_from(&warnings));
            pairs.push(pair);
        }
        let Some(clients) = clients else { return Err(nothing()) };
        let all = 0..pairs.len();
        let pairs = Arc::new(Pairs::new(pairs, self.strict_names)?);
        let mut whole = InitialBuild::new(self.whole(pairs, clients, None, all)?);
        (whole.leaves, whole.warnings) = (leaves, warnings);
        Ok(whole)
    }

    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        let Some(set) = self.layout.get(set) else { return false };
        if lost_a_file(served, candidate) || lost_lists(set, served, candidate) {
            return true;
        }
        let mut changed = same_paths(served, candidate).filter(|(_, old, new)| old != new);
        changed.any(|(index, old, new)| match (pem::chain(old), pem::chain(new)) {
            (Ok(old), Ok(new)) if set.is_client_ca(index) => anchors::lost_its_end(&old, &new),
            (Ok(old), Ok(new)) if set.is_chain(index) => chain::lost_its_end(&old, &new),
            (Ok(old), Ok(new)) if !set.is_key(index) => new.len() < old.len() && old.starts_with(&new),
            _ => lost_its_end(old, new),
        })
    }
}

impl ServerBuild {
    /// Loads the pair in these files: everything parses, and key and leaf belong together.
    fn pair(&self, set: &SetLayout, files: &Files) -> Result<Pair, Error> {
        let none = InspectionLog::default();
        let found = if set.role == SetRole::Default { &self.found } else { &none };
        let pair = set.pair(files)?;
        let (key, leaf) = steps::parse(|| validate::pair(&self.tls.provider, pair, found))?;
        let chain_path = pair[0].0;
        self.found.note(|found| {
            found.provider = Some(Arc::clone(&self.tls.provider));
            found.chains.push((chain_path.to_owned(), key.cert.clone()));
        });
        let given = match set.role {
            SetRole::Pair(further) => self.pairs.get(further).and_then(|further| further.names.clone()),
            _ => None,
        };
        let names = given.unwrap_or_else(|| pairs::names_of(&key.cert[0]));
        if set.role != SetRole::Default && names.is_empty() {
            return Err(pairs::nameless(chain_path));
        }
        let identity = subject_names(&key.cert[0]);
        Ok(Pair { key, leaf, path: chain_path.to_owned(), names, identity })
    }

    fn settings(&self, wall: Duration) -> Settings<'_> {
        Settings {
            layout: &self.layout,
            mode: self.client_auth,
            revocation: self.revocation,
            provider: &self.tls.provider,
            wall,
            found: &self.found,
        }
    }

    /// Warns of a new leaf that some clients reject, and evaluates its dates.
    fn judge_leaf(
        &self,
        pair: &Pair,
        served: Option<&Leaf>,
        wall: Duration,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Duration>, Error> {
        if served.is_none_or(|served| served.fingerprint != pair.leaf.fingerprint) {
            warnings.extend(chain::leaf_warnings(&pair.path, &pair.key.cert[0]));
        }
        dates::evaluate(&pair.leaf, &pair.path, served, Time { wall, skew: self.tls.clock_skew }, warnings)
    }

    /// Builds the value from all pairs, and rehearses the pairs in `changed`.
    fn whole(
        &mut self,
        resolver: Arc<Pairs>,
        clients: Arc<Clients>,
        served: Option<&ServerTls>,
        changed: std::ops::Range<usize>,
    ) -> Result<ServerTls, Error> {
        let trust = clients.trust.of(resolver.identities());
        let epoch = self.resumption.epoch(served.map(|served| &served.epoch), trust)?;
        let verifier = match (self.client_auth, &clients.anchors) {
            (Some(mode), Some(anchors)) => {
                self.verifier(mode, anchors, &clients.crls).map_err(|error| error.at(&anchors.path))?
            }
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let unverified = ServerConfig::builder_with_provider(Arc::clone(&self.tls.provider))
            .with_protocol_versions(&self.tls.versions)
            .map_err(|error| Error::new(Layer::Config, error.to_string()))?;
        let config = self.config(unverified.clone(), &verifier, &resolver, epoch.sessions())?;
        for pair in changed {
            steps::rehearse(|| self.rehearse(&config, &resolver, pair))?;
        }
        let leaf = resolver.get(0).ok_or_else(nothing)?.leaf.clone();
        Ok(ServerTls { config: Arc::new(config), leaf, resolver, clients, epoch, verifier, unverified })
    }

    /// Rehearses one pair.
    ///
    /// A default pair that answers clients without SNI is rehearsed without SNI. Any other pair is
    /// rehearsed with one of its names, and each of its names that no other pair holds has to lead
    /// to it.
    fn rehearse(&self, config: &ServerConfig, pairs: &Pairs, place: usize) -> Result<(), Error> {
        let Some(pair) = pairs.get(place) else { return Ok(()) };
        let asks_by_name = place > 0 || self.strict_names;
        if let Some(name) = pairs.unroutable_name(place).filter(|_| asks_by_name) {
            let why = format!("a client that requests {name} would not get this pair");
            return Err(Error::new(Layer::Rehearsal, why).at(&pair.path));
        }
        let name = if asks_by_name { pairs.example(place) } else { None };
        let mut alone = None;
        if asks_by_name && name.is_none() {
            // Other pairs hold all of its names exactly, or it has none. No client can get it, so
            // it is rehearsed alone.
            let mut config = config.clone();
            config.cert_resolver = Arc::new(Always(Arc::clone(pair)));
            alone = Some(config);
        }
        rehearse(
            alone.as_ref().unwrap_or(config),
            &self.tls.provider,
            &self.tls.versions,
            name.as_deref(),
            &pair.key.cert,
            self.client_auth == Some(ClientAuth::Required),
            |version| {
                if place == 0 {
                    self.found.note(|found| found.rehearsed.push(version));
                }
            },
        )
        .map_err(|error| error.at(&pair.path))
    }

    fn verifier(
        &self,
        mode: ClientAuth,
        Anchors { roots, revocable, .. }: &Anchors,
        crls: &Lists,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&self.tls.provider));
        let builder = match mode {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let stock = builder.build().map_err(|error| Error::new(Layer::ClientCa, error.to_string()))?;
        if crls.all().is_empty() {
            return Ok(stock);
        }
        let algorithms = self.tls.provider.signature_verification_algorithms;
        Ok(Arc::new(Verifier::new(
            stock,
            (Arc::clone(roots), Arc::clone(revocable)),
            algorithms,
            crls.clone(),
            self.revocation,
        )))
    }

    /// Assembles the configuration with its session state, and passes it to the closure of
    /// [`configure`](super::ServerBuilder::configure).
    fn config(
        &mut self,
        unverified: ConfigBuilder<ServerConfig, WantsVerifier>,
        verifier: &Arc<dyn ClientCertVerifier>,
        resolver: &Arc<Pairs>,
        sessions: &Sessions,
    ) -> Result<ServerConfig, Error> {
        let resolver = Arc::clone(resolver) as Arc<dyn ResolvesServerCert>;
        let mut config = unverified
            .with_client_cert_verifier(Arc::clone(verifier))
            .with_cert_resolver(Arc::clone(&resolver));
        config.alpn_protocols.clone_from(&self.tls.alpn);
        sessions.put_into(&mut config);
        let Some(configure) = &mut self.tls.configure else { return Ok(config) };
        configure(&mut config);
        // The verifier cannot be read back. A closure that replaced the whole configuration would
        // have dropped it.
        let kept = [
            ("session storage", sessions.stored_by(&config)),
            ("ticketer", sessions.ticketed_by(&config)),
            ("certificate resolver", Arc::ptr_eq(&resolver, &config.cert_resolver)),
            ("client verifier", Arc::strong_count(verifier) > 1),
        ];
        let why = match kept.iter().find(|(_, kept)| !kept) {
            Some((what, _)) => {
                format!("the closure for further settings replaced the {what}, which the reload owns")
            }
            // A server attributes early data to the client before the client has proven anything,
            // and again when it is replayed.
            None if config.max_early_data_size > 0 => {
                "the closure for further settings allowed early data (0-RTT), which is off here".to_owned()
            }
            None => return Ok(config),
        };
        Err(Error::new(Layer::Config, why))
    }
}

/// Returns whether the candidate has fewer CRLs than the served set, and no new one. An authority
/// that issues a CRL replaces one, so such a candidate may be incomplete.
fn lost_lists(set: &SetLayout, served: &Files, candidate: &Files) -> bool {
    // Parsing all CRLs may take a second.
    if set.of_lists(served).eq(set.of_lists(candidate)) {
        return false;
    }
    let lists = |files: &Files| {
        let of_clients = set.of_clients(files);
        let lists = set.lists(&of_clients).map(|(_, file)| crl::parse(file));
        lists.collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
    };
    match (lists(served), lists(candidate)) {
        (Ok(old), Ok(new)) => new.len() < old.len() && new.iter().all(|list| old.contains(list)),
        _ => false,
    }
}

fn nothing() -> Error {
    Error::new(Layer::Settings, "no pair: there is nothing to serve")
}
