//! The small world: three publishers, all states that each of them may put on disk, and the
//! clients.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer},
    version::TLS13,
};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::common::{client_with, replace};

/// A CA by its key. The first two have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ca {
    A,
    /// The name of `A` with another key.
    Rekeyed,
    B,
    /// A signer outside of every bundle, which signs lists under the name of the first two.
    Stranger,
}

impl Ca {
    const ALL: [Self; 4] = [Self::A, Self::Rekeyed, Self::B, Self::Stranger];

    pub fn name(self) -> &'static str {
        if self == Self::B { "B" } else { "A" }
    }
}

/// A CRL: the CA that signed it, and whether it revokes the bad client of that CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    pub ca: Ca,
    pub revokes: bool,
}

const fn list(ca: Ca, revokes: bool) -> List {
    List { ca, revokes }
}

/// A state of the directory of CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// One file for each list.
    Good(&'static [List]),
    /// Two valid lists, and a file that is no list.
    Stray,
    /// One list is incomplete.
    Half,
    Empty,
    Gone,
}

/// A state of the client CA bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundle {
    Good(&'static [Ca]),
    Text,
    Empty,
}

/// A state of chain and key: the number of a pair, or a chain with the key of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Good(usize),
    Mismatch,
}

/// A change by one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Tls(Tls),
    Bundle(Bundle),
    Lists(Lists),
}

/// The state on disk, or the served state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub tls: Tls,
    pub bundle: Bundle,
    pub lists: Lists,
}

impl State {
    pub const FIRST: Self = Self {
        tls: Tls::Good(0),
        bundle: Bundle::Good(&[Ca::A, Ca::B]),
        lists: Lists::Good(&[list(Ca::A, true), list(Ca::B, false)]),
    };

    /// The initial state without the CA B.
    pub const ONE_CA: Self =
        Self { tls: Tls::Good(0), bundle: Bundle::Good(&[Ca::A]), lists: Lists::Good(&[list(Ca::A, true)]) };

    /// Returns the changes from this state. In a world without B, those that do not mention B.
    pub fn changes(&self) -> Vec<Change> {
        let is_one = *self == Self::ONE_CA;
        let mentions_b = |change: &Change| match change {
            Change::Bundle(Bundle::Good(cas)) => cas.contains(&Ca::B),
            Change::Lists(Lists::Good(lists)) => lists.iter().any(|list| list.ca == Ca::B),
            _ => false,
        };
        CHANGES.into_iter().filter(|change| !is_one || !mentions_b(change)).collect()
    }

    pub fn changed(self, change: Change) -> Self {
        match change {
            Change::Tls(tls) => Self { tls, ..self },
            Change::Bundle(bundle) => Self { bundle, ..self },
            Change::Lists(lists) => Self { lists, ..self },
        }
    }
}

/// All changes in the world.
pub const CHANGES: [Change; 24] = [
    Change::Tls(Tls::Good(0)),
    Change::Tls(Tls::Good(1)),
    Change::Tls(Tls::Mismatch),
    Change::Bundle(Bundle::Good(&[Ca::A, Ca::B])),
    Change::Bundle(Bundle::Good(&[Ca::A])),
    Change::Bundle(Bundle::Good(&[Ca::B])),
    Change::Bundle(Bundle::Good(&[Ca::Rekeyed])),
    Change::Bundle(Bundle::Good(&[Ca::Rekeyed, Ca::B])),
    Change::Bundle(Bundle::Text),
    Change::Bundle(Bundle::Empty),
    Change::Lists(Lists::Good(&[list(Ca::A, false), list(Ca::B, false)])),
    Change::Lists(Lists::Good(&[list(Ca::A, true), list(Ca::B, false)])),
    Change::Lists(Lists::Good(&[list(Ca::A, true)])),
    Change::Lists(Lists::Good(&[list(Ca::B, true)])),
    Change::Lists(Lists::Good(&[list(Ca::Rekeyed, true), list(Ca::B, false)])),
    Change::Lists(Lists::Good(&[list(Ca::A, true), list(Ca::Rekeyed, true), list(Ca::B, false)])),
    Change::Lists(Lists::Good(&[list(Ca::A, false)])),
    Change::Lists(Lists::Good(&[list(Ca::Rekeyed, true)])),
    Change::Lists(Lists::Good(&[list(Ca::A, true), list(Ca::Rekeyed, true)])),
    Change::Lists(Lists::Stray),
    Change::Lists(Lists::Half),
    Change::Lists(Lists::Empty),
    Change::Lists(Lists::Gone),
    Change::Lists(Lists::Good(&[list(Ca::Stranger, false), list(Ca::B, false)])),
];

/// The clients: for each CA one that its lists may revoke, and one that they never revoke.
pub const CLIENTS: [(Ca, bool); 6] =
    [(Ca::A, true), (Ca::A, false), (Ca::Rekeyed, true), (Ca::Rekeyed, false), (Ca::B, true), (Ca::B, false)];

/// All keys and certificates, and the directories of the three publishers.
pub struct World {
    root: tempfile::TempDir,
    authorities: [Authority; 4],
    pairs: [Pair; 2],
    clients: Vec<(Pair, Arc<ClientConfig>)>,
    /// The lists of each CA: an empty one, and one with an entry.
    lists: Vec<[String; 2]>,
}

impl World {
    /// Makes the world with this state on disk.
    pub fn new(state: &State) -> Self {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let authorities = Ca::ALL.map(|ca| Authority::root(ca.name()));
        let server = Authority::root("server CA");
        let pairs = [0, 1].map(|_| server.issue(&Subject::server("localhost"), &PrivateKey::p256()));
        let versions: [&'static SupportedProtocolVersion; 1] = [&TLS13];
        let client = |(ca, bad): &(Ca, bool)| {
            let name = format!("{ca:?} {bad}");
            let pair = authorities[*ca as usize].issue(&Subject::client(&name), &PrivateKey::p256());
            let config = client_with(&[&server], Some(&pair), &versions);
            (pair, config)
        };
        let clients: Vec<(Pair, Arc<ClientConfig>)> = CLIENTS.iter().map(client).collect();
        let bad = |ca| &clients[CLIENTS.iter().position(|client| *client == (ca, true)).unwrap_or(0)].0;
        let lists = Ca::ALL
            .map(|ca| [false, true].map(|revokes| signed(&authorities[ca as usize], bad(ca), revokes)))
            .into();
        let world = Self { root, clients, lists, authorities, pairs };
        ["tls", "ca"].iter().for_each(|dir| fs::create_dir(world.root.path().join(dir)).unwrap());
        world.put(Change::Tls(state.tls));
        world.put(Change::Bundle(state.bundle));
        world.put(Change::Lists(state.lists));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn leaf(&self, pair: usize) -> &CertificateDer<'static> {
        &self.pairs[pair].leaf
    }

    pub fn key(&self, pair: usize) -> PrivateKeyDer<'static> {
        self.pairs[pair].key_der()
    }

    pub fn client(&self, number: usize) -> &Arc<ClientConfig> {
        &self.clients[number].1
    }

    /// Returns the content of a bundle.
    pub fn bundle(&self, bundle: Bundle) -> String {
        match bundle {
            Bundle::Good(cas) => cas.iter().map(|ca| self.authorities[*ca as usize].pem.as_str()).collect(),
            Bundle::Text => "the CAs come later\n".to_owned(),
            Bundle::Empty => String::new(),
        }
    }

    /// Returns a CRL in PEM.
    pub fn list(&self, list: List) -> &str {
        &self.lists[list.ca as usize][usize::from(list.revokes)]
    }

    /// Writes the change to disk as its publisher does.
    pub fn put(&self, change: Change) {
        match change {
            Change::Tls(tls) => {
                let (chain, key) = match tls {
                    Tls::Good(pair) => (pair, pair),
                    Tls::Mismatch => (0, 1),
                };
                replace(&self.path("tls/tls.crt"), self.pairs[chain].chain.as_bytes());
                replace(&self.path("tls/tls.key"), self.pairs[key].key.as_bytes());
            }
            Change::Bundle(bundle) => replace(&self.path("ca/ca.crt"), self.bundle(bundle).as_bytes()),
            Change::Lists(lists) => self.put_lists(lists, &self.path("crl.d")),
        }
    }

    fn put_lists(&self, lists: Lists, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        if lists == Lists::Gone {
            return;
        }
        fs::create_dir(dir).unwrap();
        let both = [list(Ca::A, true), list(Ca::B, false)];
        let good = match lists {
            Lists::Good(lists) => lists,
            Lists::Stray | Lists::Half => &both,
            Lists::Empty | Lists::Gone => &[],
        };
        for list in good {
            fs::write(dir.join(format!("{:?}.crl", list.ca)), self.list(*list)).unwrap();
        }
        match lists {
            Lists::Stray => fs::write(dir.join("README"), "lists live here\n").unwrap(),
            Lists::Half => {
                let text = self.list(list(Ca::A, false));
                fs::write(dir.join("A.crl"), &text[..text.len() / 2]).unwrap();
            }
            _ => {}
        }
    }
}

/// Makes a list of this authority. A list that revokes is the newer one.
fn signed(by: &Authority, client: &Pair, revokes: bool) -> String {
    let revoked: Vec<_> = revokes.then_some(&client.leaf).into_iter().collect();
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    by.crl(&revoked, (now - hour, now + hour), 1 + u64::from(revokes)).pem
}
