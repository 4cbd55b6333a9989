//! Configures and loads the reloader of a client.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
};

use super::{
    build::{ClientBuild, ClientTls},
    layout::Layout,
};
#[cfg(all(feature = "tokio", not(loom)))]
use crate::server::settings::started_async;
use crate::{
    clock::Clock,
    decide::machine::Timing,
    drive::{
        cell::Published,
        reloader::{Builder, Reloader},
    },
    report::{
        error::{Error, Layer},
        event::Event,
    },
    server::settings::{Common, started},
    watch::MakeWatcher,
};

/// Sessions stored by default, as in rustls: up to eight of each server.
const SESSION_CACHE: usize = 256;

/// Configures and loads a [`ClientReloader`].
///
/// [`ClientReloader::builder`] makes it. It needs [`roots`](Self::roots) or another way to verify
/// servers; everything else has a default.
pub struct ClientBuilder {
    identity: Option<(PathBuf, PathBuf)>,
    roots: Vec<PathBuf>,
    separate_roots: bool,
    root_store: Option<RootCertStore>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    session_cache: usize,
    common: Common<ClientBuild, ClientConfig>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, roots, .. } = self;
        let mut text = f.debug_struct("ClientBuilder");
        text.field("identity", identity).field("roots", roots).finish_non_exhaustive()
    }
}

/// # Load
impl ClientBuilder {
    /// Loads the files and builds the first configuration. Blocks until that is done. Nothing is
    /// watched before [`start`](Reloader::start).
    ///
    /// # Errors
    /// Returns the first fault, with its layer and, where it has one, its path. A leaf outside its
    /// dates is a warning, not an error.
    pub fn load(self) -> Result<ClientReloader, Error> {
        self.into_generic()?.load()
    }

    /// Loads the files and starts to reload them: [`load`](Self::load) and
    /// [`start`](Reloader::start).
    ///
    /// It blocks until the files are loaded: usually some milliseconds, at most about six seconds
    /// where they have just been written. On an async executor use `start_async` (feature `tokio`).
    ///
    /// # Errors
    /// As `load`. [`Layer::Process`] where the system has no thread left.
    pub fn start(self) -> Result<ClientReloader, Error> {
        started(self.load()?)
    }

    /// Does what [`start`](Self::start) does, and loads on a thread of its own, so that the executor
    /// goes on meanwhile.
    ///
    /// # Errors
    /// As `start`. [`Layer::Panic`] if the load panics.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub async fn start_async(self) -> Result<ClientReloader, Error> {
        started_async(move || self.load()).await
    }
}

/// # Identity and roots
impl ClientBuilder {
    /// Shows this chain (leaf first) to servers that ask for a certificate, with its key, both in
    /// PEM. They may be one file. Without this call the client shows none.
    ///
    /// Chain and key are one file set. The client shows its certificate whatever CAs a server names.
    #[must_use]
    pub fn identity(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((chain.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// Verifies servers against the roots of this bundle in PEM, and of each further one that is
    /// given. The names of servers are verified as rustls does.
    ///
    /// A bundle in the directory of the identity's chain or key is in the identity's file set. The
    /// bundles of each other directory are a file set of their own, since another publisher puts
    /// them there. Directories are compared as they are given, made absolute, without following
    /// symlinks. See [`separate_roots`](Self::separate_roots).
    ///
    /// A certificate that may not issue servers (CA:FALSE, or without basic constraints), and one
    /// by which rustls can verify no server, are ignored with a warning. A bundle of nothing else
    /// rejects its file set. So a self-signed certificate that a server shows itself is no root:
    /// its holder could issue certificates for every name. The dates of a root are ignored.
    #[must_use]
    pub fn roots(mut self, bundle: impl AsRef<Path>) -> Self {
        self.roots.push(bundle.as_ref().to_owned());
        self
    }

    /// Sets whether no roots are in the file set of the identity, wherever they are; `false` by
    /// default. `true` is for a bundle of another publisher in the directory of the identity.
    #[must_use]
    pub fn separate_roots(mut self, separate: bool) -> Self {
        self.separate_roots = separate;
        self
    }

    /// Verifies servers against these roots as well, which no file changes: those of the platform,
    /// for example, as the crate rustls-native-certs reads them.
    ///
    /// A root by which rustls can verify no server, because of its key or its name constraints, is
    /// ignored with a warning, as in a bundle. A store of nothing else fails the load with
    /// [`Layer::RootCa`]. Whether a root may issue servers (CA:TRUE, extended key usage) is not
    /// checked: a `RootCertStore` does not say.
    ///
    /// ```no_run
    /// # struct Loaded { certs: Vec<rustls::pki_types::CertificateDer<'static>> }
    /// # mod rustls_native_certs { pub fn load_native_certs() -> super::Loaded { unimplemented!() } }
    /// # fn main() -> Result<(), rustls_reload::Error> {
    /// let mut platform = rustls::RootCertStore::empty();
    /// platform.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    /// let tls = rustls_reload::ClientReloader::builder()
    ///     .identity("/etc/tls/tls.crt", "/etc/tls/tls.key")
    ///     .root_store(platform)
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn root_store(mut self, roots: RootCertStore) -> Self {
        self.root_store.get_or_insert_with(RootCertStore::empty).extend(roots.roots);
        self
    }

    /// Verifies servers with this verifier, in the place of [`roots`](Self::roots) and
    /// [`root_store`](Self::root_store): that of the crate rustls-platform-verifier, for example, or
    /// rustls's own with CRLs. No file changes it. What it comes to trust or to distrust
    /// by itself ends no session.
    #[must_use]
    pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }
}

/// # TLS settings
impl ClientBuilder {
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
    /// The closure must not replace the whole configuration nor `client_auth_cert_resolver`: such a
    /// build fails with [`Layer::Config`]. A verifier that it sets has no effect. It may replace
    /// `resumption`: whatever the storage, rustls resumes a session only with the verifier and the
    /// identity that it was made with, and no epoch shares these with another one.
    #[must_use]
    pub fn configure(mut self, configure: impl FnMut(&mut ClientConfig) + Send + 'static) -> Self {
        self.common.configure(configure);
        self
    }

    /// Limits the stored sessions as rustls's `Resumption::in_memory_sessions` does; 256 by default.
    /// With 0 no session resumes.
    #[must_use]
    pub fn session_cache(mut self, sessions: usize) -> Self {
        self.session_cache = sessions;
        self
    }
}

/// # Events and publications
impl ClientBuilder {
    /// Registers a callback for events; see [`Builder::on_event`].
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.common.further(|builder| builder.on_event(observer));
        self
    }

    /// Registers a callback for each publication after the first load; see
    /// [`Reloader::on_publish`](crate::Reloader::on_publish) for one that is called at once.
    #[must_use]
    pub fn on_publish(
        mut self,
        observer: impl Fn(&Arc<Published<ClientTls>>) + Send + Sync + 'static,
    ) -> Self {
        self.common.further(|builder| builder.on_publish(observer));
        self
    }

    /// Sets when the nearing expiry of the identity is reported; see [`Builder::expiry_warnings`].
    #[must_use]
    pub fn expiry_warnings(mut self, before: impl IntoIterator<Item = Duration>) -> Self {
        let before: Vec<_> = before.into_iter().collect();
        self.common.further(move |builder| builder.expiry_warnings(before));
        self
    }

    /// Sets the label `reloader` of the metrics, `client` without it; see
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
impl ClientBuilder {
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
    /// It applies to the dates of the identity, as
    /// [`ServerBuilder::clock_skew`](crate::ServerBuilder::clock_skew) does to a server's leaf.
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

impl ClientBuilder {
    /// Returns a builder of the generic reloader.
    ///
    /// # Errors
    /// [`Layer::Settings`] without a crypto provider, without a file, without anything to verify
    /// servers by, and for a verifier beside roots.
    pub(crate) fn into_generic(self) -> Result<Builder<ClientBuild>, Error> {
        let settings = |why: &str| Error::new(Layer::Settings, why);
        let has_roots = !self.roots.is_empty() || self.root_store.is_some();
        match (&self.verifier, has_roots) {
            (Some(_), true) => return Err(settings("a verifier and roots: give one or the other")),
            (None, false) => {
                return Err(settings("no roots and no verifier: no server could be verified"));
            }
            _ => {}
        }
        let layout = Layout::new(self.identity.as_ref(), &self.roots, self.separate_roots)?;
        let Self { root_store, verifier, session_cache, common, .. } = self;
        common.into_generic(move |tls| {
            let build = ClientBuild {
                tls,
                layout: layout.clone(),
                fixed: root_store.unwrap_or_else(RootCertStore::empty),
                verifier,
                session_cache,
            };
            let builder = layout.builder(build)?;
            #[cfg(feature = "metrics")]
            let builder = builder.metrics_name("client");
            Ok(builder)
        })
    }
}

/// Keeps a `ClientConfig` up to date with its files, for as long as a clone, a connector or a
/// configuration for life of it exists.
pub type ClientReloader = Reloader<ClientTls>;

impl ClientReloader {
    /// Returns a builder for a client. It needs a file: an identity, or a bundle of roots.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            identity: None,
            roots: Vec::new(),
            separate_roots: false,
            root_store: None,
            verifier: None,
            session_cache: SESSION_CACHE,
            common: Common::new(),
        }
    }

    /// Returns the configuration for the next connection. Waits for nothing (INV-07).
    /// [`current`](Self::current) returns it with its generation and leaf.
    ///
    /// Ask again for each connection: a configuration that is kept never changes, and does not keep
    /// the reloader going. A client that keeps one takes
    /// [`rotating_config`](Self::rotating_config).
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.with_current(|current| Arc::clone(&current.value.config))
    }
}
