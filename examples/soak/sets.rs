//! The sets that are published, made once and read by all processes.

use std::{collections::HashMap, fs, path::Path};

use rustls_reload_harness::sim::{Publisher, Set};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

/// Sets that are published in turn, and [`LAST`].
const SETS: usize = 8;
/// The set that is published at the end.
pub(crate) const LAST: usize = SETS;

/// Chooses; no two that begin differently go the same way.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// Every set twice: of a CA, key and leaf of its own, and with only the leaf its own.
pub(crate) struct Forge {
    sets: Vec<[Set; 2]>,
    /// Which set a leaf is of.
    pub(crate) leaves: HashMap<Vec<u8>, usize>,
    /// Clients of each set's CA.
    pub(crate) clients: Vec<Pair>,
    pub(crate) authorities: Vec<String>,
}

impl Forge {
    /// The set of this number as this publisher has it: `step renew` changes the chain alone.
    pub(crate) fn set(&self, publisher: Publisher, number: usize) -> Set {
        self.sets[number][usize::from(publisher == Publisher::StepRenew)].clone()
    }
}

/// Makes them all.
pub(crate) fn forge(root: &Path) -> Forge {
    let first = (Authority::root("CA 0"), PrivateKey::p256());
    let (sets, leaves) = (Vec::new(), HashMap::new());
    let mut forge = Forge { sets, leaves, clients: Vec::new(), authorities: Vec::new() };
    for number in 0..=LAST {
        let own = (Authority::root(&format!("CA {number}")), PrivateKey::p256());
        let (ca, key) = if number == 0 { &first } else { &own };
        let mut set = |ca: &Authority, key: &PrivateKey| -> Set {
            let pair = ca.issue(&Subject::server("localhost"), key);
            forge.leaves.insert(pair.leaf.to_vec(), number);
            [pair.chain.into_bytes(), pair.key.into_bytes(), ca.pem.clone().into_bytes()]
        };
        let both = [set(ca, key), set(&first.0, &first.1)];
        forge.sets.push(both);
        forge.clients.push(ca.issue(&Subject::client("client"), &PrivateKey::p256()));
        forge.authorities.push(ca.pem.clone());
    }
    for (number, sets) in forge.sets.iter().enumerate() {
        for (way, set) in sets.iter().enumerate() {
            for (index, bytes) in set.iter().enumerate() {
                fs::write(root.join(format!("set-{number}-{way}-{index}")), bytes).unwrap();
            }
        }
    }
    forge
}

/// A set as another process reads it.
pub(crate) fn read(root: &Path, publisher: Publisher, number: u64) -> Set {
    let way = usize::from(publisher == Publisher::StepRenew);
    [0, 1, 2].map(|index| fs::read(root.join(format!("set-{number}-{way}-{index}"))).unwrap())
}

/// How many there are to publish in turn.
pub(crate) fn count() -> u64 {
    SETS as u64
}
