//! Clients whose value is the trusted roots, the identity and the storage of sessions. Publication,
//! reports and the counting of epochs are the crate's. The handshake is a model of the part of
//! rustls that matters for them, and the build step keeps sessions by the rule of the client's.

use std::{convert::Infallible, sync::Arc};

use rustls_reload::{
    Build, Builder, Built, Context, Error, Files, Reloader, TrustReduction,
    internal::{Epoch, Trust},
};

use crate::{Cas, Disk, shipped};

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

/// The roots that a client trusts, a bit each, and the number of its identity. A server is the bit
/// of its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The trusted roots.
    pub roots: Cas,
    /// The certificate that the client shows.
    pub identity: u8,
}

impl Trust for Credentials {
    fn shrinks(&self, served: &Self) -> bool {
        self.roots.shrinks(&served.roots)
    }
}

/// The changes over which sessions are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// None of roots or identity: the rule of the client.
    OverNone,
    /// WRONG: sessions are kept over a change of the identity. Breaks: INV-09
    OverIdentities,
    /// WRONG: one storage is kept for life, over a change of the roots as well. Breaks: INV-09
    OverAll,
}

/// A session: its server, and the identity that this server was shown.
#[derive(Clone, Copy)]
struct Session {
    server: Cas,
    identity: u8,
}

/// A storage of sessions.
#[derive(Default)]
pub struct ClientSessions(Mutex<Vec<Session>>);

impl ClientSessions {
    fn put(&self, session: Session) {
        self.0.lock().unwrap().push(session);
    }

    fn of(&self, server: Cas) -> Option<Session> {
        self.0.lock().unwrap().iter().find(|session| session.server == server).copied()
    }
}

/// The published value.
pub struct Connecting {
    credentials: Credentials,
    epoch: Epoch<Credentials, Arc<ClientSessions>>,
}

/// The shipped reloader of a client's value.
pub type ShippedClient = Reloader<Connecting>;

struct Step {
    row: &'static [Credentials],
    kept: Kept,
}

impl Build for Step {
    type Value = Connecting;

    fn build(
        &mut self,
        files: &Files,
        context: &Context<'_, Connecting>,
    ) -> Result<Built<Connecting>, Error> {
        let version = shipped::version(files)?;
        let credentials = self.row[usize::try_from(version).unwrap() - 1];
        let trust = match self.kept {
            Kept::OverIdentities => Credentials { identity: 0, ..credentials },
            Kept::OverNone | Kept::OverAll => credentials,
        };
        let fresh = |served: Option<&Arc<ClientSessions>>| {
            let kept = served.filter(|_| self.kept == Kept::OverAll);
            Ok::<_, Infallible>(kept.map_or_else(Arc::default, Arc::clone))
        };
        let Ok(epoch) = Epoch::after(context.served.map(|served| &served.epoch), trust, true, fresh);
        let reduces = context.served.is_some_and(|served| epoch.reduced_since(served.epoch.number()));
        let reduction = reduces.then(|| TrustReduction { epoch: epoch.number(), removed: Vec::new() });
        let mut built = Built::new(Connecting { credentials, epoch });
        built.reduced_trust = reduction;
        Ok(built)
    }

    fn shrinks(&self, _: usize, _: &Files, _: &Files) -> bool {
        false
    }
}

/// Makes a client that has loaded `disk`; `row` has the credentials of each version.
///
/// # Panics
/// If it cannot be loaded.
pub fn load_client(disk: &Disk, row: &'static [Credentials], kept: Kept) -> ShippedClient {
    shipped::still(Builder::new([Disk::PATH], Step { row, kept })).load_from(disk.clone()).unwrap()
}

/// A connection by the configuration of one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The generation of the configuration.
    pub generation: u64,
    /// The identity that the server knows the client by. `None` if the client rejects the server.
    pub identity: Option<u8>,
    /// Whether a session was resumed, so that the server was not verified.
    pub resumed: bool,
}

/// Connects to this server with the configuration that is served at this moment. It resumes a
/// session if there is one; otherwise the server is verified, and is shown the identity.
pub fn connect(client: &ShippedClient, server: Cas) -> Connection {
    let served = client.current();
    let (generation, Connecting { credentials, epoch }) = (served.generation, &served.value);
    if let Some(session) = epoch.sessions().of(server) {
        return Connection { generation, identity: Some(session.identity), resumed: true };
    }
    let identity = (credentials.roots.0 & server.0 != 0).then_some(credentials.identity);
    if let Some(identity) = identity {
        epoch.sessions().put(Session { server, identity });
    }
    Connection { generation, identity, resumed: false }
}

/// A connection by one configuration for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotatedConnection {
    /// The generation whose roots verified the server. `None` where a session was resumed.
    pub verified: Option<u64>,
    /// The generation whose identity was shown. `None` where none was.
    pub shown: Option<u64>,
    /// Whether the client accepts the server.
    pub accepted: bool,
}

/// Connects to this server by one configuration for life. It reads what is served twice: to verify
/// the server, and for the identity that it shows then. Sessions are kept in `sessions`, if there is
/// such a storage.
pub fn connect_rotating(
    client: &ShippedClient,
    sessions: Option<&ClientSessions>,
    server: Cas,
) -> RotatedConnection {
    if sessions.is_some_and(|sessions| sessions.of(server).is_some()) {
        return RotatedConnection { verified: None, shown: None, accepted: true };
    }
    let served = client.current();
    let verified = Some(served.generation);
    if served.value.credentials.roots.0 & server.0 == 0 {
        return RotatedConnection { verified, shown: None, accepted: false };
    }
    let served = client.current();
    if let Some(sessions) = sessions {
        sessions.put(Session { server, identity: served.value.credentials.identity });
    }
    RotatedConnection { verified, shown: Some(served.generation), accepted: true }
}
