//! Configures and loads the reloader of a server.

mod clients;
mod sessions;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider};

#[cfg(all(feature = "tokio", not(loom)))]
use super::settings::started_async;
use super::{
    build::{ServerBuild, ServerTls},
    crl::Policy,
    findings::InspectionLog,
    layout::{Given, Layout},
    pairs::SniPair,
    reloader::ServerReloader,
    settings::{Common, started},
    trust::{ClientAuth, Resumption},
};
use crate::{
    clock::Clock,
    decide::machine::Timing,
    drive::{cell::Published, reloader::Builder},
    fs::Fs,
    report::{
        error::{Error, Layer},
        event::Event,
    },
    watch::MakeWatcher,
};

/// Configures and loads a [`ServerReloader`].
///
/// [`ServerReloader::builder`] makes it with the chain and the key of the default pair. Everything
/// else has a default.
pub struct ServerBuilder {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<(PathBuf, ClientAuth)>,
    pub(super) crls: Vec<PathBuf>,
    pub(super) crl_dirs: Vec<PathBuf>,
    revocation: Policy,
    resumption: Resumption,
    pub(super) separate_client_ca: bool,
    pub(super) crls_with_client_ca: bool,
    pairs: Vec<SniPair>,
    strict_names: bool,
    common: Common<ServerBuild, ServerConfig>,
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

impl ServerReloader {
    /// Returns a builder for a server with this chain (leaf first) and its key, both in PEM. They
    /// may be one file.
    pub fn builder(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> ServerBuilder {
        ServerBuilder::new(chain.as_ref(), key.as_ref())
    }
}

/// # Load
impl ServerBuilder {
    /// Loads the files and builds the first configuration. Blocks until that is done. Nothing is
    /// watched before [`start`](crate::Reloader::start).
    ///
    /// # Errors
    /// Returns the first fault, with its layer and, where it has one, its path. A leaf outside its
    /// dates is a warning, not an error.
    pub fn load(self) -> Result<ServerReloader, Error> {
        self.into_generic()?.load()
    }

    /// Loads the files and starts to reload them: [`load`](Self::load) and
    /// [`start`](crate::Reloader::start).
    ///
    /// It blocks until the files are loaded: usually some milliseconds, at most about six seconds
    /// where they have just been written. On an async executor use `start_async` (feature `tokio`).
    ///
    /// # Errors
    /// As `load`. [`Layer::Process`] where the system has no thread left.
    pub fn start(self) -> Result<ServerReloader, Error> {
        started(self.load()?)
    }

    /// Does what [`start`](Self::start) does, and loads on a thread of its own, so that the executor
    /// goes on meanwhile.
    ///
    /// # Errors
    /// As `start`. [`Layer::Panic`] if the load panics.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub async fn start_async(self) -> Result<ServerReloader, Error> {
        started_async(move || self.load()).await
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
}

/// # Further pairs
impl ServerBuilder {
    /// Adds a certificate chain and its key for the DNS names in the leaf's subject alternative
    /// names, of which there must be at least one.
    ///
    /// A client whose SNI matches one of these names gets this pair.
    /// [`pair_for`](Self::pair_for) takes the names from the caller and has the rules.
    #[must_use]
    pub fn pair(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.pairs.push(SniPair { chain: chain.as_ref().into(), key: key.as_ref().into(), names: None });
        self
    }

    /// Adds a certificate chain and its key for these DNS names. The names in the certificate do
    /// not matter.
    ///
    /// A client whose SNI matches one of the names gets this pair. Case does not matter. A `*` may
    /// be the whole first label of a name and stands for exactly one label. An exact name comes
    /// before a wildcard. A name belongs to one pair: two pairs with one name fail the first load,
    /// and an update that takes the name of another pair is rejected.
    ///
    /// A client without SNI, or whose SNI matches no pair, gets the default pair: the chain and key
    /// given to [`builder`](ServerReloader::builder). [`strict_names`](Self::strict_names) changes
    /// that.
    ///
    /// Each pair is a file set of its own and keeps its own last good version. A broken pair
    /// neither blocks the others nor is replaced by another certificate. Client CAs and all other
    /// settings apply to all pairs.
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

    /// Sets whether a client without SNI, or whose SNI matches no pair, is rejected. By default it
    /// gets the default pair.
    ///
    /// With `true`, the default pair serves only the DNS names in its own leaf. Any added pair that
    /// matches comes before it.
    #[must_use]
    pub fn strict_names(mut self, strict: bool) -> Self {
        self.strict_names = strict;
        self
    }
}

/// # TLS settings
impl ServerBuilder {
    /// Uses this crypto provider. By default it is the process default, else ring or aws-lc-rs,
    /// whichever feature is enabled, in this order.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.common.provider = Some(provider);
        self
    }

    /// Enables these protocol versions. By default TLS 1.2 and 1.3 are enabled.
    #[must_use]
    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.common.versions = versions.to_vec();
        self
    }

    /// Offers these protocols by ALPN, the preferred one first. By default ALPN is off.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.alpn(protocols);
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
        self.common.configure(configure);
        self
    }
}

/// # Events and publications
impl ServerBuilder {
    /// Registers a callback for events; see [`Builder::on_event`].
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.common.further(|builder| builder.on_event(observer));
        self
    }

    /// Registers a callback for each publication after the first load, for servers that take a new
    /// `ServerConfig` themselves; see [`Reloader::on_publish`](crate::Reloader::on_publish) for one
    /// that is called at once.
    #[must_use]
    pub fn on_publish(
        mut self,
        observer: impl Fn(&Arc<Published<ServerTls>>) + Send + Sync + 'static,
    ) -> Self {
        self.common.further(|builder| builder.on_publish(observer));
        self
    }

    /// Sets when the nearing expiry of a leaf is reported; see [`Builder::expiry_warnings`].
    #[must_use]
    pub fn expiry_warnings(mut self, before: impl IntoIterator<Item = Duration>) -> Self {
        let before: Vec<_> = before.into_iter().collect();
        self.common.further(move |builder| builder.expiry_warnings(before));
        self
    }

    /// Sets the label `reloader` of the metrics, `server` without it; see
    /// [`Builder::metrics_name`].
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_name(mut self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.common.further(|builder| builder.metrics_name(name));
        self
    }
}

/// # Time and watching
impl ServerBuilder {
    /// Sets the delays; see [`Builder::timing`].
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.common.further(move |builder| builder.timing(timing));
        self
    }

    /// Sets the clock; see [`Builder::clock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.common.further(|builder| builder.clock(clock));
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
        self.common.clock_skew = skew;
        self
    }

    /// Sets the watcher; see [`Builder::watcher`].
    #[must_use]
    pub fn watcher(mut self, make: Option<MakeWatcher>) -> Self {
        self.common.further(|builder| builder.watcher(make));
        self
    }
}

impl ServerBuilder {
    /// Makes the default settings of a server of this pair.
    fn new(chain: &Path, key: &Path) -> Self {
        Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            client_ca: None,
            crls: Vec::new(),
            crl_dirs: Vec::new(),
            revocation: Policy::default(),
            resumption: Resumption::default(),
            separate_client_ca: false,
            crls_with_client_ca: false,
            pairs: Vec::new(),
            strict_names: false,
            common: Common::new(),
            found: InspectionLog::default(),
        }
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
            let why = "a CRL without client CAs: no client certificate would be verified";
            return Err(Error::new(Layer::Settings, why).at(file));
        }
        let layout = self.layout()?;
        let Self { client_ca, revocation, resumption, pairs, strict_names, found, common, .. } = self;
        let pairs = pairs.into_iter().map(SniPair::checked).collect::<Result<Vec<_>, _>>()?;
        common.into_generic(move |tls| {
            let build = ServerBuild {
                tls,
                layout: layout.clone(),
                client_auth: client_ca.map(|(_, mode)| mode),
                revocation,
                resumption,
                pairs,
                strict_names,
                found,
            };
            let builder = layout.builder(build)?;
            #[cfg(feature = "metrics")]
            let builder = builder.metrics_name("server");
            Ok(builder)
        })
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
