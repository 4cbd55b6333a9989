//! Tests of the test kit as an embedder uses it: volumes on real files, and the client against
//! servers on loopback.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs)] // reason: a test may panic

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustls::{
    AlertDescription, Error as TlsError, HandshakeKind, ServerConfig, ServerConnection,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, Fingerprint, ServerBuilder, ServerReloader, internal::sha256};
use rustls_reload_testkit::{Authority, Client, Pair, Volume};

/// Generous, because the machine may be loaded.
const LIMIT: Duration = Duration::from_secs(60);

/// What a server does with a connection after its handshake.
#[derive(Clone, Copy, PartialEq)]
enum End {
    CloseNotify,
    Dropped,
}

/// Serves on loopback, each connection with the configuration of that moment. Returns the address,
/// and the kind of each handshake that succeeds.
fn serve(
    config: impl Fn() -> Arc<ServerConfig> + Send + 'static,
    end: End,
) -> (SocketAddr, mpsc::Receiver<HandshakeKind>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (kind, kinds) = mpsc::channel();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let mut tls = ServerConnection::new(config()).unwrap();
            if tls.complete_io(&mut tcp).is_err() {
                continue;
            }
            // The test may be over.
            let _ = kind.send(tls.handshake_kind().unwrap());
            if end == End::CloseNotify {
                tls.send_close_notify();
                let _ = tls.write_tls(&mut tcp);
            }
        }
    });
    (address, kinds)
}

fn start(server: ServerBuilder) -> (SocketAddr, mpsc::Receiver<HandshakeKind>) {
    let reloader = server.start().unwrap();
    serve(move || reloader.config(), End::CloseNotify)
}

fn server(volume: &Volume) -> ServerBuilder {
    ServerReloader::builder(volume.chain(), volume.key())
}

/// A directory, an authority and a published pair.
fn published() -> (tempfile::TempDir, Authority, Volume, Pair) {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("CA"));
    let (volume, pair) = (Volume::in_place(dir.path()), ca.server("localhost"));
    volume.publish(&pair).unwrap();
    (dir, ca, volume, pair)
}

/// Returns the names in a directory, sorted.
#[cfg(unix)]
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn fingerprint(pair: &Pair) -> String {
    Fingerprint(sha256(&pair.leaf)).to_string()
}

#[test]
fn volume_of_each_publisher_rotates_a_server() {
    let root = tempfile::tempdir().unwrap();
    let ca = Authority::root("CA");
    let at = |name: &str| root.path().join(name).join("tls");
    let mut volumes = vec![Volume::in_place(at("in-place"))];
    if cfg!(unix) {
        volumes.extend([Volume::kubelet(at("kubelet")), Volume::certbot(at("certbot"))]);
    }
    for volume in volumes {
        let pairs: [_; 3] = std::array::from_fn(|_| ca.server("localhost"));
        volume.publish(&pairs[0]).unwrap();
        let (address, kinds) = start(server(&volume));
        let client = Client::new(&ca, "localhost");
        for (i, pair) in pairs.iter().enumerate() {
            if i > 0 {
                volume.publish(pair).unwrap();
            }
            let handshake = client.until_served(address, pair, LIMIT).unwrap();
            assert_eq!((handshake.leaf.as_ref(), &handshake.outcome), (Some(&pair.leaf), &Ok(())));
        }
        drop(client);
        // The server sends the kind of the last handshake after its client has returned.
        let mut handshakes: Vec<_> = pairs.iter().map(|_| kinds.recv_timeout(LIMIT).unwrap()).collect();
        handshakes.extend(kinds.try_iter());
        let full = |kind: &HandshakeKind| *kind != HandshakeKind::Resumed;
        assert!(handshakes.iter().all(full), "{volume:?}: a session was resumed: {handshakes:?}");
    }
}

/// The real kubelet takes longer than a tick from its first write to the rename.
#[cfg(unix)]
#[test]
fn kubelet_renames_strictly_later_than_it_writes() {
    use std::os::unix::fs::MetadataExt;
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("CA"));
    let volume = Volume::kubelet(dir.path());
    let pair = ca.server("localhost");
    let changed = |name: &str| {
        let meta = std::fs::symlink_metadata(dir.path().join(name)).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    for round in 0..20 {
        volume.publish(&pair).unwrap();
        for name in ["..data/tls.crt", "..data/tls.key"] {
            assert!(changed(name) < changed("..data"), "{name} in round {round}");
        }
    }
}

#[cfg(unix)]
#[test]
fn kubelet_leaves_the_files_of_the_last_update_alone() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("CA"));
    let (first, second) = (ca.server("localhost"), ca.server("localhost"));
    Volume::kubelet(dir.path()).publish_with(&first, &[("ca.crt", ca.pem.as_bytes())]).unwrap();
    assert_eq!(names(dir.path()), ["..1", "..data", "ca.crt", "tls.crt", "tls.key"]);
    // Another volume over the directory knows the update before.
    let volume = Volume::kubelet(dir.path());
    volume.publish_with(&second, &[("ca.crl", b"list")]).unwrap();
    assert_eq!(names(dir.path()), ["..2", "..data", "ca.crl", "tls.crt", "tls.key"]);
    assert_eq!(std::fs::read(volume.path("ca.crl")).unwrap(), b"list");
    assert_eq!(std::fs::read_to_string(volume.chain()).unwrap(), second.chain);
    assert_eq!(std::fs::read_to_string(volume.key()).unwrap(), second.key);
}

#[cfg(unix)]
#[test]
fn certbot_numbers_its_archive() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::root("CA"));
    let volume = Volume::certbot(dir.path());
    for _ in 0..11 {
        volume.publish(&ca.server("localhost")).unwrap();
    }
    let last = ca.server("localhost");
    volume.publish(&last).unwrap();
    let target = std::fs::read_link(volume.chain()).unwrap();
    assert_eq!(target, std::path::Path::new("../../archive/localhost/fullchain12.pem"));
    assert_eq!(std::fs::read_to_string(volume.chain()).unwrap(), last.chain);
    assert_eq!(std::fs::read_to_string(volume.key()).unwrap(), last.key);
    assert_eq!(names(&dir.path().join("archive/localhost")).len(), 24);
    let error = volume.publish_with(&last, &[("ca.crt", b"")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn certificate_that_is_served_instead_is_in_the_error() {
    let (_dir, ca, volume, served) = published();
    let (address, _) = start(server(&volume));
    let missing = ca.server("other.test");
    let short = Duration::from_millis(50);
    let error = Client::new(&ca, "localhost").until_served(address, &missing, short).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.starts_with(&format!("{address} did not serve")), "{text}");
    let wanted = format!("serve the certificate {} of other.test within", fingerprint(&missing));
    let instead = format!("showed the certificate {} of localhost instead: accepted", fingerprint(&served));
    assert!(text.contains(&wanted) && text.contains(&instead), "{text}");

    // The leaf is seen although the client does not trust it.
    let stranger = Client::new(&Authority::root("stranger"), "localhost");
    let handshake = stranger.connect(address).unwrap();
    assert_eq!(handshake.leaf.as_ref(), Some(&served.leaf));
    assert!(matches!(handshake.outcome, Err(TlsError::InvalidCertificate(_))), "{handshake:?}");
    let text = stranger.until_served(address, &served, short).unwrap_err().to_string();
    assert!(text.contains("showed it, and failed: invalid peer certificate"), "{text}");

    // A port is free again once its listener is gone.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = stranger.until_served(closed, &served, short).unwrap_err().to_string();
    assert!(text.contains(" connections failed: "), "{text}");
    let error = Client::new(&ca, "not a name").until_served(address, &served, LIMIT).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}

#[test]
fn outcome_says_whether_the_server_accepts_the_client() {
    let (_dir, ca, volume, served) = published();
    let (own, other) = (ca.client("own"), Authority::root("other").client("other"));
    std::fs::write(volume.path("ca.crt"), &ca.pem).unwrap();
    for version in [&TLS12, &TLS13] {
        let auth = server(&volume).client_ca(volume.path("ca.crt"), ClientAuth::Required);
        let (address, _) = start(auth.versions(&[version]).alpn(["h2", "http/1.1"]));
        let client = Client::new(&ca, "localhost").alpn(["http/1.1"]);
        for (client, outcome) in [
            (client.clone().identity(&own), Ok(())),
            (client.clone().identity(&other), Err(AlertDescription::UnknownCA)),
            (client, Err(AlertDescription::CertificateRequired)),
        ] {
            let handshake = client.connect(address).unwrap();
            assert_eq!(handshake.leaf.as_ref(), Some(&served.leaf), "{version:?}");
            assert_eq!(handshake.outcome, outcome.map_err(TlsError::AlertReceived), "{version:?}");
            assert_eq!(handshake.alpn.as_deref(), Some(&b"http/1.1"[..]), "{version:?}");
        }
    }
}

/// A server that resumes no session sends no ticket, so it may answer by closing alone.
#[test]
fn silence_is_no_acceptance_where_a_certificate_was_asked_for() {
    let (_dir, ca, volume, served) = published();
    std::fs::write(volume.path("ca.crt"), &ca.pem).unwrap();
    let client = Client::new(&ca, "localhost").identity(&ca.client("client"));
    let with_clients = || server(&volume).client_ca(volume.path("ca.crt"), ClientAuth::Required);
    for (server, end, is_accepted) in [
        (server(&volume), End::Dropped, true),
        (with_clients(), End::CloseNotify, true),
        (with_clients(), End::Dropped, false),
    ] {
        let config = server.load().unwrap().rotating_config();
        let (address, _) = serve(move || Arc::clone(&config), end);
        let handshake = client.connect(address).unwrap();
        assert_eq!(handshake.leaf.as_ref(), Some(&served.leaf));
        match handshake.outcome {
            Ok(()) => assert!(is_accepted),
            Err(TlsError::General(why)) => {
                assert!(!is_accepted && why.starts_with("neither accepted nor rejected"), "{why}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
