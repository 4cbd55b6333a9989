//! Builds a `ServerConfig` from a certificate chain, a key and, optionally, client CAs and CRLs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
    crypto::CryptoProvider,
    server::{ProducesTickets, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    anchors, chain,
    clients::{Anchors, Clients, Settings},
    crl::{Lists, Policy},
    dates::{self, Time},
    inspect::InspectionLog,
    layout::{Given, Layout, SetLayout, SetRole, missing},
    pairs::{self, Always, Pair, Pairs, SniPair},
    rehearse::rehearse,
    resolver::Resolver,
    revocation::Verifier,
    trust::{Resumption, Sessions, TrustEpoch, reduction, subject_names},
    validate,
};
use crate::{
    build::{Build, Built, Context, InitialBuild, lost_a_file, lost_its_end, same_paths},
    clock::Clock,
    decide::machine::Timing,
    drive::{
        cell::Published,
        reloader::{Builder, Reloader, StartError},
    },
    fs::Fs,
    pki::{crl, pem},
    read::snapshot::Files,
    report::{
        error::{Error, Layer, Warning},
        event::{Event, Leaf},
    },
    watch::MakeWatcher,
};

/// Whether a server requires client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client may come without a certificate. A certificate that it presents is verified.
    Optional,
    /// A client without a valid certificate is rejected.
    Required,
}

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

type Configure = Box<dyn FnMut(&mut ServerConfig) + Send>;

/// The build step of a server: makes [`ServerTls`] from chain, key, client CAs and CRLs.
pub struct ServerBuild {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    layout: Layout,
    client_auth: Option<ClientAuth>,
    revocation: Policy,
    alpn: Vec<Vec<u8>>,
    configure: Option<Configure>,
    resumption: Resumption,
    clock_skew: Duration,
    /// The SNI pairs, in the order of their file sets.
    pairs: Vec<SniPair>,
    strict_names: bool,
    /// Records the findings of each stage, if the load is an inspection.
    found: InspectionLog,
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
        let clients = settings.after(&served.clients, (context.set, files), &mut warnings)?;
        let before = set.role.pair().and_then(|place| served.resolver.get(place)).map(|pair| &pair.leaf);
        let (mut leaf, mut not_before) = (None, None);
        if let Some(pair) = &pair {
            leaf = Some(pair.leaf.clone());
            not_before = self.judge_dates(pair, before, context.wall, &mut warnings)?;
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
                clients = Some(self.settings(wall).first(sets, &mut warnings)?);
            }
            leaves.push(pair.as_ref().map(|pair| pair.leaf.clone()));
            let Some(pair) = pair else { continue };
            self.judge_dates(&pair, None, wall, &mut warnings)?;
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
        let (key, leaf) = validate::pair(&self.provider, pair, found)?;
        let chain_path = pair[0].0;
        self.found.note(|found| {
            found.provider = Some(Arc::clone(&self.provider));
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
            provider: &self.provider,
            wall,
            found: &self.found,
        }
    }

    fn judge_dates(
        &self,
        pair: &Pair,
        served: Option<&Leaf>,
        wall: Duration,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Duration>, Error> {
        dates::evaluate(&pair.leaf, &pair.path, served, Time { wall, skew: self.clock_skew }, warnings)
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
            (Some(mode), Some(Anchors { path, roots, .. })) => {
                self.verifier(mode, Arc::clone(roots), &clients.crls).map_err(|error| error.at(path))?
            }
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let unverified = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&self.versions)
            .map_err(|error| Error::new(Layer::Config, error.to_string()))?;
        let config = self.config(unverified.clone(), &verifier, &resolver, epoch.sessions())?;
        for pair in changed {
            self.rehearse(&config, &resolver, pair)?;
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
            &self.provider,
            &self.versions,
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
        roots: Arc<RootCertStore>,
        crls: &Lists,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&self.provider));
        let builder = match mode {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let stock = builder.build().map_err(|error| Error::new(Layer::ClientCa, error.to_string()))?;
        if crls.all().is_empty() {
            return Ok(stock);
        }
        let algorithms = self.provider.signature_verification_algorithms;
        Ok(Arc::new(Verifier::new(stock, roots, algorithms, crls.clone(), self.revocation)))
    }

    /// Assembles the configuration with its session state, and passes it to the closure of
    /// [`configure`](ServerBuilder::configure).
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
        config.alpn_protocols.clone_from(&self.alpn);
        sessions.put_into(&mut config);
        let Some(configure) = &mut self.configure else { return Ok(config) };
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

/// Configures and loads a [`ServerReloader`].
pub struct ServerBuilder {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<(PathBuf, ClientAuth)>,
    pub(super) crls: Vec<PathBuf>,
    pub(super) crl_dirs: Vec<PathBuf>,
    revocation: Policy,
    provider: Option<Arc<CryptoProvider>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    configure: Option<Configure>,
    resumption: Resumption,
    clock_skew: Duration,
    pub(super) separate_client_ca: bool,
    pub(super) crls_with_client_ca: bool,
    pairs: Vec<SniPair>,
    strict_names: bool,
    further: Vec<Set>,
    pub(super) found: InspectionLog,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, key, client_ca, crls, crl_dirs, .. } = self;
        f.debug_struct("ServerBuilder")
            .field("chain", chain)
            .field("key", key)
            .field("client_ca", client_ca)
            .field("crls", crls)
            .field("crl_dirs", crl_dirs)
            .finish_non_exhaustive()
    }
}

type Set = Box<dyn FnOnce(Builder<ServerBuild>) -> Builder<ServerBuild> + Send>;

impl ServerBuilder {
    /// Verifies client certificates against the CAs of this bundle. Without this call, the server
    /// requests no client certificates.
    ///
    /// The bundle is in the file set of the default pair, unless
    /// [`separate_client_ca`](Self::separate_client_ca) makes it a set of its own.
    ///
    /// A certificate that may not issue clients (CA:FALSE, for example), and a CA by which rustls
    /// can verify no client, are ignored with a warning. A bundle of nothing else rejects its file
    /// set. The dates of a CA are ignored. The manual has a table:
    /// [`client_cas`](crate::manual::client_cas).
    #[must_use]
    pub fn client_ca(mut self, bundle: impl AsRef<Path>, mode: ClientAuth) -> Self {
        self.client_ca = Some((bundle.as_ref().to_owned(), mode));
        self
    }

    /// Rejects clients that a CRL in this file revokes. Needs [`client_ca`](Self::client_ca).
    ///
    /// The file holds one CRL in DER, or any number in PEM. A missing, unreadable, empty or
    /// malformed file rejects its file set. So does a CRL with the name of a CA of the bundle that
    /// this CA did not sign, unless another CRL has that name. A broken file never means that no
    /// certificate is revoked.
    ///
    /// A file in the directory of the client CA bundle is in the bundle's file set. All files of
    /// any other directory are a file set of their own, since another publisher puts them there. A
    /// broken file keeps that set at its last good version, and the certificate goes on being
    /// renewed. Directories are compared as they are given, made absolute, without following
    /// symlinks: `/tls/..data/ca.crl` and `/tls/ca.crt` are in two sets. See
    /// [`crls_with_client_ca`](Self::crls_with_client_ca).
    ///
    /// All file sets that are served decide together which clients are accepted: a change of one
    /// set is evaluated with the served files of the others.
    ///
    /// A client is rejected if any CRL of an issuer in its chain lists the certificate below it, in
    /// whatever order the CRLs were issued or loaded. Otherwise each certificate of its chain needs
    /// a CRL that covers it
    /// ([`allow_unknown_revocation_status`](Self::allow_unknown_revocation_status)) and has not
    /// expired ([`ignore_revocation_expiration`](Self::ignore_revocation_expiration)).
    /// [`design`](crate::manual::design) has the rules.
    ///
    /// A first load takes an expired CRL, with a warning. A reload rejects one while the served CRL
    /// is valid, and takes it, with a warning, once that has expired too. A CRL older than the
    /// served one is taken with a warning. Dates are compared with the clock as it is, without
    /// [`clock_skew`](Self::clock_skew).
    #[must_use]
    pub fn crl(mut self, file: impl AsRef<Path>) -> Self {
        self.crls.push(file.as_ref().to_owned());
        self
    }

    /// Rejects clients that a CRL in this directory revokes: [`crl`](Self::crl) for every file in
    /// it. The directory is a file set of its own, as with [`crl`](Self::crl).
    ///
    /// The directory is watched: adding, removing or replacing a file in it is a change of the set.
    /// A file counts if it is a regular file or a symlink to one, and its name does not begin with
    /// a dot. Subdirectories are ignored.
    ///
    /// A directory that is missing, unreadable or without a file rejects the set, and so does a
    /// file in it that holds no CRL. Write a file under a name that begins with a dot, and rename
    /// it.
    ///
    /// Nothing shows whether another file will follow, so a change has to settle. The exception is
    /// a directory that moves together with all other files of the set and keeps its number of
    /// files, as behind a release symlink: it is taken at once.
    #[must_use]
    pub fn crl_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.crl_dirs.push(dir.as_ref().to_owned());
        self
    }

    /// Sets whether the client CA bundle is a file set of its own, with the CRLs in its directory.
    /// By default it is in the file set of the default pair.
    ///
    /// A separate set is for a bundle of another publisher than the pair's. A broken bundle then
    /// does not keep the certificate from being renewed, nor the other way round. Bundle and pair
    /// are then no longer published together.
    #[must_use]
    pub fn separate_client_ca(mut self, separate: bool) -> Self {
        self.separate_client_ca = separate;
        self
    }

    /// Sets whether all CRLs are in the file set of the client CA bundle, wherever they are. By
    /// default the CRLs of each other directory are a file set of their own.
    ///
    /// One set is for a publisher that commits bundle and CRLs together, as behind one release
    /// symlink. They are then published together, and a broken CRL rejects the whole set.
    #[must_use]
    pub fn crls_with_client_ca(mut self, together: bool) -> Self {
        self.crls_with_client_ca = together;
        self
    }

    /// Checks the revocation of the client's own certificate only. By default the intermediates
    /// above it are checked too.
    #[must_use]
    pub fn only_check_end_entity_revocation(mut self) -> Self {
        self.revocation.end_entity_only = true;
        self
    }

    /// Accepts clients that no CRL covers. By default they are rejected. A client that only an
    /// expired CRL covers is rejected in either case.
    #[must_use]
    pub fn allow_unknown_revocation_status(mut self) -> Self {
        self.revocation.allow_unknown = true;
        self
    }

    /// Goes on using a CRL after the date by which the next one was due. By default a client that
    /// only such CRLs cover is rejected from then on.
    #[must_use]
    pub fn ignore_revocation_expiration(mut self) -> Self {
        self.revocation.ignore_expiration = true;
        self
    }

    /// Serves an SNI pair to clients that name one of its servers: the DNS names among its leaf's
    /// subject alternative names, of which there must be one. See [`pair_for`](Self::pair_for).
    #[must_use]
    pub fn pair(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.pairs.push(SniPair { chain: chain.as_ref().into(), key: key.as_ref().into(), names: None });
        self
    }

    /// Serves an SNI pair to clients that name one of these servers, whatever names its leaf has.
    ///
    /// A name is a DNS name, or one with `*` as its whole first label, which stands for exactly one
    /// label. Case does not matter, and an exact name comes before a wildcard. Two SNI pairs cannot
    /// hold one name: that fails the first load, and rejects a candidate that would take the name.
    ///
    /// A client that names a server that no SNI pair holds, or none, gets the default pair of
    /// [`builder`](ServerReloader::builder), which holds no name. See
    /// [`strict_names`](Self::strict_names).
    ///
    /// Each pair is loaded, settled and rejected by itself, and keeps its own last good version. A
    /// broken pair neither blocks the others nor is replaced by another certificate. Client CAs and
    /// all other settings apply to the whole server.
    #[must_use]
    pub fn pair_for<N: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = N>,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Self {
        let names = Some(names.into_iter().map(|name| name.as_ref().to_owned()).collect());
        self.pairs.push(SniPair { chain: chain.as_ref().into(), key: key.as_ref().into(), names });
        self
    }

    /// Sets whether the handshake of a client is rejected that names no server, or one that no pair
    /// holds. By default such a client gets the default pair.
    ///
    /// With `true`, the default pair holds the DNS names of its leaf, and every SNI pair comes
    /// before it.
    #[must_use]
    pub fn strict_names(mut self, strict: bool) -> Self {
        self.strict_names = strict;
        self
    }

    /// Uses this crypto provider. By default it is the process default, else ring or aws-lc-rs,
    /// whichever feature is enabled, in this order.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Enables these protocol versions. By default TLS 1.2 and 1.3 are enabled.
    #[must_use]
    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Offers these protocols by ALPN, the preferred one first. By default ALPN is off.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Runs a closure on each configuration before its rehearsal, for settings that have no method
    /// here.
    ///
    /// The closure must not replace session storage, ticketer, verifier or resolver, nor allow
    /// early data (0-RTT): such a build fails with [`Layer::Config`]. If sessions go on over the
    /// reload, the closure sees the served storage and ticketer.
    #[must_use]
    pub fn configure(mut self, configure: impl FnMut(&mut ServerConfig) + Send + 'static) -> Self {
        self.configure = Some(Box::new(configure));
        self
    }

    /// Limits the number of stored sessions; [`SESSION_LIMIT`](super::SESSION_LIMIT) by default.
    /// With 0 and without tickets, no session resumes.
    ///
    /// A TLS 1.2 client takes one place, and a TLS 1.3 client takes two (`send_tls13_tickets`). A
    /// new session evicts the oldest one.
    #[must_use]
    pub fn session_cache(mut self, sessions: usize) -> Self {
        self.resumption.limit = sessions;
        self
    }

    /// Resumes sessions by tickets that the client keeps, with a ticketer that `make` returns. Its
    /// keys live as long as their trust epoch.
    ///
    /// `rustls::crypto::ring::Ticketer::new` and `rustls::crypto::aws_lc_rs::Ticketer::new` are
    /// such a `make`. It has to make other keys each time. It is called twice at the first load,
    /// and once for each build that begins with fresh session state. A ticketer that can decrypt
    /// another one's tickets fails the build with [`Layer::Config`], so keys cannot be shared
    /// between servers.
    #[must_use]
    pub fn tickets(
        mut self,
        make: impl FnMut() -> Result<Arc<dyn ProducesTickets>, rustls::Error> + Send + 'static,
    ) -> Self {
        self.resumption.make = Some(Box::new(make));
        self
    }

    /// Sets whether sessions resume over a reload that does not change the trust; `true` by
    /// default.
    ///
    /// Sessions never resume over a reload that changes client CAs, the certificates that their
    /// CRLs list, client authentication or the names of a pair (INV-09).
    #[must_use]
    pub fn resume_over_reloads(mut self, resume: bool) -> Self {
        self.resumption.over_reloads = resume;
        self
    }

    /// Sets by how much the wall clock may be wrong in either direction (ASM-04); zero by default.
    ///
    /// A skew makes a reload more careful. A leaf is deferred until one skew after its notBefore.
    /// While the served leaf may be valid, a leaf is rejected as expired from one skew before its
    /// notAfter. The served leaf counts as expired only from one skew after its own notAfter. A
    /// leaf that is valid for less than two skews never counts as valid.
    ///
    /// Clients have their own clocks: one that is behind rejects a certificate that is too new.
    ///
    /// The skew applies to the leaves that are served. The dates of client certificates and CRLs
    /// are compared with the clock as it is, in each handshake and when a file set is evaluated.
    /// rustls knows no skew there. A CRL that expired earlier here than in handshakes would only be
    /// rejected too early.
    #[must_use]
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.clock_skew = skew;
        self
    }

    /// Registers a callback for events; see [`Builder::on_event`].
    #[must_use]
    pub fn on_event(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.further(|builder| builder.on_event(observer))
    }

    /// Registers a callback for publications, for servers that take a new `ServerConfig`
    /// themselves; see [`Builder::on_publish`].
    #[must_use]
    pub fn on_publish(self, observer: impl Fn(&Arc<Published<ServerTls>>) + Send + Sync + 'static) -> Self {
        self.further(|builder| builder.on_publish(observer))
    }

    /// Sets the delays; see [`Builder::timing`].
    #[must_use]
    pub fn timing(self, timing: Timing) -> Self {
        self.further(move |builder| builder.timing(timing))
    }

    /// Sets the clock; see [`Builder::clock`].
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.further(|builder| builder.clock(clock))
    }

    /// Sets when the nearing expiry of a leaf is reported; see [`Builder::expiry_warnings`].
    #[must_use]
    pub fn expiry_warnings(self, before: impl IntoIterator<Item = Duration>) -> Self {
        let before: Vec<_> = before.into_iter().collect();
        self.further(move |builder| builder.expiry_warnings(before))
    }

    /// Sets the watcher; see [`Builder::watcher`].
    #[must_use]
    pub fn watcher(self, make: Option<MakeWatcher>) -> Self {
        self.further(|builder| builder.watcher(make))
    }

    fn further(
        mut self,
        set: impl FnOnce(Builder<ServerBuild>) -> Builder<ServerBuild> + Send + 'static,
    ) -> Self {
        self.further.push(Box::new(set));
        self
    }

    /// Groups the files into file sets.
    pub(super) fn layout(&self) -> Result<Layout, Error> {
        Layout::new(&Given {
            chain: &self.chain,
            key: &self.key,
            client_ca: self.client_ca.as_ref().map(|(path, _)| path.as_path()),
            crls: &self.crls,
            crl_dirs: &self.crl_dirs,
            pairs: &self.pairs,
            separate_client_ca: self.separate_client_ca,
            crls_with_client_ca: self.crls_with_client_ca,
        })
    }

    /// Returns a builder of the generic reloader.
    ///
    /// # Errors
    /// [`Layer::Settings`] without a crypto provider, for CRLs without client CAs, and for an SNI
    /// pair without chain, key or name.
    pub(crate) fn into_generic(self) -> Result<Builder<ServerBuild>, Error> {
        if self.client_ca.is_none()
            && let Some(file) = self.crls.first().or(self.crl_dirs.first())
        {
            let why = "a revocation list without client CAs: no client certificate would be verified";
            return Err(Error::new(Layer::Settings, why).at(file));
        }
        let layout = self.layout()?;
        let provider = self.provider.map_or_else(default_provider, Ok)?;
        let pairs = self.pairs.into_iter().map(SniPair::checked).collect::<Result<Vec<_>, _>>()?;
        let build = ServerBuild {
            provider,
            versions: self.versions,
            layout: layout.clone(),
            client_auth: self.client_ca.map(|(_, mode)| mode),
            revocation: self.revocation,
            alpn: self.alpn,
            configure: self.configure,
            resumption: self.resumption,
            clock_skew: self.clock_skew,
            pairs,
            strict_names: self.strict_names,
            found: self.found,
        };
        let builder = layout.builder(build)?;
        Ok(self.further.into_iter().fold(builder, |builder, set| set(builder)))
    }

    /// Loads the files and builds the first configuration. Blocks until that is done. Nothing is
    /// watched before [`start`](Reloader::start).
    ///
    /// # Errors
    /// Returns the first fault, with its layer and, where it has one, its path. A leaf outside its
    /// dates is a warning, not an error.
    pub fn load(self) -> Result<ServerReloader, Error> {
        self.into_generic()?.load()
    }

    /// Loads the files as [`load`](Self::load) does, from another file system, for tests.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_from<F>(self, fs: F) -> Result<ServerReloader, Error>
    where
        F: Fs<Dir: Send, File: Send>,
    {
        self.into_generic()?.load_from(fs)
    }

    /// Loads the files and starts to reload them: [`load`](Self::load) and
    /// [`start`](Reloader::start).
    ///
    /// It blocks until the files are loaded: usually some milliseconds, at most about six seconds
    /// where they have just been written. On an async executor use `start_async` (feature `tokio`).
    ///
    /// # Errors
    /// As `load`. [`Layer::Process`] where the system has no thread left.
    pub fn start(self) -> Result<ServerReloader, Error> {
        let reloader = self.load()?;
        // Nobody else can have started it.
        reloader.start().map_err(StartError::into_error)?;
        Ok(reloader)
    }

    /// Does what [`start`](Self::start) does, and loads on a thread of its own, so that the executor
    /// goes on meanwhile.
    ///
    /// # Errors
    /// As `start`. [`Layer::Panic`] if the load panics.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub async fn start_async(self) -> Result<ServerReloader, Error> {
        // A caller that has gone meanwhile drops what was loaded, and nothing is started.
        let reloader = crate::drive::worker::off_executor("the first load", move || self.load()).await??;
        reloader.start().map_err(StartError::into_error)?;
        Ok(reloader)
    }
}

/// Keeps a `ServerConfig` up to date with its files, for as long as a clone, an `Incoming`, an acceptor
/// or a resolver of it exists.
pub type ServerReloader = Reloader<ServerTls>;

impl ServerReloader {
    /// Returns a builder for a server with this chain (leaf first) and its key, both in PEM. They
    /// may be one file.
    pub fn builder(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> ServerBuilder {
        ServerBuilder {
            chain: chain.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
            client_ca: None,
            crls: Vec::new(),
            crl_dirs: Vec::new(),
            revocation: Policy::default(),
            provider: None,
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
            alpn: Vec::new(),
            configure: None,
            resumption: Resumption::default(),
            clock_skew: Duration::ZERO,
            separate_client_ca: false,
            crls_with_client_ca: false,
            pairs: Vec::new(),
            strict_names: false,
            further: Vec::new(),
            found: InspectionLog::default(),
        }
    }

    /// Returns the configuration to accept the next connection with. Waits for nothing (INV-07).
    /// [`current`](Self::current) returns it with its generation and leaf.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.with_current(|current| Arc::clone(&current.value.config))
    }

    /// Returns one configuration for a server that takes a `ServerConfig` once and keeps it
    /// (actix-web, trillium, xitca-web). Certificate, client CAs and CRLs rotate inside it.
    ///
    /// A server that takes a configuration for each connection should use [`config`](Self::config)
    /// instead. This one differs from it in three ways:
    ///
    /// - **No session resumes**, so each handshake verifies its client. A stored session or a ticket
    ///   would outlive the trust that it was made under.
    /// - One handshake can see two generations: the certificate of the one served when the server
    ///   reads the client's hello (the second hello, where the server asked for one), and the client
    ///   CAs and CRLs of that one or a later one. A client is never accepted by a trust that was
    ///   replaced before the handshake began. A connection does not know its generation: a server
    ///   that waits for [`trust_reduced`](Self::trust_reduced) has to take the generation of
    ///   [`current`](Self::current) before the handshake begins.
    /// - A client is sent no names of acceptable CAs. A client with several certificates has to know
    ///   which one to present.
    ///
    /// ALPN, protocol versions and further settings are those of the configuration served at this
    /// call. It keeps the reloader going, see [`Reloader`](crate::Reloader).
    #[must_use]
    pub fn rotating_config(&self) -> Arc<ServerConfig> {
        super::rotating::config(self)
    }

    /// Returns a certificate resolver for a `ServerConfig` of your own that is kept for life, where
    /// [`rotating_config`](Self::rotating_config) does not suit. It answers each handshake with the
    /// chain and key served at that moment.
    ///
    /// A reload changes certificates only. Client CAs, ALPN and session state belong to the
    /// `ServerConfig` that the resolver is put into and do not change with a reload.
    ///
    /// Not promised: sessions of that configuration go on resuming over every reload, a change of
    /// trust included. Where that matters, disable resumption: `NoServerSessionStorage` as its
    /// `session_storage`, and no ticketer.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(self.clone()))
    }

    /// Returns an acceptor of tokio connections.
    #[cfg(all(feature = "tokio", not(loom)))]
    #[must_use]
    pub fn acceptor(&self) -> super::Acceptor {
        super::acceptor::Acceptor::new(self.clone())
    }

    /// Accepts TLS connections from a `tokio::net::TcpListener` or another [`Listener`]: each
    /// handshake beside all others, with limits.
    ///
    /// [`Listener`]: super::Listener
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn incoming<L: super::Listener>(&self, listener: L) -> super::Incoming<L> {
        super::Incoming::new(listener, self.acceptor())
    }
}

/// Returns the process default, else the provider that was compiled in.
///
/// # Errors
/// [`Layer::Settings`] where there is neither.
pub(crate) fn default_provider() -> Result<Arc<CryptoProvider>, Error> {
    if let Some(provider) = CryptoProvider::get_default() {
        return Ok(Arc::clone(provider));
    }
    #[cfg(feature = "ring")]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    {
        let why =
            "no crypto provider: pass one, install a process default, or enable feature ring or aws-lc-rs";
        Err(Error::new(Layer::Settings, why))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn a_load_can_be_moved_off_an_async_executor() {
        fn is_send<T: Send + 'static>() -> usize {
            size_of::<T>()
        }
        assert!(is_send::<super::ServerBuilder>() > 0 && is_send::<super::ServerReloader>() > 0);
    }
}
