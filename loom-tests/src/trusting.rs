//! Servers whose value is the trusted CAs and the storage of sessions. The counting of epochs and
//! the reports are the crate's; the handshake is a model of the part of rustls that matters for
//! them.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use rustls_reload::{
    Build, Builder, Built, Context, Error, Files, Published, Reload, Reloader, TrustReduction,
    internal::{Epoch, Trust},
};

use crate::{Disk, shipped};

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

/// A set of CAs, one bit each. A client is the bit of its CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u8);

impl Trust for Cas {
    fn shrinks(&self, served: &Self) -> bool {
        served.0 & !self.0 != 0
    }
}

/// A session: its client, and the epoch in which the client was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    client: Cas,
    epoch: u64,
}

/// A storage of sessions.
#[derive(Default)]
pub struct Store(Mutex<Vec<Session>>);

impl Store {
    /// Keeps a session.
    pub(crate) fn put(&self, session: Session) {
        self.0.lock().unwrap().push(session);
    }

    /// Returns a session of this client.
    fn of(&self, client: Cas) -> Option<Session> {
        self.0.lock().unwrap().iter().find(|session| session.client == client).copied()
    }
}

/// The published value.
pub type Trusting = Epoch<Cas, Arc<Store>>;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedHandshake {
    /// The generation that it began with.
    pub generation: u64,
    /// Whether the client was let in.
    pub let_in: bool,
    /// Whether the handshake resumed a session, so that the client was not verified.
    pub resumed: bool,
}

/// A future of the generation that reduced the trust.
pub type Shrank = Pin<Box<dyn Future<Output = u64> + Send>>;

/// The operations of a reloader that the models of trust use. A wrong design implements them too.
pub trait Trusts: Send + Sync + Sized + 'static {
    /// Makes a design that has loaded `disk`; `row` has the trusted CAs of each version.
    fn load(disk: &Disk, row: &'static [u8]) -> Self;
    /// Returns the value that a new handshake gets.
    fn current(&self) -> Arc<Published<Trusting>>;
    /// Reloads manually.
    fn reload_now(&self) -> Reload;
    /// Returns a future of the first generation after this one that trusts less.
    fn shrunk(&self, generation: u64) -> Shrank;

    /// Returns the CAs against which the client of a handshake that began with `served` is
    /// verified.
    fn verifier(&self, served: &Published<Trusting>) -> Cas {
        *served.value.trust()
    }

    /// Returns the storage for the session of a handshake that began with `served`.
    fn storage(&self, served: &Published<Trusting>) -> Arc<Store> {
        Arc::clone(served.value.sessions())
    }
}

/// Makes a whole handshake of this client. It resumes a session if there is one; otherwise the
/// certificate is verified.
///
/// # Panics
/// If a session of another epoch is found.
pub fn handshake<D: Trusts>(design: &D, client: Cas) -> CompletedHandshake {
    let served = design.current();
    let (generation, epoch) = (served.generation, served.value.number());
    if let Some(session) = served.value.sessions().of(client) {
        assert_eq!(session.epoch, epoch, "a session of another epoch resumed");
        return CompletedHandshake { generation, let_in: true, resumed: true };
    }
    let let_in = client.0 & design.verifier(&served).0 != 0;
    if let_in {
        design.storage(&served).put(Session { client, epoch });
    }
    CompletedHandshake { generation, let_in, resumed: false }
}

/// How a handshake by one configuration for life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotatedHandshake {
    /// The generation whose certificate was shown.
    pub shown: u64,
    /// The generation whose CAs verified the client. `None` where a session was resumed.
    pub verified: Option<u64>,
    /// Whether the client was let in.
    pub let_in: bool,
}

/// Makes a handshake by one configuration that serves for life. It reads what is served twice: for
/// the certificate that it shows, and again when the client's certificate arrives. Sessions are kept
/// in `sessions`, if there is such a storage.
pub fn handshake_rotating<D: Trusts>(design: &D, sessions: Option<&Store>, client: Cas) -> RotatedHandshake {
    let shown = design.current().generation;
    if sessions.is_some_and(|sessions| sessions.of(client).is_some()) {
        return RotatedHandshake { shown, verified: None, let_in: true };
    }
    let served = design.current();
    let let_in = client.0 & served.value.trust().0 != 0;
    if let (true, Some(sessions)) = (let_in, sessions) {
        sessions.put(Session { client, epoch: served.value.number() });
    }
    RotatedHandshake { shown, verified: Some(served.generation), let_in }
}

/// Returns the epoch of the version on disk, and whether it reduces the trust.
pub(crate) fn next(row: &[u8], version: u64, served: Option<&Trusting>) -> (Trusting, bool) {
    let trust = Cas(row[usize::try_from(version).unwrap() - 1]);
    let Ok(epoch) = Epoch::after(served, trust, true, |_| Ok::<_, Infallible>(Arc::default()));
    let shrinks = served.is_some_and(|served| epoch.reduced_since(served.number()));
    (epoch, shrinks)
}

struct Step(&'static [u8]);

impl Build for Step {
    type Value = Trusting;

    fn build(&mut self, files: &Files, context: &Context<'_, Trusting>) -> Result<Built<Trusting>, Error> {
        let (epoch, shrinks) = next(self.0, shipped::version(files)?, context.served);
        let shrunk = shrinks.then(|| TrustReduction { epoch: epoch.number(), removed: Vec::new() });
        let mut built = Built::new(epoch);
        built.reduced_trust = shrunk;
        Ok(built)
    }

    fn shrinks(&self, _: usize, _: &Files, _: &Files) -> bool {
        false
    }
}

/// The shipped reloader.
pub type ShippedTrust = Reloader<Trusting>;

impl Trusts for ShippedTrust {
    fn load(disk: &Disk, row: &'static [u8]) -> Self {
        shipped::still(Builder::new([Disk::PATH], Step(row))).load_from(disk.clone()).unwrap()
    }

    fn current(&self) -> Arc<Published<Trusting>> {
        self.current()
    }

    fn reload_now(&self) -> Reload {
        self.reload_now()
    }

    fn shrunk(&self, generation: u64) -> Shrank {
        Box::pin(self.trust_reduced(generation))
    }
}
