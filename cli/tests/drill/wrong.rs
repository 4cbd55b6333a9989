//! Servers with one fault each, as processes that the drill starts.
//!
//! Each is the right server, which stands on the library, with one thing changed. The process is
//! this test executable with its one ignored test.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::ServerSessionMemoryCache,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_reload::{ClientAuth, Event, Layer, ServerReloader, Timing, internal::pem};

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// None: the control.
    Nothing,
    NeverReloads,
    /// Takes the first update only.
    ReloadsOnce,
    /// Takes every valid state of the files at once.
    DoesNotSettle,
    /// Serves a new chain with the old key.
    TakesChainWithoutKey,
    DropsConnections,
    /// Keeps sessions over a change of trust.
    KeepsSessions,
    /// Begins with new sessions whenever a file is written.
    LosesSessions,
    IgnoresLists,
    /// Drops the first connection after each reload.
    FailsOneHandshake,
    /// Serves the set before to some connections, after others were served the new one.
    FallsBack,
    /// Ends at the first invalid set.
    DiesOfInvalidSets,
    /// Accepts every client while a set is rejected.
    OpensWhenRejected,
}

impl Wrong {
    pub(crate) const ALL: [Self; 13] = [
        Self::Nothing,
        Self::NeverReloads,
        Self::ReloadsOnce,
        Self::DoesNotSettle,
        Self::TakesChainWithoutKey,
        Self::DropsConnections,
        Self::KeepsSessions,
        Self::LosesSessions,
        Self::IgnoresLists,
        Self::FailsOneHandshake,
        Self::FallsBack,
        Self::DiesOfInvalidSets,
        Self::OpensWhenRejected,
    ];

    /// Returns the command that starts the server, for `--server`, with these placeholders.
    pub(crate) fn command(self, placeholders: &str) -> String {
        let exe = env::current_exe().unwrap();
        let test = "wrong::serves";
        format!("env WRONG={self:?} {placeholders} '{}' --ignored --exact {test} --nocapture", exe.display())
    }
}

/// What a server knows.
struct Server {
    wrong: Wrong,
    reloader: ServerReloader,
    paths: [PathBuf; 2],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each configuration that was published, the last one last.
    configs: Vec<Arc<ServerConfig>>,
    /// Connections since the last publication.
    connections: usize,
    /// Connections that wait for another request.
    idle: Vec<TcpStream>,
    /// The configuration that is served in spite of a rejection.
    instead: Option<Arc<ServerConfig>>,
    /// Sessions of a server that keeps them, and the state of the files that they were made under.
    sessions: Option<(u64, Arc<ServerSessionMemoryCache>)>,
}

#[test]
#[ignore = "the server that the drill of other tests starts"]
fn serves() {
    let name = env::var("WRONG").expect("the name of a fault");
    let wrong = Wrong::ALL.into_iter().find(|wrong| format!("{wrong:?}") == name).unwrap();
    let path = |name: &str| env::var_os(name).map(PathBuf::from);
    let paths = [path("CERT").unwrap(), path("KEY").unwrap()];
    let mut builder = ServerReloader::builder(&paths[0], &paths[1]);
    if let Some(bundle) = path("CA") {
        builder = builder.client_ca(bundle, ClientAuth::Required);
    }
    if let Some(lists) = path("CRL").filter(|_| wrong != Wrong::IgnoresLists) {
        builder = builder.crl(lists);
    }
    if wrong == Wrong::DoesNotSettle {
        let settle = Duration::ZERO;
        builder = builder.timing(Timing { settle, shrink_settle: settle, ..Timing::default() });
    }
    let reloader = builder.load().unwrap();
    if wrong != Wrong::NeverReloads {
        reloader.start().unwrap();
    }
    let server = Arc::new(Server { wrong, reloader, paths, state: Mutex::default() });
    // The closures live as long as the process does.
    let watched = Arc::clone(&server);
    server.reloader.on_publish(move |published| watched.published(&published.value.config));
    let watched = Arc::clone(&server);
    thread::spawn(move || {
        let mut events = watched.reloader.events();
        while let Some(delivered) = events.next_within(Duration::from_secs(3600)) {
            watched.event(&delivered.event);
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT").unwrap().parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let server = Arc::clone(&server);
        // A client that has gone is no matter of the server's.
        thread::spawn(move || stream.and_then(|stream| server.connection(stream)).is_ok());
    }
}

impl Server {
    fn published(&self, config: &Arc<ServerConfig>) {
        let mut state = self.state.lock().unwrap();
        state.configs.push(Arc::clone(config));
        (state.connections, state.instead) = (0, None);
        if self.wrong == Wrong::DropsConnections {
            state.idle.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        if self.wrong == Wrong::ReloadsOnce && state.configs.len() == 2 {
            let reloader = self.reloader.clone();
            // A callback cannot wait for the end of the thread that it runs on.
            thread::spawn(move || reloader.stop());
        }
    }

    fn event(&self, event: &Event) {
        let Event::Refused { error, .. } = event else { return };
        match self.wrong {
            Wrong::DiesOfInvalidSets => process::exit(1),
            Wrong::TakesChainWithoutKey if error.layer() == Layer::Match => {
                let instead = self.mismatched();
                self.state.lock().unwrap().instead = instead;
            }
            Wrong::OpensWhenRejected => {
                let served = self.reloader.config();
                let open = ServerConfig::builder_with_provider(Arc::clone(served.crypto_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::clone(&served.cert_resolver));
                self.state.lock().unwrap().instead = Some(Arc::new(open));
            }
            _ => {}
        }
    }

    /// Makes a configuration of the chain on disk and the served key.
    fn mismatched(&self) -> Option<Arc<ServerConfig>> {
        let chain = pem::chain(&fs::read(&self.paths[0]).ok()?).ok()?;
        // The key that is served can be read nowhere: any other one is as wrong.
        let key = rustls_reload_testkit::PrivateKey::p256().pem();
        let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?).ok()?;
        let mut config = ServerConfig::clone(&self.reloader.config());
        config.cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        Some(Arc::new(config))
    }

    /// Returns the configuration of the next connection; `None` to drop it.
    fn config(&self) -> Option<Arc<ServerConfig>> {
        let mut state = self.state.lock().unwrap();
        state.connections += 1;
        let current = state.instead.clone().unwrap_or_else(|| self.reloader.config());
        match (self.wrong, state.connections) {
            (Wrong::FailsOneHandshake, 1) if state.configs.len() > 1 => None,
            (Wrong::FallsBack, 7..=10) if state.configs.len() > 1 => {
                Some(Arc::clone(&state.configs[state.configs.len() - 2]))
            }
            (Wrong::KeepsSessions, _) => Some(with_sessions(&mut state, &current, 0)),
            (Wrong::LosesSessions, _) => {
                let changed = fs::metadata(&self.paths[0]).map_or(0, |found| {
                    found.ino().wrapping_mul(31).wrapping_add_signed(found.ctime_nsec() ^ found.ctime())
                });
                // A change of trust ends sessions all the same.
                let generation = self.reloader.current().generation;
                Some(with_sessions(&mut state, &current, changed ^ generation))
            }
            _ => Some(current),
        }
    }

    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        let Some(config) = self.config() else { return Ok(()) };
        let second = stream.try_clone()?;
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let stream = stream.get_mut();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")?;
            if head.contains("Connection: close") {
                stream.conn.send_close_notify();
                return stream.flush();
            }
            self.state.lock().unwrap().idle.push(second.try_clone()?);
        }
    }
}

/// Returns the configuration with the sessions that were made while the files had this state.
fn with_sessions(state: &mut State, config: &ServerConfig, files: u64) -> Arc<ServerConfig> {
    let kept = state.sessions.take().filter(|(of, _)| *of == files);
    let (_, sessions) =
        state.sessions.insert(kept.unwrap_or_else(|| (files, ServerSessionMemoryCache::new(1024))));
    let mut config = config.clone();
    config.session_storage = Arc::clone(sessions) as _;
    Arc::new(config)
}
