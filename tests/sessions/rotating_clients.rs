//! One configuration for life under clients that try something else: sessions of another configuration, no
//! certificate, other server names, a second hello, compressed chains. It keeps the reloader going.
//!
//! Checks: INV-04, INV-09, INV-11, INV-13, INV-14.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::rotating_config::{files, list};
use crate::common::{
    self, Generation, Handshake, NamedFile, Volume, client_showing, drain, expect, generations, handshake,
    handshake_as, sessions::KINDS,
};
use rustls::{
    CertificateCompressionAlgorithm, CertificateError, ClientConfig, Error as TlsError, ServerConfig,
    compress::{CertCompressor, CertDecompressor, CompressionFailed, CompressionLevel, DecompressionFailed},
    crypto::{CryptoProvider, ring, ring::Ticketer},
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Event, Reload, ServerBuilder};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

fn verifying(volume: &Volume, mode: ClientAuth) -> ServerBuilder {
    volume.server().client_ca(volume.path("ca.crt"), mode).crl(volume.path("ca.crl"))
}

#[test]
fn inv09_session_of_another_configuration_resumes_nothing() {
    for (version, tickets) in KINDS {
        let of = Generation::new(0);
        let mut volume = Volume::new(&files(&of, &list(&of, &[], 1)));
        let builder = verifying(&volume, ClientAuth::Required);
        let builder = if tickets { builder.tickets(Ticketer::new) } else { builder };
        let reloader = builder.load().unwrap();
        let once = reloader.rotating_config();
        let client = client_showing(&[&of], Some(&of), &[version]);
        for resumed in [false, true] {
            assert_eq!(handshake(&reloader.config(), &client).unwrap().resumed, resumed);
        }
        // The client offers that session.
        let connection = handshake(&once, &client).unwrap();
        assert!(!connection.resumed, "{:?}, tickets {tickets}", version.version);
        assert_eq!(connection.client.as_ref(), Some(&of.client.leaf));
        assert!(!handshake(&once, &client).unwrap().resumed);
        let fresh = client_showing(&[&of], Some(&of), &[version]);
        handshake(&once, &fresh).unwrap();
        assert!(!handshake(&reloader.config(), &fresh).unwrap().resumed, "it has made no session");
        handshake(&reloader.config(), &client).unwrap();
        volume.publish(&files(&of, &list(&of, &[&of.client.leaf], 2)));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        for client in [&client, &fresh] {
            let revoked = TlsError::InvalidCertificate(CertificateError::Revoked);
            assert_eq!(handshake(&once, client).unwrap_err(), revoked);
        }
    }
}

#[test]
fn inv14_optional_client_certificates_rotate() {
    for version in [&TLS12, &TLS13] {
        let all = generations(2);
        let mut volume = Volume::new(&files(&all[0], &list(&all[0], &[], 1)));
        let reloader = verifying(&volume, ClientAuth::Optional).load().unwrap();
        let once = reloader.rotating_config();
        let both = [&all[0], &all[1]];
        let [anonymous, old, new] =
            [None, Some(&all[0]), Some(&all[1])].map(|shown| client_showing(&both, shown, &[version]));
        for (round, (accepted, refused)) in [(&old, &new), (&new, &old)].into_iter().enumerate() {
            if round == 1 {
                volume.publish(&files(&all[1], &list(&all[1], &[], 1)));
                assert_eq!(reloader.reload_now(), Reload::Reloaded);
            }
            assert_eq!(handshake(&once, &anonymous).unwrap().client, None);
            assert_eq!(handshake(&once, accepted).unwrap().client.as_ref(), Some(&all[round].client.leaf));
            // Nobody whose certificate is rejected is taken for a client without one.
            assert!(handshake(&once, refused).is_err());
        }
        let revoked = &all[1].client.leaf;
        volume.publish(&files(&all[1], &list(&all[1], &[revoked], 2)));
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert!(handshake(&once, &new).is_err());
        assert!(handshake(&once, &anonymous).unwrap().client.is_none());
    }
}

#[test]
fn inv14_server_names_are_answered_as_by_the_served_configuration() {
    let of = Generation::new(0);
    let issue = |name: &str| of.ca.issue(&Subject::server(name), &PrivateKey::p256());
    let (first, second, moved) = (issue("a.test"), issue("a.test"), issue("b.test"));
    let files = |named: &Pair| -> Vec<(&'static str, String)> {
        vec![
            ("tls.crt", of.server.chain.clone()),
            ("tls.key", of.server.key.clone()),
            ("a.crt", named.chain.clone()),
            ("a.key", named.key.clone()),
        ]
    };
    for strict in [false, true] {
        let owned = files(&first);
        let named: Vec<NamedFile<'_>> = owned.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        let mut volume = Volume::new(&named);
        let reloader = volume
            .server()
            .pair(volume.path("a.crt"), volume.path("a.key"))
            .strict_names(strict)
            .load()
            .unwrap();
        let once = reloader.rotating_config();
        let leaf = |config: &Arc<ServerConfig>, name: &str| {
            // A new client each time, since one that resumes keeps the certificate of its session.
            let client = client_showing(&[&of], None, rustls::ALL_VERSIONS);
            handshake_as(config, &client, name)
                .map(|connection| connection.leaf().clone())
                .map_err(|why| why.to_string())
        };
        for next in [None, Some(&second), Some(&moved)] {
            if let Some(next) = next {
                let owned = files(next);
                let named: Vec<NamedFile<'_>> =
                    owned.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
                volume.publish(&named);
                assert_eq!(reloader.reload_now(), Reload::Reloaded);
            }
            for name in ["localhost", "a.test", "b.test", "c.test", ""] {
                assert_eq!(leaf(&once, name), leaf(&reloader.config(), name), "{strict} {name:?}");
            }
        }
        assert_eq!(leaf(&once, "b.test"), Ok(moved.leaf.clone()));
        assert!(leaf(&once, "a.test").is_err());
    }
}

/// A client whose first key share the server does not take sends a second hello.
#[test]
fn inv04_second_hello_gets_the_certificate_served_then() {
    let all = generations(2);
    let mut volume = Volume::new(&files(&all[0], &list(&all[0], &[], 1)));
    let provider = CryptoProvider { kx_groups: vec![ring::kx_group::SECP384R1], ..ring::default_provider() };
    let reloader = verifying(&volume, ClientAuth::Required).provider(Arc::new(provider)).load().unwrap();
    let once = reloader.rotating_config();
    let client = client_showing(&[&all[0], &all[1]], Some(&all[1]), &[&TLS13]);
    let held = Handshake::begin(Arc::clone(&once), &client).unwrap();
    volume.publish(&files(&all[1], &list(&all[1], &[], 1)));
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    let connection = held.end().unwrap();
    assert_eq!(*connection.leaf(), all[1].server.leaf, "the certificate of its second hello");
}

#[test]
fn inv13_configuration_alone_keeps_reloading_until_it_is_dropped() {
    let all = generations(2);
    let mut volume = Volume::of(&all[0]);
    let reloader = volume.server().timing(common::by_events_only()).start().unwrap();
    let mut events = reloader.events();
    let once = reloader.rotating_config();
    drop(reloader);
    volume.publish(&all[1].files());
    assert_eq!(common::published(&mut events), 2);
    assert_eq!(common::presented_by(&once)[0], all[1].server.leaf);
    // A connection keeps it, too.
    let client = client_showing(&[&all[1]], None, rustls::ALL_VERSIONS);
    let held = Handshake::begin(once, &client).unwrap();
    volume.publish(&all[0].files());
    assert_eq!(common::published(&mut events), 3);
    drop(held);
    expect(&mut events, "stop", |event| matches!(event, Event::Stopped).then_some(()));
}

fn missing_start(event: &Event) -> Option<()> {
    matches!(event, Event::Warning { warning } if warning.why().contains("never started")).then_some(())
}

#[test]
fn inv11_handshake_of_a_rotating_config_unstarted_is_reported_once() {
    let of = Generation::new(0);
    let volume = Volume::of(&of);
    let reloader = volume.server().load().unwrap();
    let mut events = reloader.events();
    let once = reloader.rotating_config();
    let client = client_showing(&[&of], None, rustls::ALL_VERSIONS);
    handshake(&once, &client).unwrap();
    expect(&mut events, "warning", missing_start);
    handshake(&once, &client).unwrap();
    reloader.start().unwrap();
    common::started(&mut events);
    handshake(&once, &client).unwrap();
    reloader.stop().unwrap();
    assert_eq!(drain(&mut events).iter().filter_map(|event| missing_start(event)).count(), 0);
    assert_eq!(*handshake(&once, &client).unwrap().leaf(), of.server.leaf, "the last one stays served");
}

/// Compresses nothing, in the form of an algorithm.
#[derive(Debug)]
struct Plain;

const PRIVATE: CertificateCompressionAlgorithm = CertificateCompressionAlgorithm::Unknown(0x4001);
static DECOMPRESSED: AtomicUsize = AtomicUsize::new(0);

impl CertCompressor for Plain {
    fn compress(&self, input: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        Ok(input)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        PRIVATE
    }
}

impl CertDecompressor for Plain {
    fn decompress(&self, input: &[u8], output: &mut [u8]) -> Result<(), DecompressionFailed> {
        DECOMPRESSED.fetch_add(1, Ordering::Relaxed);
        output.copy_from_slice(input);
        Ok(())
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        PRIVATE
    }
}

#[test]
fn inv04_compressed_chains_rotate() {
    let all = generations(2);
    let mut volume = Volume::new(&files(&all[0], &list(&all[0], &[], 1)));
    let reloader = verifying(&volume, ClientAuth::Required)
        .configure(|config| {
            config.cert_compressors = vec![&Plain];
            config.cert_decompressors = vec![&Plain];
        })
        .load()
        .unwrap();
    let once = reloader.rotating_config();
    let client = |of: usize| {
        let client: Arc<ClientConfig> = client_showing(&[&all[0], &all[1]], Some(&all[of]), &[&TLS13]);
        let mut client = client.as_ref().clone();
        client.cert_compressors = vec![&Plain];
        client.cert_decompressors = vec![&Plain];
        Arc::new(client)
    };
    for (round, of) in all.iter().enumerate() {
        if round == 1 {
            volume.publish(&files(of, &list(of, &[], 1)));
            assert_eq!(reloader.reload_now(), Reload::Reloaded);
        }
        // The second time, the chain comes from the cache.
        for _ in 0..2 {
            let before = DECOMPRESSED.load(Ordering::Relaxed);
            let connection = handshake(&once, &client(round)).unwrap();
            assert_eq!(DECOMPRESSED.load(Ordering::Relaxed) - before, 2, "both chains are compressed");
            assert_eq!(*connection.leaf(), of.server.leaf);
            assert_eq!(connection.client.as_ref(), Some(&of.client.leaf));
        }
    }
}

/// A setting that a later rustls adds has to be copied, too.
#[test]
fn every_setting_of_a_server_configuration_is_known() {
    let volume = Volume::of(&Generation::new(0));
    let shown = format!("{:#?}", volume.server().load().unwrap().rotating_config());
    let fields: Vec<_> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with(' '))
        .collect();
    let replaced = ["session_storage", "ticketer", "cert_resolver", "verifier"];
    let off = ["max_early_data_size", "send_tls13_tickets", "max_tls13_tickets"];
    let of_the_builder = ["provider", "versions"];
    let copied = [
        "ignore_client_order",
        "max_fragment_size",
        "alpn_protocols",
        "key_log",
        "enable_secret_extraction",
        "send_half_rtt_data",
        "require_ems",
        "time_provider",
        "cert_compressors",
        "cert_compression_cache",
        "cert_decompressors",
    ];
    let known: BTreeSet<_> = [&replaced[..], &off, &of_the_builder, &copied].concat().into_iter().collect();
    assert_eq!(fields.into_iter().collect::<BTreeSet<_>>(), known);
}
