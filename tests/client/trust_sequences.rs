//! Every short sequence of changes of a client's files against a model of the trust.
//!
//! Checks: INV-03, INV-09, INV-11.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_reload::{ClientReloader, Reload};
use rustls_reload_testkit::Pair;

use crate::{
    common::{self, Generation, Volume, generations, handshake, sessions::Kind},
    trust_table::{removed, resumes, worlds},
    world::{bundle, client, files, renewed, server},
};

/// A change of the model's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The roots: the server's CA, another one, or both.
    Roots(usize),
    Identity(usize),
    /// Another key's certificate, with other roots.
    Broken,
}

const CHANGES: [Change; 6] = [
    Change::Roots(0),
    Change::Roots(1),
    Change::Roots(2),
    Change::Identity(0),
    Change::Identity(1),
    Change::Broken,
];

/// Keys and certificates that all sequences share, since making keys takes longest.
struct Stock {
    all: Vec<Generation>,
    /// The server's CA, another one, and both.
    bundles: [String; 3],
    identities: [Pair; 2],
}

impl Stock {
    fn new() -> Self {
        let all = generations(2);
        let bundles = [bundle(&[&all[0]]), bundle(&[&all[1]]), bundle(&[&all[1], &all[0]])];
        let identities = [all[0].client.clone(), renewed(&all[0].ca)];
        Self { all, bundles, identities }
    }
}

/// A client under a sequence of changes, beside the model.
struct World<'a> {
    stock: &'a Stock,
    /// Whether the roots are in a file set of their own.
    separate: bool,
    server: Arc<ServerConfig>,
    volume: Volume,
    client: ClientReloader,
    /// The roots and the identity that are on disk, by their place in the stock.
    served: (usize, usize),
    /// The number of changes of either, and that at which the last session was made.
    epoch: u64,
    session: u64,
}

impl<'a> World<'a> {
    fn new(stock: &'a Stock, (kind, separate): (Kind, bool)) -> Self {
        let server = server(&stock.all[0].server, &[&stock.all[0].ca], kind);
        let volume = Volume::in_memory(&files(&stock.identities[0], &stock.bundles[2]));
        let client = client(&volume).separate_roots(separate).load().unwrap();
        resumes(&server, &client);
        Self { stock, separate, server, volume, client, served: (2, 0), epoch: 1, session: 1 }
    }

    fn change(&mut self, change: Change) {
        let was = self.served;
        match change {
            Change::Roots(new) => self.served.0 = new,
            Change::Identity(new) => self.served.1 = new,
            Change::Broken => return self.publish_invalid(),
        }
        let ((roots, identity), stock) = (self.served, self.stock);
        let answer = self.publish(&stock.identities[identity], roots, was);
        assert!(matches!(answer, Reload::Reloaded | Reload::Unchanged), "{answer:?}");
    }

    /// Publishes other roots with a key that does not belong to the identity. Roots in a file set
    /// of their own are served all the same.
    fn publish_invalid(&mut self) {
        let (was, (roots, identity)) = (self.served, self.served);
        let key = self.stock.identities[1 - identity].key.clone();
        let mixed = Pair { key, ..self.stock.identities[identity].clone() };
        let (config, other) = (self.client.config(), (roots + 1) % 3);
        if self.separate {
            self.served.0 = other;
        }
        assert!(matches!(self.publish(&mixed, other, was), Reload::Refused(_)));
        assert_eq!(Arc::ptr_eq(&config, &self.client.config()), !self.separate);
    }

    /// Publishes files after which `served` holds, and compares the reports and the epoch with it.
    fn publish(&mut self, identity: &Pair, roots: usize, was: (usize, usize)) -> Reload {
        let mut events = self.client.events();
        self.volume.publish_in_one_tick(&files(identity, &self.stock.bundles[roots]));
        let answer = self.client.reload_now();
        let is_reduced = self.served.0 != 2 && self.served.0 != was.0;
        assert_eq!(removed(&mut events).len(), usize::from(is_reduced), "{was:?} to {:?}", self.served);
        self.epoch += u64::from(self.served != was);
        assert_eq!(self.client.current().value.trust_epoch(), self.epoch);
        answer
    }

    /// Connects; returns 0 for a session that resumes, 1 for a handshake in full, 2 for a server that is rejected.
    fn connect(&mut self) -> usize {
        let (roots, identity) = self.served;
        let Ok(connection) = handshake(&self.server, &self.client.config()) else {
            assert_eq!(roots, 1, "the server's root is served");
            return 2;
        };
        assert_ne!(roots, 1, "the server's root is not served");
        assert_eq!(connection.client.as_ref(), Some(&self.stock.identities[identity].leaf));
        assert_eq!(connection.resumed, self.session == self.epoch, "{} in {}", self.session, self.epoch);
        self.session = self.epoch;
        usize::from(!connection.resumed)
    }
}

/// Checks: INV-03, INV-09, INV-11. Engine: generated.
///
/// Every sequence of three changes, by each kind of session, with the roots in the file set of the
/// identity and in one of their own. After each change a client that has
/// sessions of the epochs so far connects. The server is accepted if its root is served, it sees the
/// served identity, and a session resumes if it is of the epoch by the model, which counts changes.
#[test]
fn inv09_each_sequence_of_changes_resumes_in_its_epoch_only() {
    let stock = Stock::new();
    let of_world = |of| CHANGES.map(|first| (of, first));
    let jobs: Vec<_> = worlds().into_iter().flat_map(of_world).collect();
    // Each sequence waits for its files to settle, so many of them wait at a time.
    let counts = common::at_once(&jobs, |(of, first)| {
        let mut counts = [0; 3];
        for second in CHANGES {
            for third in CHANGES {
                let mut world = World::new(&stock, *of);
                for change in [*first, second, third] {
                    world.change(change);
                    counts[world.connect()] += 1;
                }
            }
        }
        counts
    });
    let counts = counts.chunks(CHANGES.len()).map(|of| [0, 1, 2].map(|end| of.iter().map(|c| c[end]).sum()));
    for (of, counts) in worlds().iter().zip(counts) {
        let [resumed, full, rejected]: [usize; 3] = counts;
        println!("{of:?}: {resumed} resumed, {full} in full, {rejected} rejected");
        assert!(counts.iter().all(|count| *count > 50), "too little was tried");
    }
}
