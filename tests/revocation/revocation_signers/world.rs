//! A server with client CAs and lists in directories of their own, and its clients.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, version::TLS12, version::TLS13};
use rustls_reload::{ClientAuth, Event, ServerBuilder, ServerReloader};
use rustls_reload_testkit::{Authority, ListSpec, Pair, PrivateKey, Subject};

use crate::common::{client_with, handshake, quick};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    root: tempfile::TempDir,
    server_ca: Authority,
    pub(crate) reported: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
            server_ca: Authority::root("servers"),
            reported: Arc::default(),
        };
        ["tls", "ca", "crl.d", "other.d"].iter().for_each(|dir| fs::create_dir(world.path(dir)).unwrap());
        let pair = world.server_ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
        world.put("tls/tls.crt", pair.chain.as_bytes());
        world.put("tls/tls.key", pair.key.as_bytes());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let next = self.path("next");
        fs::write(&next, bytes).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }

    pub(crate) fn list(&self, name: &str, of: &Authority, spec: &ListSpec) {
        self.put(name, &of.list(spec).der);
    }

    /// Returns the builder of a server with the lists of one directory.
    pub(crate) fn builder(&self) -> ServerBuilder {
        let reported = Arc::clone(&self.reported);
        ServerReloader::builder(self.path("tls/tls.crt"), self.path("tls/tls.key"))
            .client_ca(self.path("ca/ca.crt"), ClientAuth::Required)
            .separate_client_ca(true)
            .timing(quick())
            .crl_dir(self.path("crl.d"))
            .on_event(move |event| reported.lock().unwrap().push(event.clone()))
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let reported = std::mem::take(&mut *self.reported.lock().unwrap());
        let warning = |event| match event {
            Event::Warning { warning } => Some(warning.to_string()),
            _ => None,
        };
        reported.into_iter().filter_map(warning).collect()
    }

    pub(crate) fn reported_reduced_trust(&self) -> bool {
        self.reported.lock().unwrap().iter().any(|event| matches!(event, Event::TrustReduced { .. }))
    }

    pub(crate) fn client(
        &self,
        shown: &Pair,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        client_with(&[&self.server_ca], Some(shown), &[version])
    }

    /// Returns whether a full handshake lets this client in.
    pub(crate) fn lets_in(&self, server: &ServerReloader, shown: &Pair) -> bool {
        let [old, new] =
            [&TLS12, &TLS13].map(|version| handshake(&server.config(), &self.client(shown, version)).is_ok());
        assert_eq!(old, new);
        new
    }
}

pub(crate) fn spec(number: u64) -> ListSpec {
    let now = SystemTime::now();
    ListSpec { window: (now - 3 * HOUR + Duration::from_secs(number), now + HOUR), ..ListSpec::new(number) }
}

/// Describes a list without the identifier of the key that signs it.
pub(crate) fn unidentified(number: u64) -> ListSpec {
    ListSpec { identified: false, ..spec(number) }
}

pub(crate) fn someone(of: &Authority) -> Pair {
    of.issue_with_chain(&Subject::client("client"), &PrivateKey::p256())
}

/// Makes a client of `old`, whose key the new CA of the same name has certified: RFC 4210
/// section 4.4.1, OldWithNew.
pub(crate) fn of_old_with_new(old: &Authority, new: &Authority) -> Pair {
    let pair = old.issue(&Subject::client("client"), &PrivateKey::p256());
    Pair { chain: pair.chain + &new.certify_again(old, "clients"), ..pair }
}
