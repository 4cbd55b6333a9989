//! What happens when the files change: by a manual reload, and by the worker.

use std::{fs, sync::Arc, time::Instant};

use rustls::{AlertDescription::UnknownCA, Error as TlsError};
use rustls_reload_testkit::{Authority, Client, Pair, Volume};
use tokio::{sync::watch, task::JoinHandle};
use tracing::Level;

use super::{LIMIT, RUNTIME, Site, TlsAcceptor, log, rejection, serve};

/// A worker's task, and its shutdown. One test alone drops the shutdown of a worker that runs.
struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    fn spawn(acceptor: &TlsAcceptor) -> Self {
        let (stop, shutdown) = watch::channel(false);
        let _inside = RUNTIME.enter();
        Self { stop, task: acceptor.spawn_reload_worker(shutdown) }
    }

    fn stop(self) {
        self.stop.send(true).unwrap();
        ended(self.task);
    }
}

/// Waits until a worker has ended.
fn ended(task: JoinHandle<()>) {
    RUNTIME.block_on(async { tokio::time::timeout(LIMIT, task).await }).unwrap().unwrap();
}

/// A CA, and a server's and a client's certificate of it.
struct Generation {
    ca: Authority,
    server: Pair,
    client: Pair,
}

impl Generation {
    fn new(number: usize) -> Self {
        let ca = Authority::root(&format!("CA {number}"));
        Self { server: ca.server("localhost"), client: ca.client("client"), ca }
    }

    fn publish(&self, volume: &Volume) {
        volume.publish_with(&self.server, &[("ca.crt", self.ca.pem.as_bytes())]).unwrap();
    }

    /// Returns a client that trusts this generation's servers alone.
    fn client(&self) -> Client {
        Client::new(&self.ca, "localhost").identity(&self.client)
    }
}

#[test]
fn reload_serves_what_is_on_disk_and_keeps_the_old_where_that_fails() {
    let site = Site::new();
    let acceptor = site.load().unwrap();
    let address = serve(&acceptor);
    let served = || site.client().connect(address).unwrap().leaf.unwrap();
    assert_eq!(served(), site.internal.leaf);
    let (before, clone) = (acceptor.acceptor(), acceptor.clone());
    let renewed = site.ca.server("localhost");
    site.volume.publish(&renewed).unwrap();
    // No worker runs, so nothing has happened yet.
    assert_eq!(served(), site.internal.leaf);
    clone.reload().unwrap();
    assert_eq!(served(), renewed.leaf);
    // An acceptor keeps its configuration; clones share the new one.
    assert!(!Arc::ptr_eq(before.config(), acceptor.acceptor().config()));
    assert!(Arc::ptr_eq(clone.acceptor().config(), acceptor.acceptor().config()));

    let other = site.ca.server("localhost");
    for (path, bytes) in [
        (site.volume.chain(), b"garbage".as_slice()),
        (site.volume.chain(), other.chain.as_bytes()),
        (site.volume.key(), b""),
    ] {
        let good = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let error = acceptor.reload().unwrap_err().to_string();
        assert!(error.starts_with("TLS error: "), "{error}");
        assert_eq!(served(), renewed.leaf);
        site.client().connect(address).unwrap().outcome.unwrap();
        fs::write(&path, good).unwrap();
        acceptor.reload().unwrap();
    }
}

#[test]
fn worker_serves_each_renewal_and_ends_at_shutdown() {
    let site = Site::published(Volume::kubelet);
    let public = Authority::root("public CA");
    let acme = Volume::certbot(site.dir.path().join("letsencrypt"));
    let external = public.server("gw.example.com");
    acme.publish(&external).unwrap();
    let acceptor = TlsAcceptor::from_files(
        &site.volume.chain(),
        &site.volume.key(),
        None,
        false,
        Some(&acme.chain()),
        Some(&acme.key()),
        vec!["gw.example.com".to_owned()],
    );
    let acceptor = acceptor.unwrap();
    let worker = Worker::spawn(&acceptor);
    let address = serve(&acceptor);
    let outside = Client::new(&public, "gw.example.com");
    for _ in 0..2 {
        let (internal, external) = (site.ca.server("localhost"), public.server("gw.example.com"));
        site.volume.publish(&internal).unwrap();
        acme.publish(&external).unwrap();
        site.client().until_served(address, &internal, LIMIT).unwrap();
        outside.until_served(address, &external, LIMIT).unwrap();
    }
    worker.stop();
    // The last configuration stays served.
    outside.connect(address).unwrap().outcome.unwrap();
    let error = acceptor.reload().unwrap_err().to_string();
    assert_eq!(error, "TLS error: the reload worker was shut down");
}

#[test]
fn dropped_sender_is_reported_and_the_worker_goes_on() {
    let site = Site::published(Volume::kubelet);
    let acceptor = site.load().unwrap();
    let Worker { stop, task } = Worker::spawn(&acceptor);
    drop(stop);
    let warning = log::wait_for("warning", |record| record.message().contains("shutdown sender was dropped"));
    assert_eq!(warning.level, Level::WARN);
    let renewed = site.ca.server("localhost");
    site.volume.publish(&renewed).unwrap();
    site.client().until_served(serve(&acceptor), &renewed, LIMIT).unwrap();
    assert!(!task.is_finished());
}

#[test]
fn second_worker_ends_at_once_and_a_later_one_starts() {
    let site = Site::published(Volume::kubelet);
    let acceptor = site.load().unwrap();
    let address = serve(&acceptor);
    let first = Worker::spawn(&acceptor);
    let second = Worker::spawn(&acceptor);
    ended(second.task);
    let refused = "no TLS certificate reload worker was started";
    assert_eq!(log::wait_for("warning", |record| record.message() == refused).level, Level::WARN);
    // Its shutdown ends no other worker.
    second.stop.send_replace(true);
    let renew = || {
        let renewed = site.ca.server("localhost");
        site.volume.publish(&renewed).unwrap();
        site.client().until_served(address, &renewed, LIMIT).unwrap();
    };
    renew();
    assert!(!first.task.is_finished());
    first.stop();
    let third = Worker::spawn(&acceptor);
    renew();
    third.stop();
}

/// Certificate, key and client CA change in one update. A client that trusts one generation and
/// belongs to it is accepted whenever it is shown that generation, and rejects all others.
#[test]
fn certificate_key_and_client_ca_are_of_one_update() {
    let site = Site::published(Volume::kubelet);
    let generations: Vec<_> = (0..8).map(Generation::new).collect();
    generations[0].publish(&site.volume);
    let acceptor = site.load_with(Some(&site.volume.path("ca.crt")), true).unwrap();
    let worker = Worker::spawn(&acceptor);
    let address = serve(&acceptor);
    let mut handshakes = 0;
    for (i, next) in generations.iter().enumerate().skip(1) {
        let old = &generations[i - 1];
        std::thread::scope(|scope| {
            let clients = [old, next].map(|generation| {
                scope.spawn(move || {
                    let (client, deadline, mut count) = (generation.client(), Instant::now() + LIMIT, 0);
                    loop {
                        assert!(Instant::now() < deadline, "update {i} is not served");
                        let handshake = client.connect(address).unwrap();
                        let leaf = handshake.leaf.as_ref().unwrap();
                        let is_own = *leaf == generation.server.leaf;
                        match &handshake.outcome {
                            Ok(()) => assert!(is_own),
                            Err(TlsError::InvalidCertificate(_)) => assert!(!is_own),
                            Err(error) => panic!("update {i}: {error}"),
                        }
                        count += 1;
                        if *leaf == next.server.leaf {
                            return count;
                        }
                    }
                })
            });
            next.publish(&site.volume);
            handshakes += clients.map(|client| client.join().unwrap()).iter().sum::<usize>();
        });
    }
    worker.stop();
    assert!(handshakes >= 2 * (generations.len() - 1), "only {handshakes} handshakes");
}

#[test]
fn client_ca_that_is_replaced_is_trusted_no_longer() {
    let site = Site::published(Volume::kubelet);
    let acceptor = site.load_with(Some(&site.volume.path("ca.crt")), true).unwrap();
    let worker = Worker::spawn(&acceptor);
    let address = serve(&acceptor);
    let clients = Authority::root("client CA");
    let as_client = |pair: &Pair| site.client().identity(pair);
    let (old, new) = (as_client(&site.ca.client("old")), as_client(&clients.client("new")));
    assert_eq!(rejection(&old.connect(address).unwrap()), None);
    assert_eq!(rejection(&new.connect(address).unwrap()), Some(UnknownCA));
    let renewed = site.ca.server("localhost");
    site.volume.publish_with(&renewed, &[("ca.crt", clients.pem.as_bytes())]).unwrap();
    new.until_served(address, &renewed, LIMIT).unwrap();
    assert_eq!(rejection(&old.connect(address).unwrap()), Some(UnknownCA));
    worker.stop();
}

#[test]
fn audit_has_severity_status_state_and_message() {
    let site = Site::new();
    let acceptor = site.load().unwrap();
    let expect = |number: usize, severity: &str, status: &str, state: &str, message: &str| {
        let records = log::audit_of_this_thread();
        assert_eq!(records.len(), number, "{records:#?}");
        let fields = &records.last().unwrap().fields;
        assert_eq!(fields["class_uid"], "5019");
        let seen = ["severity", "status", "state"].map(|name| fields[name].as_str());
        assert_eq!(seen, [severity, status, state]);
        assert!(fields["message"].starts_with(message), "{fields:?}");
    };
    site.volume.publish(&site.ca.server("localhost")).unwrap();
    acceptor.reload().unwrap();
    let reloaded = "TLS certificate config reloaded successfully";
    expect(1, "Informational", "Success", "reloaded", reloaded);
    // Nothing has changed.
    acceptor.reload().unwrap();
    expect(1, "Informational", "Success", "reloaded", reloaded);

    let good = fs::read(site.volume.key()).unwrap();
    fs::write(site.volume.key(), "garbage").unwrap();
    let error = acceptor.reload().unwrap_err();
    let failed = format!("TLS certificate reload failed: {error}");
    assert!(failed.contains(&site.volume.key().display().to_string()), "{failed}");
    expect(2, "Medium", "Failure", "reload_failed", &failed);
    fs::write(site.volume.key(), good).unwrap();
    acceptor.reload().unwrap();
    expect(3, "Informational", "Success", "recovered", "TLS certificate files are the served ones");
}

#[test]
fn start_of_the_worker_names_the_watched_directories() {
    let site = Site::published(Volume::kubelet);
    let acceptor = site.load().unwrap();
    let worker = Worker::spawn(&acceptor);
    let dir = site.dir.path().canonicalize().unwrap().join("internal").display().to_string();
    let is_start = |record: &log::Record| {
        let dirs = record.message().strip_prefix("started, watching ");
        dirs.is_some_and(|dirs| dirs.split(", ").any(|watched| watched == dir))
    };
    let started = log::wait_for("start that names the directory", is_start);
    assert_eq!((started.level, started.target.as_str()), (Level::INFO, "rustls_reload"));
    assert!(started.message().contains(&format!("{dir}/..")), "the payload is watched: {started:?}");
    worker.stop();
}
