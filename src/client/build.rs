//! The build step of a client: from the bytes of a file set to a `ClientConfig`.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use hmac_sha256::Hash;
use rustls::{
    ClientConfig, RootCertStore,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    layout::{Layout, Purpose, SetLayout},
    rehearse::rehearse,
    trust::{Bundle, ClientEpoch, ClientTrust, Identity, Sessions, SetRoots, reduction},
};
use crate::{
    build::{Build, Built, Context, InitialBuild, lost_its_end, same_paths},
    decide::trust::Epoch,
    pki::pem,
    read::snapshot::Files,
    report::{
        error::{Error, Layer, Warning},
        event::Leaf,
        steps,
    },
    server::{
        anchors::{self, Origin, Peers},
        chain,
        dates::{self, Time},
        findings::InspectionLog,
        layout::missing,
        settings::Tls,
        validate::{self, NamedBytes},
    },
};

/// The published value of a client: an immutable configuration and its description.
#[non_exhaustive]
pub struct ClientTls {
    /// The configuration, for `rustls::ClientConnection`, tokio-rustls and other consumers.
    pub config: Arc<ClientConfig>,
    /// The description of the identity's leaf; `None` for a client without an identity.
    pub leaf: Option<Leaf>,
    identity: Option<Arc<Identity>>,
    /// The roots, by file set.
    roots: Vec<Arc<SetRoots>>,
    pub(super) epoch: ClientEpoch,
}

impl ClientTls {
    /// Returns the number of the trust epoch that its sessions are made in; the first load's is 1.
    ///
    /// Each publication that changes the roots or the identity increases it by one. So does a
    /// publication that returns to an earlier state (INV-09). Sessions resume within an epoch only.
    #[must_use]
    pub fn trust_epoch(&self) -> u64 {
        self.epoch.number()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The roots may be hundreds of certificates.
        let epoch = self.trust_epoch();
        f.debug_struct("ClientTls")
            .field("leaf", &self.leaf)
            .field("trust_epoch", &epoch)
            .finish_non_exhaustive()
    }
}

/// The name of the roots of no file in messages.
const FIXED: &str = "`root_store`";

/// The build step of a client: makes [`ClientTls`] from chain, key and roots.
pub(crate) struct ClientBuild {
    pub(super) tls: Tls<ClientConfig>,
    pub(super) layout: Layout,
    /// Roots of no file. The first load leaves the usable ones.
    pub(super) fixed: RootCertStore,
    /// Verifies servers in the place of roots.
    pub(super) verifier: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) session_cache: usize,
}

impl Build for ClientBuild {
    type Value = ClientTls;

    fn build(&mut self, files: &Files, context: &Context<'_, ClientTls>) -> Result<Built<ClientTls>, Error> {
        let Some(served) = context.served else {
            let InitialBuild { value, leaves, warnings } =
                self.first(std::slice::from_ref(files), context.wall)?;
            return Ok(Built { leaf: leaves.into_iter().next().flatten(), warnings, ..Built::new(value) });
        };
        let set = self.layout.get(context.set).cloned().ok_or_else(missing)?;
        let mut warnings = set.near_limits(files);
        let (mut identity, mut not_before) = (served.identity.clone(), None);
        if let Some(pair) = set.identity(files)? {
            let new = self.identity(pair, served.identity.as_ref())?;
            not_before = self.check_dates(&new, served.leaf.as_ref(), context.wall, &mut warnings)?;
            if served.identity.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &new)) {
                warnings.extend(unfit(&new));
            }
            identity = Some(new);
        }
        let leaf = identity.as_ref().filter(|_| set.purpose(0) == Purpose::Chain).map(|own| own.leaf.clone());
        let mut roots = served.roots.clone();
        let own = roots.get_mut(context.set).ok_or_else(missing)?;
        *own = self.roots(&set, files, Some(own), &mut warnings)?;
        // A warning about all roots together is reported once, not at each change of one set.
        let before = self.crowded(&served.roots);
        warnings.extend(self.crowded(&roots).into_iter().filter(|warning| !before.contains(warning)));
        let value = self.whole(identity, roots, Some(served))?;
        let reduced_trust = reduction(&value.epoch, &served.epoch);
        Ok(Built { leaf, warnings, not_before, reduced_trust, ..Built::new(value) })
    }

    fn first(&mut self, sets: &[Files], wall: Duration) -> Result<InitialBuild<ClientTls>, Error> {
        let (mut identity, mut roots, mut warnings) = (None, Vec::new(), Vec::new());
        let mut leaves = Vec::new();
        self.fixed =
            anchors::of_store(Peers::Servers, &self.tls.provider, FIXED, &self.fixed, &mut warnings)?;
        for (set, files) in self.layout.iter().zip(sets) {
            warnings.extend(set.near_limits(files));
            let own = set.identity(files)?.map(|pair| self.identity(pair, None)).transpose()?;
            if let Some(own) = &own {
                self.check_dates(own, None, wall, &mut warnings)?;
                warnings.extend(unfit(own));
            }
            leaves.push(own.as_ref().map(|own| own.leaf.clone()));
            identity = own.or(identity);
            roots.push(self.roots(set, files, None, &mut warnings)?);
        }
        warnings.extend(self.crowded(&roots));
        let mut whole = InitialBuild::new(self.whole(identity, roots, None)?);
        (whole.leaves, whole.warnings) = (leaves, warnings);
        Ok(whole)
    }

    fn shrinks(&self, set: usize, served: &Files, candidate: &Files) -> bool {
        let Some(set) = self.layout.get(set) else { return false };
        let mut changed = same_paths(served, candidate).filter(|(_, old, new)| old != new);
        changed.any(|(index, old, new)| match (set.purpose(index), pem::chain(old), pem::chain(new)) {
            (Purpose::Roots, Ok(old), Ok(new)) => anchors::lost_its_end(&old, &new),
            (Purpose::Chain, Ok(old), Ok(new)) => chain::lost_its_end(&old, &new),
            _ => lost_its_end(old, new),
        })
    }
}

/// Warns of an identity that servers reject, which the rehearsal cannot show: it has no server's
/// verifier.
fn unfit(identity: &Identity) -> Option<Warning> {
    let leaf = identity.key.cert.first()?;
    let why = "the extended key usage of the first certificate does not allow clients (clientAuth): a \
               server that verifies clients as rustls and OpenSSL do rejects it; ask the CA for a \
               certificate with clientAuth";
    (!anchors::is_for(Peers::Clients, leaf)).then(|| Error::new(Layer::Chain, why).at(&identity.path).into())
}

impl ClientBuild {
    /// Loads chain and key: everything parses, and key and leaf belong together. Returns the served
    /// identity where it is the same.
    fn identity(
        &self,
        pair: [NamedBytes<'_>; 2],
        served: Option<&Arc<Identity>>,
    ) -> Result<Arc<Identity>, Error> {
        let [(path, _), (_, key_file)] = pair;
        let (key, leaf) =
            steps::parse(|| validate::pair(&self.tls.provider, pair, &InspectionLog::default()))?;
        let new = Identity { key, leaf, path: path.to_owned(), key_file: Hash::hash(key_file) };
        let same = served.filter(|served| served.is_same(&new)).map(Arc::clone);
        Ok(same.unwrap_or_else(|| Arc::new(new)))
    }

    /// Reads the roots of a file set, or returns the served ones where its bundles have not changed.
    fn roots(
        &self,
        set: &SetLayout,
        files: &Files,
        served: Option<&Arc<SetRoots>>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<SetRoots>, Error> {
        let files = set.roots(files);
        if let Some(served) = served.filter(|served| served.files == files) {
            return Ok(Arc::clone(served));
        }
        let mut bundles = Vec::new();
        for (path, bundle) in files.iter() {
            let (store, certificates) =
                steps::parse(|| anchors::read(Peers::Servers, &self.tls.provider, path, bundle, warnings))?;
            bundles.push(Bundle { path: path.to_owned(), store, certificates });
        }
        Ok(Arc::new(SetRoots { files, bundles }))
    }

    /// Warns of each name that more roots share than rustls reliably tries, over all file sets and
    /// the fixed roots: rustls gets them as one store.
    fn crowded(&self, roots: &[Arc<SetRoots>]) -> Vec<Warning> {
        let bundles = roots.iter().flat_map(|set| &set.bundles);
        let mut served: Vec<_> =
            bundles.map(|bundle| (Origin::Bundle(&bundle.path), &bundle.store)).collect();
        served.push((Origin::Store(FIXED), &self.fixed));
        anchors::crowded(Peers::Servers, &served)
    }

    fn check_dates(
        &self,
        identity: &Identity,
        served: Option<&Leaf>,
        wall: Duration,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Duration>, Error> {
        let time = Time { wall, skew: self.tls.clock_skew };
        dates::evaluate(&identity.leaf, &identity.path, served, time, warnings)
    }

    /// Builds the value and rehearses it.
    fn whole(
        &mut self,
        identity: Option<Arc<Identity>>,
        roots: Vec<Arc<SetRoots>>,
        served: Option<&ClientTls>,
    ) -> Result<ClientTls, Error> {
        let trust = Arc::new(ClientTrust::new(identity.clone(), &roots, &self.fixed));
        let key = identity.as_ref().map(|identity| &identity.key);
        let epoch =
            Epoch::after(served.map(|served| &served.epoch), trust, true, |_| self.fresh(key, &roots))?;
        let config = self.config(epoch.sessions())?;
        let place = identity.as_ref().map(|identity| identity.path.as_path());
        steps::rehearse(|| rehearse(&config, &self.tls.provider, &self.tls.versions, key))
            .map_err(|error| at(error, place))?;
        let leaf = identity.as_ref().map(|identity| identity.leaf.clone());
        Ok(ClientTls { config: Arc::new(config), leaf, identity, roots, epoch })
    }

    /// Makes the state of an epoch that begins.
    fn fresh(
        &self,
        identity: Option<&Arc<CertifiedKey>>,
        roots: &[Arc<SetRoots>],
    ) -> Result<Sessions, Error> {
        let verifier = match &self.verifier {
            Some(verifier) => Arc::clone(verifier),
            None => self.web_pki(roots)?,
        };
        let resolver: Arc<dyn ResolvesClientCert> = match identity {
            Some(key) => Arc::new(SingleCertAndKey::from(Arc::clone(key))),
            None => Arc::new(NoIdentity),
        };
        let resumption = match self.session_cache {
            0 => Resumption::disabled(),
            sessions => Resumption::in_memory_sessions(sessions),
        };
        Ok(Sessions { verifier, resolver, resumption })
    }

    /// Makes rustls's own verifier, of the roots of all file sets and the fixed ones.
    fn web_pki(&self, roots: &[Arc<SetRoots>]) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let mut all = self.fixed.clone();
        let bundles = roots.iter().flat_map(|set| &set.bundles);
        all.extend(bundles.flat_map(|bundle| bundle.store.roots.iter().cloned()));
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(all), Arc::clone(&self.tls.provider))
                .build();
        Ok(verifier.map_err(|error| Error::new(Layer::RootCa, error.to_string()))?)
    }

    /// Assembles the configuration with its session state, and passes it to the closure of
    /// [`configure`](super::ClientBuilder::configure).
    fn config(&mut self, sessions: &Sessions) -> Result<ClientConfig, Error> {
        let Sessions { verifier, resolver, resumption } = sessions;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.tls.provider))
            .with_protocol_versions(&self.tls.versions)
            .map_err(|error| Error::new(Layer::Config, error.to_string()))?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(verifier))
            .with_client_cert_resolver(Arc::clone(resolver));
        config.alpn_protocols.clone_from(&self.tls.alpn);
        config.resumption = resumption.clone();
        let Some(configure) = &mut self.tls.configure else { return Ok(config) };
        configure(&mut config);
        // The verifier cannot be read back, so that it is put in its place again.
        config.dangerous().set_certificate_verifier(Arc::clone(verifier));
        let kept = [
            ("identity", Arc::ptr_eq(resolver, &config.client_auth_cert_resolver)),
            ("crypto provider", Arc::ptr_eq(&self.tls.provider, config.crypto_provider())),
        ];
        match kept.iter().find(|(_, kept)| !kept) {
            None => Ok(config),
            Some((what, _)) => {
                let why =
                    format!("the closure for further settings replaced the {what}, which the reload owns");
                Err(Error::new(Layer::Config, why))
            }
        }
    }
}

fn at(error: Error, path: Option<&Path>) -> Error {
    match path {
        Some(path) => error.at(path),
        None => error,
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct NoIdentity;

impl ResolvesClientCert for NoIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
