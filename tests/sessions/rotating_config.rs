//! One configuration for life: its certificate, client CAs and CRLs rotate inside it, and it keeps
//! no session that could outlive them.
//!
//! Checks: INV-04, INV-09.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::common::{self, Generation, Handshake, NamedFile, Volume, client_showing, generations, handshake};
use rustls::{
    CertificateError, ClientConfig, Error as TlsError, ServerConfig, SupportedProtocolVersion,
    crypto::ring::Ticketer,
    pki_types::CertificateDer,
    server::ServerSessionMemoryCache,
    time_provider::DefaultTimeProvider,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Reload, ServerReloader};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

type Design = (&'static str, fn(&mut ServerConfig));

/// The configuration as it ships, and with a session state of the server's own put into it.
const DESIGNS: [Design; 3] = [
    ("shipped", |_| {}),
    ("with stored sessions", |config| {
        config.session_storage = ServerSessionMemoryCache::new(16);
        config.send_tls13_tickets = 2;
    }),
    ("with tickets", |config| {
        config.ticketer = Ticketer::new().unwrap();
        config.send_tls13_tickets = 2;
    }),
];

struct World {
    volume: Volume,
    reloader: ServerReloader,
    config: Arc<ServerConfig>,
    all: Vec<Generation>,
}

impl World {
    fn new(change: fn(&mut ServerConfig)) -> Self {
        let all = generations(2);
        let volume = Volume::new(&files(&all[0], &list(&all[0], &[], 1)));
        let reloader = volume
            .server()
            .client_ca(volume.path("ca.crt"), ClientAuth::Required)
            .crl(volume.path("ca.crl"))
            .load()
            .unwrap();
        let mut config = reloader.rotating_config().as_ref().clone();
        change(&mut config);
        Self { volume, reloader, config: Arc::new(config), all }
    }

    fn publish(&mut self, generation: usize, revoked: &[&CertificateDer<'_>], number: u64) {
        let list = list(&self.all[generation], revoked, number);
        self.volume.publish(&files(&self.all[generation], &list));
        assert_eq!(self.reloader.reload_now(), Reload::Reloaded);
    }

    /// A client that trusts both servers and shows the certificate of this generation, whatever the server names.
    fn client(&self, of: usize, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        client_showing(&[&self.all[0], &self.all[1]], Some(&self.all[of]), &[version])
    }
}

pub(super) fn list(of: &Generation, revoked: &[&CertificateDer<'_>], number: u64) -> String {
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    of.ca.crl(revoked, (now - hour, now + hour), number).pem
}

pub(super) fn files<'a>(of: &'a Generation, list: &'a str) -> [NamedFile<'a>; 4] {
    let [chain, key, bundle] = of.files();
    [chain, key, bundle, ("ca.crl", list.as_bytes())]
}

/// Rotates certificate, client CA and CRL under a client that offers its session each time.
fn rotates(change: fn(&mut ServerConfig), version: &'static SupportedProtocolVersion) -> Result<(), String> {
    let mut world = World::new(change);
    let [old, new] = [0, 1].map(|of| world.client(of, version));
    let stranger = client_showing(&[&world.all[0]], None, &[version]);
    let why = |error: TlsError| error.to_string();
    for _ in 0..2 {
        let connection = handshake(&world.config, &old).map_err(why)?;
        assert_eq!(*connection.leaf(), world.all[0].server.leaf);
    }
    assert!(handshake(&world.config, &new).is_err(), "a CA that is not there yet");
    assert!(handshake(&world.config, &stranger).is_err(), "without a certificate");

    let revoked = world.all[0].client.leaf.clone();
    world.publish(0, &[&revoked], 2);
    match handshake(&world.config, &old) {
        Ok(connection) => {
            return Err(format!("a revoked client is accepted, resumed: {}", connection.resumed));
        }
        Err(error) => assert_eq!(error, TlsError::InvalidCertificate(CertificateError::Revoked)),
    }
    world.publish(0, &[], 3);
    handshake(&world.config, &old).map_err(why)?;

    world.publish(1, &[], 1);
    if let Ok(connection) = handshake(&world.config, &old) {
        return Err(format!("a client of a removed CA is accepted, resumed: {}", connection.resumed));
    }
    let connection = handshake(&world.config, &new).map_err(why)?;
    assert_eq!(*connection.leaf(), world.all[1].server.leaf);
    Ok(())
}

#[test]
fn inv09_everything_rotates_inside_one_configuration() {
    for version in VERSIONS {
        for (name, change) in DESIGNS {
            let outcome = rotates(change, version);
            println!("one configuration {name}, {:?}: {outcome:?}", version.version);
            match name {
                "shipped" => assert_eq!(outcome, Ok(()), "{:?}", version.version),
                // Any session state of its own lets a client in that is not verified any more.
                _ => assert_eq!(
                    outcome,
                    Err("a revoked client is accepted, resumed: true".to_owned()),
                    "{name}, {:?}",
                    version.version
                ),
            }
        }
    }
}

#[test]
fn inv04_handshake_over_a_swap_meets_old_leaf_and_new_trust() {
    for version in VERSIONS {
        for (shown, is_accepted) in [(0, false), (1, true)] {
            let mut world = World::new(|_| {});
            let client = world.client(shown, version);
            let held = Handshake::begin(Arc::clone(&world.config), &client).unwrap();
            world.publish(1, &[], 1);
            let ended = held.end();
            assert_eq!(ended.is_ok(), is_accepted, "{:?}, client {shown}: {ended:?}", version.version);
            if let Ok(connection) = ended {
                assert_eq!(
                    *connection.leaf(),
                    world.all[0].server.leaf,
                    "the certificate of its first message"
                );
                assert_eq!(connection.client.as_ref(), Some(&world.all[1].client.leaf));
            }
        }
    }
}

#[test]
fn inv03_inv04_rotating_config_keeps_serving_a_rejected_reload() {
    let mut world = World::new(|_| {});
    let client = world.client(0, &TLS13);
    let list = list(&world.all[0], &[], 2);
    let mut broken = files(&world.all[0], &list);
    broken[1].1 = world.all[1].server.key.as_bytes();
    world.volume.publish(&broken);
    assert!(matches!(world.reloader.reload_now(), Reload::Refused(_)));
    assert_eq!(*handshake(&world.config, &client).unwrap().leaf(), world.all[0].server.leaf);
}

/// Each setting that the closure of the builder can reach, at another value than its default.
#[test]
fn one_configuration_has_the_further_settings_of_the_builder() {
    let world = World::new(|_| {});
    let reloader = world
        .volume
        .server()
        .alpn(["h2"])
        .configure(|config| {
            config.ignore_client_order = true;
            config.max_fragment_size = Some(1000);
            config.enable_secret_extraction = true;
            config.send_half_rtt_data = true;
            config.require_ems = true;
            config.key_log = Arc::new(rustls::KeyLogFile::new());
            config.time_provider = Arc::new(DefaultTimeProvider);
        })
        .load()
        .unwrap();
    let (of, once) = (reloader.config(), reloader.rotating_config());
    let shown = |config: &ServerConfig| {
        (
            config.ignore_client_order,
            config.max_fragment_size,
            config.enable_secret_extraction,
            config.send_half_rtt_data,
            config.require_ems,
        )
    };
    assert_eq!(shown(&once), (true, Some(1000), true, true, true));
    assert_eq!(shown(&once), shown(&of));
    assert_eq!(once.alpn_protocols, [b"h2"]);
    assert!(Arc::ptr_eq(&once.key_log, &of.key_log) && Arc::ptr_eq(&once.time_provider, &of.time_provider));
    assert!(Arc::ptr_eq(&once.cert_compression_cache, &of.cert_compression_cache));
    assert!(!once.session_storage.can_cache() && !once.ticketer.enabled());
    assert_eq!(once.send_tls13_tickets, 0);
    // Without client CAs nobody is asked for a certificate.
    let stranger = client_showing(&[&world.all[0]], None, rustls::ALL_VERSIONS);
    assert!(common::handshake(&once, &stranger).unwrap().client.is_none());
}
