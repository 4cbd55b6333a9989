//! A server on a simulated disk, to which an input is applied as one of its files. A rejected input
//! must change nothing, and the good file must be published afterwards.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::seeds;
use rustls_reload::{
    ClientAuth, Fingerprint, Layer, Reload, Reloader, ServerReloader, ServerTls, Timing,
    internal::{self, pem},
};
use rustls_reload_testkit::Op;

use crate::sim::{Replay, Script, Sim, WorldConfig};

/// The file of the server that an input replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The chain.
    Chain,
    /// The private key.
    Key,
    /// The bundle of client CAs.
    ClientCa,
    /// The CRLs.
    Crl,
}

/// The roles. The server has a CRL file only for CRL inputs: a CRL has to be signed by a CA of its
/// issuer's name, which the input may replace.
const ROLES: [Role; 4] = [Role::Chain, Role::Key, Role::ClientCa, Role::Crl];

impl Role {
    pub(super) fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Chain => "/tls/tls.crt",
            Self::Key => "/tls/tls.key",
            Self::ClientCa => "/tls/ca.crt",
            Self::Crl => "/tls/ca.crl",
        })
    }

    fn good(self) -> &'static [u8] {
        let set = seeds::good();
        match self {
            Self::Chain => set.0.as_bytes(),
            Self::Key => set.1.as_bytes(),
            Self::ClientCa => set.2.as_bytes(),
            Self::Crl => seeds::good_crl().as_bytes(),
        }
    }

    /// Returns whether this layer rejects faults of this file.
    fn is_refused_by(self, layer: Layer) -> bool {
        match self {
            Self::Chain => {
                matches!(layer, Layer::Pem | Layer::Chain | Layer::Match | Layer::Validity | Layer::Rehearsal)
            }
            Self::Key => matches!(layer, Layer::Pem | Layer::Key | Layer::Match),
            Self::ClientCa => matches!(layer, Layer::Pem | Layer::ClientCa),
            Self::Crl => matches!(layer, Layer::Pem | Layer::Crl),
        }
    }
}

struct Served {
    sim: Sim,
    reloader: Reloader<ServerTls>,
    /// Every text that was reported since an input was last applied.
    reported: Arc<Mutex<String>>,
}

thread_local! {
    static SERVED: RefCell<Served> = RefCell::new(Served::load(&ROLES[..3]));
    static REVOKING: RefCell<Served> = RefCell::new(Served::load(&ROLES));
}

/// Applies an input to the server of this thread, then the good file again, and returns the outcome
/// of the input.
///
/// # Panics
/// If a rejected input changes the served configuration, or the good file is not published.
pub fn apply(role: Role, data: &[u8]) -> Reload {
    let server = if role == Role::Crl { &REVOKING } else { &SERVED };
    server.with_borrow_mut(|served| served.apply(role, data))
}

/// Applies an input, and returns every text that results.
pub(super) fn reported(role: Role, data: &[u8]) -> String {
    SERVED.with_borrow_mut(|served| {
        let answer = served.apply(role, data);
        let reported = std::mem::take(&mut *served.reported.lock().unwrap_or_else(PoisonError::into_inner));
        format!("{answer:?} {reported}")
    })
}

#[allow(clippy::expect_used)] // reason: a disk that cannot be set up is a bug of the harness
impl Served {
    fn load(roles: &[Role]) -> Self {
        let mut base = vec![Op::Mkdir("/tls".into())];
        base.extend(roles.iter().flat_map(|role| write(role.path(), role.good())));
        let paths: Vec<_> = roles.iter().map(|role| role.path().to_owned()).collect();
        let (config, schedule) = (WorldConfig::default(), Arc::new(Mutex::new(Replay::new(Vec::new()))));
        let script = Script::new(&paths, &base, Vec::new(), &[], None, &config);
        let sim = Sim::new(&script, Timing::default().settle, config, schedule);
        let reported = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&reported);
        let server = ServerReloader::builder(Role::Chain.path(), Role::Key.path());
        let server = if roles.contains(&Role::Crl) { server.crl(Role::Crl.path()) } else { server };
        let reloader = server
            .client_ca(Role::ClientCa.path(), ClientAuth::Required)
            .provider(Arc::new(rustls::crypto::ring::default_provider()))
            // One rehearsal per build is enough: the files are under test here.
            .versions(&[&rustls::version::TLS13])
            .clock(sim.clock())
            .watcher(None)
            .on_event(move |event| {
                let mut reported = sink.lock().unwrap_or_else(PoisonError::into_inner);
                reported.push_str(&format!("{event} {event:?} {:?}\n", event.shorthand()));
            })
            .load_from(sim.fs())
            .expect("the good set is served");
        Self { sim, reloader, reported }
    }

    fn apply(&mut self, role: Role, data: &[u8]) -> Reload {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let before = self.reloader.current();
        let answer = self.put(role, data);
        let (status, now) = (self.reloader.status(), self.reloader.current());
        {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.push_str(&format!("{status:?}"));
        }
        let same = Arc::ptr_eq(&before, &now);
        match &answer {
            Reload::Refused(error) => {
                assert!(same, "rejected, and something else is served: {error}");
                assert!(role.is_refused_by(error.layer()), "{role:?} is rejected by another layer: {error}");
                let blamed = if error.layer() == Layer::Match { Role::Key } else { role };
                assert_eq!(error.path(), Some(blamed.path()), "another file is blamed: {error}");
                assert_eq!(status.refused.as_ref().map(|refused| &refused.error), Some(error));
            }
            Reload::Deferred(date) => {
                assert!(same && *date > self.sim.now().wall, "deferred, and served: {date:?}")
            }
            Reload::Unchanged => assert!(same && data == role.good(), "other bytes count as unchanged"),
            Reload::Reloaded => {
                assert!(!same && now.generation == before.generation + 1 && data != role.good());
                if role == Role::Chain {
                    let chain = pem::chain(data).expect("a chain that is served");
                    assert_eq!(now.value.leaf.fingerprint, Fingerprint(internal::sha256(&chain[0])));
                }
            }
            other => panic!("{other:?} of a manual reload"),
        }
        let back = self.put(role, role.good());
        let kept = answer != Reload::Reloaded;
        if !kept && matches!(&back, Reload::Refused(why) if role == Role::Crl && why.layer() == Layer::Crl) {
            // The input had a CRL of another authority, which the good file would lose.
            *self = Self::load(&ROLES);
            return answer;
        }
        assert_eq!(
            back,
            if kept { Reload::Unchanged } else { Reload::Reloaded },
            "the good file is not taken up"
        );
        assert!(self.reloader.status().refused.is_none());
        answer
    }

    fn put(&mut self, role: Role, bytes: &[u8]) -> Reload {
        self.sim.pass(self.sim.now().mono + Duration::from_millis(10));
        for op in write(role.path(), bytes) {
            self.sim.apply(&op).expect("a step on the simulated disk");
        }
        self.reloader.reload_now()
    }
}

fn write(path: &Path, bytes: &[u8]) -> [Op; 2] {
    let path: PathBuf = path.to_owned();
    [Op::Create(path.clone()), Op::Append(path, bytes.to_vec())]
}
