//! Settings that the builders of a server and of a client have in common.

use std::{sync::Arc, time::Duration};

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider};

use crate::{
    build::Build,
    drive::reloader::{Builder, Reloader, StartError},
    report::error::Error,
};

/// A closure for the settings of rustls that have no method here.
pub(crate) type Configure<C> = Box<dyn FnMut(&mut C) + Send>;

type Set<B> = Box<dyn FnOnce(Builder<B>) -> Builder<B> + Send>;

/// The settings of the configurations `C` that a build step makes.
pub(crate) struct Tls<C> {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) configure: Option<Configure<C>>,
    pub(crate) clock_skew: Duration,
}

/// The common settings of a builder, whose build step `B` makes configurations `C`.
pub(crate) struct Common<B: Build, C> {
    pub(crate) provider: Option<Arc<CryptoProvider>>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    configure: Option<Configure<C>>,
    pub(crate) clock_skew: Duration,
    /// The settings of the generic builder.
    further: Vec<Set<B>>,
}

impl<B: Build, C> Common<B, C> {
    pub(crate) fn new() -> Self {
        Self {
            provider: None,
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
            alpn: Vec::new(),
            configure: None,
            clock_skew: Duration::ZERO,
            further: Vec::new(),
        }
    }

    pub(crate) fn alpn<P: AsRef<[u8]>>(&mut self, protocols: impl IntoIterator<Item = P>) {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
    }

    pub(crate) fn configure(&mut self, configure: impl FnMut(&mut C) + Send + 'static) {
        self.configure = Some(Box::new(configure));
    }

    /// Adds a setting of the generic builder.
    pub(crate) fn further(&mut self, set: impl FnOnce(Builder<B>) -> Builder<B> + Send + 'static) {
        self.further.push(Box::new(set));
    }

    /// Returns a builder of the generic reloader. `make` makes one from the settings of the build
    /// step.
    ///
    /// # Errors
    /// [`Layer::Settings`](crate::Layer::Settings) without a crypto provider, and the error of
    /// `make`.
    pub(crate) fn into_generic(
        self,
        make: impl FnOnce(Tls<C>) -> Result<Builder<B>, Error>,
    ) -> Result<Builder<B>, Error> {
        let Self { provider, versions, alpn, configure, clock_skew, further } = self;
        let provider = provider.map_or_else(default_provider, Ok)?;
        let builder = make(Tls { provider, versions, alpn, configure, clock_skew })?;
        Ok(further.into_iter().fold(builder, |builder, set| set(builder)))
    }
}

/// Starts a reloader that was just loaded, so that nobody else can have started it.
pub(crate) fn started<T: Send + Sync + 'static>(reloader: Reloader<T>) -> Result<Reloader<T>, Error> {
    reloader.start().map_err(StartError::into_error)?;
    Ok(reloader)
}

/// Loads a reloader on a thread of its own, and starts it. A caller that has gone meanwhile drops
/// what was loaded, and nothing is started.
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) async fn started_async<T: Send + Sync + 'static>(
    load: impl FnOnce() -> Result<Reloader<T>, Error> + Send + 'static,
) -> Result<Reloader<T>, Error> {
    started(crate::drive::worker::off_executor("the first load", load).await??)
}

/// Returns the process default, else the provider that was compiled in.
///
/// # Errors
/// [`Layer::Settings`](crate::Layer::Settings) where there is neither.
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
        Err(Error::new(crate::report::error::Layer::Settings, why))
    }
}
