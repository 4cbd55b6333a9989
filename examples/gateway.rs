//! The TLS module of a gateway: an internal certificate, an external one for certain server names,
//! client CAs, and a worker that reloads them.
//!
//! It has the interface of the module `tls` in NVIDIA OpenShell's gateway, and can take its place:
//! <https://github.com/NVIDIA/OpenShell/blob/main/crates/openshell-server/src/tls.rs>.
//! `tests/gateway` tests each of its behaviours.

use std::{collections::BTreeSet, fmt, path::Path};

use rustls_reload::{ClientAuth, Event, Reload, ServerReloader};
use tokio::{sync::watch, task::JoinHandle};

/// A failure to load the files, or settings that contradict each other.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS error: {}", self.0)
    }
}

impl std::error::Error for Error {}

/// Accepts TLS connections with the certificates that are on disk. Clones share them.
#[derive(Clone, Debug)]
pub struct TlsAcceptor(ServerReloader);

impl TlsAcceptor {
    /// Loads the internal pair, the client CAs and the external pair. Blocks for half a second
    /// where they were just written.
    ///
    /// A client that names one of the external names (`*.` stands for one label) gets the external
    /// pair, any other the internal one. With client CAs, a client's certificate is verified; it may
    /// be missing unless it is required.
    pub fn from_files(
        cert_path: &Path,
        key_path: &Path,
        client_ca_path: Option<&Path>,
        require_client_auth: bool,
        external_cert_path: Option<&Path>,
        external_key_path: Option<&Path>,
        external_server_names: Vec<String>,
    ) -> Result<Self, Error> {
        let mut tls = ServerReloader::builder(cert_path, key_path).alpn(["h2", "http/1.1"]).on_event(audit);
        if let Some(bundle) = client_ca_path {
            let auth = if require_client_auth { ClientAuth::Required } else { ClientAuth::Optional };
            tls = tls.client_ca(bundle, auth);
        }
        // A name that is given twice would be an error.
        let names: BTreeSet<_> = external_server_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let fault = |why: &str| Err(Error(why.to_owned()));
        match (external_cert_path, external_key_path) {
            (None, None) => {}
            (Some(_), None) => return fault("external_cert_path is set but external_key_path is missing"),
            (None, Some(_)) => return fault("external_key_path is set but external_cert_path is missing"),
            (Some(_), Some(_)) if names.is_empty() => {
                return fault("external_server_names is empty: the external certificate would not be served");
            }
            (Some(cert), Some(key)) => tls = tls.pair_for(names, cert, key),
        }
        tls.load().map(Self).map_err(|error| Error(error.to_string()))
    }

    /// Reloads now, without waiting until the files are stable. A failure keeps the previous
    /// configuration.
    pub fn reload(&self) -> Result<(), Error> {
        match self.0.reload_now() {
            Reload::Refused(error) => Err(Error(error.to_string())),
            Reload::Stopped => Err(Error("the reload worker was shut down".to_owned())),
            _ => Ok(()),
        }
    }

    /// Returns an acceptor for the next connection.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.0.config().into()
    }

    /// Reloads whenever the files change, until `shutdown` turns true. While such a worker runs,
    /// another one is not started, and its task ends at once.
    pub fn spawn_reload_worker(&self, shutdown: watch::Receiver<bool>) -> JoinHandle<()> {
        self.0.spawn_worker(shutdown).unwrap_or_else(|error| {
            tracing::warn!(%error, "no TLS certificate reload worker was started");
            tokio::spawn(async {})
        })
    }
}

/// Records each change of the configuration for an audit (class 5019 of OCSF). With its feature
/// `tracing` the crate logs every event as well.
fn audit(event: &Event) {
    let record = |severity, status, state, message: &str| {
        tracing::info!(target: "audit", class_uid = 5019, severity, status, state, "{message}");
    };
    match event {
        Event::Published { .. } => {
            record("Informational", "Success", "reloaded", "TLS certificate config reloaded successfully");
        }
        Event::Refused { error, .. } => {
            let failed = format!("TLS certificate reload failed: {}", Error(error.to_string()));
            record("Medium", "Failure", "reload_failed", &failed);
        }
        Event::Recovered { .. } => {
            record("Informational", "Success", "recovered", "TLS certificate files are the served ones");
        }
        _ => {}
    }
}
