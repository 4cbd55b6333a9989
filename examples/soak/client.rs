//! Four clients, TLS 1.2 and 1.3, with resumption and without, which visit one server after another
//! and record the set that each presents.

use std::{
    collections::BTreeMap,
    io::Read,
    net::TcpStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::ring,
    pki_types::ServerName,
    sign::CertifiedKey,
};
use rustls_reload::internal::pem;
use rustls_reload_harness::sim::Publisher;

use super::{publishers, sets::Material};

/// The observations of all clients.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    full: u64,
    resumed: u64,
    failures: Vec<String>,
    /// The set that each server presented last.
    last: BTreeMap<usize, usize>,
    resting: bool,
    over: bool,
    busy: usize,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` holds for the sets that the servers presented last.
    pub(crate) fn wait_for(
        &self,
        done: impl Fn(&dyn Fn(usize) -> Option<usize>) -> bool,
        limit: Duration,
    ) -> Result<(), String> {
        self.lock().last.clear();
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let last = self.lock().last.clone();
            if done(&|server| last.get(&server).copied()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("not served within {limit:?}; served: {:?}", self.lock().last))
    }

    /// Returns when no handshake is in progress; none begins until `go_on`.
    pub(crate) fn rest(&self) {
        self.lock().resting = true;
        while self.lock().busy > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn go_on(&self) {
        self.lock().resting = false;
    }

    pub(crate) fn end(&self) {
        self.lock().over = true;
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }

    pub(crate) fn handshakes(&self) -> u64 {
        let seen = self.lock();
        seen.full + seen.resumed
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.lock().resumed
    }

    pub(crate) fn summary(&self) -> String {
        let seen = self.lock();
        let (all, failed) = (seen.full + seen.resumed, seen.failures.len());
        format!("{all} handshakes, {} of them resumed; {failed} failed or mixed", seen.resumed)
    }
}

/// Presents the certificate of the CA that the server asks for, and records which CA that was.
#[derive(Debug)]
struct ByHint {
    known: Vec<(Vec<u8>, Arc<CertifiedKey>)>,
    asked: Mutex<Vec<usize>>,
}

impl ResolvesClientCert for ByHint {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let known = |hint: &&[u8]| self.known.iter().position(|(name, _)| name == hint);
        let asked: Vec<usize> = hints.iter().filter_map(known).collect();
        let first = asked.first().copied();
        *self.asked.lock().unwrap() = asked;
        Some(Arc::clone(&self.known[first?].1))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

struct Client {
    resolver: Arc<ByHint>,
    /// The client has one configuration for each server, so that a session is kept for each.
    configs: Vec<Arc<ClientConfig>>,
    leaves: std::collections::HashMap<Vec<u8>, usize>,
}

impl Client {
    fn new(material: &Material, version: &'static SupportedProtocolVersion, resumes: bool) -> Self {
        let (mut roots, mut known) = (RootCertStore::empty(), Vec::new());
        for (ca, client) in material.authorities.iter().zip(&material.clients) {
            roots.add(pem::chain(ca.as_bytes()).unwrap().remove(0)).unwrap();
            let name = roots.subjects().pop().unwrap().as_ref().to_vec();
            let provider = ring::default_provider();
            let key = CertifiedKey::from_der(vec![client.leaf.clone()], client.key_der(), &provider).unwrap();
            known.push((name, Arc::new(key)));
        }
        let resolver = Arc::new(ByHint { known, asked: Mutex::default() });
        let config = || {
            let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_client_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesClientCert>);
            config.resumption =
                if resumes { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
            Arc::new(config)
        };
        Self {
            configs: publishers().iter().map(|_| config()).collect(),
            resolver,
            leaves: material.leaves.clone(),
        }
    }

    /// Makes one handshake. Returns the set that was presented, and whether the session was
    /// resumed.
    fn handshake(&self, server: usize, port: u16) -> Result<(usize, bool), String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&self.configs[server]), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| words(&error))?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        self.resolver.asked.lock().unwrap().clear();
        let mut answer = Vec::new();
        let read = rustls::Stream::new(&mut tls, &mut socket).read_to_end(&mut answer);
        read.map_err(|error| format!("{error:?}"))?;
        if answer != b"ok" {
            return Err(format!("answered {answer:?}"));
        }
        let leaf = tls.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default();
        let set = *self.leaves.get(&leaf).ok_or("an unknown leaf")?;
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let asked = self.resolver.asked.lock().unwrap().clone();
        let pairs_only = matches!(publishers()[server], Publisher::Volumes | Publisher::StepRenew);
        if !resumed && !pairs_only && asked != [set] {
            return Err(format!("MIXED: the chain of set {set}, the client CAs of {asked:?}"));
        }
        Ok((set, resumed))
    }
}

/// Starts the four clients.
pub(crate) fn start(
    material: &Arc<Material>,
    ports: &[u16],
    tally: &Arc<Tally>,
) -> Vec<thread::JoinHandle<()>> {
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let kinds = versions.into_iter().flat_map(|version| [(version, true), (version, false)]);
    kinds
        .map(|(version, resumes)| {
            let (client, ports, tally) =
                (Client::new(material, version, resumes), ports.to_vec(), Arc::clone(tally));
            thread::spawn(move || run(&client, &ports, &tally))
        })
        .collect()
}

fn run(client: &Client, ports: &[u16], tally: &Tally) {
    loop {
        for (server, port) in ports.iter().enumerate() {
            {
                let mut seen = tally.lock();
                if seen.over {
                    return;
                }
                if seen.resting {
                    drop(seen);
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                seen.busy += 1;
            }
            let shown = client.handshake(server, *port);
            let mut seen = tally.lock();
            seen.busy -= 1;
            match shown {
                Ok((set, resumed)) => {
                    if resumed {
                        seen.resumed += 1
                    } else {
                        seen.full += 1
                    }
                    seen.last.insert(server, set);
                }
                Err(why) => {
                    let name = publishers()[server].name();
                    if seen.failures.len() < 20 {
                        seen.failures.push(format!("{name}: {why}"));
                    }
                }
            }
        }
    }
}
