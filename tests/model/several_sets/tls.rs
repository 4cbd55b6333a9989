//! The sets of a server: pairs by name, client CAs and CRLs, each with its own
//! publisher.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    client::ResolvesClientCert,
    crypto::ring,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_reload::{
    ClientAuth, Layer, ServerBuilder, ServerReloader, ServerTls, internal, watch::MakeWatcher,
};
use rustls_reload_harness::sim::InteractiveWorld;
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use super::{
    model::{Content, Dates, Digest, Model, THRESHOLDS},
    plain::{lasts, window},
    play::{Change, Kind},
};
use crate::common::{client_of_any, handshake_as};

/// The changes that a set of a server can have.
pub const CHANGES: [Change; 9] = [
    Change::Renewed,
    Change::Broken,
    Change::Expired,
    Change::NotYetValid,
    Change::OtherKey,
    Change::OtherNames,
    Change::Missing,
    Change::Back,
    Change::Again,
];

/// The names of each pair, and the names after a change. A name of a further pair belongs to no
/// other pair.
const NAMES: [[&[&str]; 2]; 3] = [
    [&["d.test", "a.test"], &["d2.test", "x.test"]],
    [&["a.test", "*.w.test"], &["a2.test", "x.test"]],
    [&["c.test", "x.test"], &["c.test", "y.w.test"]],
];

/// The server names in handshakes.
const ASKED: [&str; 9] =
    ["d.test", "d2.test", "a.test", "a2.test", "q.w.test", "y.w.test", "c.test", "x.test", "other.test"];

/// The clients: authority and own name.
const CLIENTS: [(&str, &str); 4] = [("A", "a1"), ("A", "a2"), ("B", "b1"), ("B", "b2")];

/// The role of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A pair with the names at this place of [`NAMES`].
    Pair(usize),
    ClientCas,
    Lists,
}

/// A server with these roles.
pub struct Server {
    roles: &'static [Role],
    strict: bool,
    wrong: Option<Wrong>,
    made: u64,
    pool: Arc<Pool>,
    /// The first configuration of the resolver, kept for the life of the server.
    fixed: Option<Arc<ServerConfig>>,
}

/// A server with wrong settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Breaks: INV-02. Clients that ask for an unknown name get an answer.
    AnswersAll,
    /// Breaks: INV-14. The lists of another publisher refuse no client.
    NoLists,
    /// Breaks: INV-09. The names are given explicitly, not taken from the leaf, and so a renewal
    /// does not change them.
    FirstNames,
}

/// Keys, authorities and clients, made once for all worlds.
pub struct Pool {
    servers: Authority,
    keys: Vec<PrivateKey>,
    authorities: [Authority; 2],
    clients: Vec<Pair>,
}

impl Pool {
    pub fn new() -> Arc<Self> {
        let authorities = ["A", "B"].map(Authority::root);
        let client = |(authority, name): &(&str, &str)| {
            let of = &authorities[usize::from(*authority == "B")];
            of.issue(&Subject::client(name), &PrivateKey::p256())
        };
        let clients = CLIENTS.iter().map(client).collect();
        let keys = (0..7).map(|_| PrivateKey::p256()).collect();
        Arc::new(Self { servers: Authority::root("servers"), keys, authorities, clients })
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn digest(der: &[u8]) -> Digest {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    suite.common.hash_provider.hash(der).as_ref().try_into().unwrap()
}

impl Server {
    /// A server with a default pair and two further ones.
    pub fn of_pairs(pool: &Arc<Pool>, strict: bool) -> Self {
        Self::new(pool, &[Role::Pair(0), Role::Pair(1), Role::Pair(2)], strict)
    }

    /// A server with two pairs, client CAs and their CRLs.
    pub fn of_clients(pool: &Arc<Pool>) -> Self {
        Self::new(pool, &[Role::Pair(0), Role::Pair(1), Role::ClientCas, Role::Lists], false)
    }

    fn new(pool: &Arc<Pool>, roles: &'static [Role], strict: bool) -> Self {
        Self { roles, strict, wrong: None, made: 0, pool: Arc::clone(pool), fixed: None }
    }

    pub fn wrong(self, wrong: Wrong) -> Self {
        Self { wrong: Some(wrong), ..self }
    }

    pub fn sets(&self) -> usize {
        self.roles.len()
    }

    fn pair(&self, place: usize, change: Change, wall: u64, served: Option<&Content>) -> Content {
        let (from, to) = window(change, wall, lasts(place, self.made));
        // A deferred leaf keeps its names, so that the result does not depend on the order of two
        // sets.
        let kept = served.filter(|_| matches!(change, Change::Expired | Change::NotYetValid));
        let names: BTreeSet<_> = match kept {
            Some(served) => served.names.clone(),
            None => NAMES[place][usize::from(change == Change::OtherNames)].iter().copied().collect(),
        };
        let subject =
            Subject { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Subject::server("") };
        let key = &self.pool.keys[2 * place + usize::from(change == Change::OtherKey)];
        let pair = self.pool.servers.issue(&subject.valid(at(from), at(to)), key);
        let is_broken = change == Change::Broken;
        let key = if is_broken { self.pool.keys[6].pem() } else { pair.key };
        Content {
            flaw: is_broken.then_some(Layer::Match),
            leaf: Some(Dates { digest: digest(&pair.leaf), from, to }),
            names,
            files: vec![("tls.crt", pair.chain.into_bytes()), ("tls.key", key.into_bytes())],
            ..Content::default()
        }
    }

    fn client_cas(&self, change: Change) -> Content {
        let trusted: &[&'static str] = match change {
            Change::OtherKey => &["B"],
            Change::OtherNames => &["A"],
            _ => &["A", "B"],
        };
        let authority = |name: &&str| &self.pool.authorities[usize::from(*name == "B")];
        let pems: String = trusted.iter().map(|name| authority(name).pem.as_str()).collect();
        // A line before the first section makes other bytes with the same trust.
        let text = format!("# {}\n{pems}", self.made);
        let trusted = trusted.iter().copied().collect();
        Content { trusted, ..Self::file(change, self.made, ("ca.crt", text)) }
    }

    fn lists(&self, change: Change, wall: u64) -> Content {
        let revoked: &[&'static str] = match change {
            Change::OtherKey => &["a1"],
            Change::OtherNames => &["a2", "b1"],
            _ => &[],
        };
        let named: &[&str] = if self.wrong == Some(Wrong::NoLists) { &[] } else { revoked };
        let list = |authority: &str| {
            let own = CLIENTS
                .iter()
                .zip(&self.pool.clients)
                .filter(|((of, name), _)| *of == authority && named.contains(name));
            let leaves: Vec<_> = own.map(|(_, pair)| &pair.leaf).collect();
            let of = &self.pool.authorities[usize::from(authority == "B")];
            of.crl(&leaves, (at(1_500_000_000 + self.made), at(wall + 100 * 365 * 86_400)), self.made).pem
        };
        let text = list("A") + &list("B");
        let revoked = revoked.iter().copied().collect();
        Content { revoked, ..Self::file(change, self.made, ("lists.pem", text)) }
    }

    /// Makes a text file, which is broken if the change requires it.
    fn file(change: Change, number: u64, (name, text): (&'static str, String)) -> Content {
        let is_broken = change == Change::Broken;
        let text = if is_broken { format!("{number}\n-----BEGIN") } else { text };
        let files = vec![(name, text.into_bytes())];
        Content { flaw: is_broken.then_some(Layer::Pem), files, ..Content::default() }
    }

    fn builder(&self, dirs: &[PathBuf]) -> ServerBuilder {
        let pair = |set: usize| ["tls.crt", "tls.key"].map(|name| dirs[set].join(name));
        let [chain, key] = pair(0);
        let mut builder = ServerReloader::builder(chain, key)
            .strict_names(self.strict && self.wrong != Some(Wrong::AnswersAll));
        for (set, role) in self.roles.iter().enumerate().skip(1) {
            builder = match role {
                Role::Pair(place) => {
                    let [chain, key] = pair(set);
                    match self.wrong {
                        Some(Wrong::FirstNames) => builder.pair_for(NAMES[*place][0], chain, key),
                        _ => builder.pair(chain, key),
                    }
                }
                Role::ClientCas => {
                    let builder = builder.client_ca(dirs[set].join("ca.crt"), ClientAuth::Required);
                    builder.separate_client_ca(true)
                }
                Role::Lists => builder.crl(dirs[set].join("lists.pem")),
            };
        }
        builder
    }

    fn place(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|other| *other == role)
    }

    /// Returns whether the model accepts a client: by its authority, and if no list revokes it.
    fn lets_in(&self, model: &Model, (authority, name): (&str, &str)) -> bool {
        let mut served = model.sets.iter().map(|set| &set.served);
        served.clone().any(|content| content.trusted.contains(authority))
            && !served.any(|content| content.revoked.contains(name))
    }

    /// Makes a handshake with one name and version, as one client.
    fn shakes(&self, config: &Arc<ServerConfig>, model: &Model, turn: usize) -> Result<(), String> {
        let names = [&ASKED[..], &[""]].concat();
        let name = names[turn % names.len()];
        let version = [&TLS13, &TLS12][turn / names.len() % 2];
        let asked = (!name.is_empty()).then_some(name);
        let client = turn % CLIENTS.len();
        let has_clients = self.place(Role::ClientCas).is_some();
        let is_let_in = !has_clients || self.lets_in(model, CLIENTS[client]);
        let shown = &self.pool.clients[client];
        let connection = handshake_as(config, &client_of_any(shows(shown), version), name);
        let wanted = model.answering(asked, self.strict).filter(|_| is_let_in);
        let wanted = wanted.and_then(|set| model.sets[set].served.leaf).map(|leaf| leaf.digest);
        let got = connection.as_ref().ok().map(|connection| digest(connection.leaf()));
        let case = || {
            format!(
                "{name:?} by {:?}, {:?} over {:?}",
                CLIENTS[client],
                version.version,
                connection.as_ref().err()
            )
        };
        if got == wanted { Ok(()) } else { Err(format!("{}: {got:?} in place of {wanted:?}", case())) }
    }
}

fn shows(pair: &Pair) -> Arc<dyn ResolvesClientCert> {
    let key =
        CertifiedKey::from_der(vec![pair.leaf.clone()], pair.key_der(), &ring::default_provider()).unwrap();
    Arc::new(SingleCertAndKey::from(key))
}

impl Kind for Server {
    type Value = ServerTls;

    fn first(&mut self, wall: u64) -> Vec<Content> {
        (0..self.sets()).map(|set| self.make(set, Change::Renewed, wall, None).unwrap()).collect()
    }

    fn make(&mut self, set: usize, change: Change, wall: u64, served: Option<&Content>) -> Option<Content> {
        self.made += 1;
        let content = match self.roles[set] {
            Role::Pair(place) => self.pair(place, change, wall, served),
            // A reload checks no dates of these roles.
            _ if matches!(change, Change::Expired | Change::NotYetValid) => return None,
            Role::ClientCas => self.client_cas(change),
            Role::Lists => self.lists(change, wall),
        };
        Some(Content { number: self.made, ..content })
    }

    fn load(&self, live: &mut InteractiveWorld<ServerTls>, dirs: &[PathBuf], watcher: MakeWatcher) {
        let builder = self.builder(dirs).expiry_warnings(THRESHOLDS.map(Duration::from_secs));
        let builder = builder.clock(live.sim().clock()).watcher(Some(watcher));
        live.load_by(internal::generic(builder).unwrap()).unwrap();
    }

    fn serves(&mut self, live: &InteractiveWorld<ServerTls>, model: &Model) -> Result<(), String> {
        let current = live.reloader().current();
        let epoch = current.value.trust_epoch();
        if epoch != model.epoch {
            return Err(format!("trust epoch {epoch} in place of {}", model.epoch));
        }
        for name in ASKED.iter().copied().map(Some).chain([None]) {
            let leaf = |set: usize| model.sets[set].served.leaf.map(|leaf| leaf.digest);
            let wanted = model.answering(name, self.strict).and_then(leaf);
            let got = current.value.leaf_for(name).map(|leaf| leaf.fingerprint.0);
            if got != wanted {
                return Err(format!("{name:?} gets {got:?} in place of {wanted:?}"));
            }
        }
        let leaf = model.sets[0].served.leaf.map(|leaf| leaf.digest);
        if Some(current.value.leaf.fingerprint.0) != leaf {
            return Err(format!("the leaf is {} in place of {leaf:?}", current.value.leaf.fingerprint));
        }
        let turn = usize::try_from(self.made).unwrap();
        for more in 0..2 {
            self.shakes(&current.value.config, model, turn + 3 * more)?;
        }
        if self.place(Role::ClientCas).is_none() {
            let fixed = self.fixed.get_or_insert_with(|| {
                let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
                let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
                Arc::new(config.with_cert_resolver(live.reloader().resolver()))
            });
            let fixed = Arc::clone(fixed);
            self.shakes(&fixed, model, turn)?;
        }
        Ok(())
    }
}
