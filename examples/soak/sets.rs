//! The sets that are published, made once and read by all processes.

use std::{collections::HashMap, fs, path::Path};

use rustls_reload_harness::sim::{Publisher, Set};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

/// Number of sets that are published in turn; [`LAST`] is not among them.
const SETS: usize = 8;
/// The set that is published at the end.
pub(crate) const LAST: usize = SETS;

/// A pseudorandom generator. Different seeds give different sequences.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// Every set in two versions: with a CA, key and leaf of its own, and with only a leaf of its own.
pub(crate) struct Material {
    sets: Vec<[Set; 2]>,
    /// The number of the set to which each leaf belongs.
    pub(crate) leaves: HashMap<Vec<u8>, usize>,
    /// Clients of each set's CA.
    pub(crate) clients: Vec<Pair>,
    pub(crate) authorities: Vec<String>,
}

impl Material {
    /// Returns the set of this number for this publisher: `step renew` changes the chain alone.
    pub(crate) fn set(&self, publisher: Publisher, number: usize) -> Set {
        self.sets[number][usize::from(publisher == Publisher::StepRenew)].clone()
    }
}

/// Makes all sets, leaves and clients.
pub(crate) fn make(root: &Path) -> Material {
    let first = (Authority::root("CA 0"), PrivateKey::p256());
    let (sets, leaves) = (Vec::new(), HashMap::new());
    let mut material = Material { sets, leaves, clients: Vec::new(), authorities: Vec::new() };
    for number in 0..=LAST {
        let own = (Authority::root(&format!("CA {number}")), PrivateKey::p256());
        let (ca, key) = if number == 0 { &first } else { &own };
        let mut set = |ca: &Authority, key: &PrivateKey| -> Set {
            let pair = ca.issue(&Subject::server("localhost"), key);
            material.leaves.insert(pair.leaf.to_vec(), number);
            [pair.chain.into_bytes(), pair.key.into_bytes(), ca.pem.clone().into_bytes()]
        };
        let both = [set(ca, key), set(&first.0, &first.1)];
        material.sets.push(both);
        material.clients.push(ca.issue(&Subject::client("client"), &PrivateKey::p256()));
        material.authorities.push(ca.pem.clone());
    }
    for (number, sets) in material.sets.iter().enumerate() {
        for (way, set) in sets.iter().enumerate() {
            for (index, bytes) in set.iter().enumerate() {
                fs::write(root.join(format!("set-{number}-{way}-{index}")), bytes).unwrap();
            }
        }
    }
    material
}

/// Reads a set that another process has written.
pub(crate) fn read(root: &Path, publisher: Publisher, number: u64) -> Set {
    let way = usize::from(publisher == Publisher::StepRenew);
    [0, 1, 2].map(|index| fs::read(root.join(format!("set-{number}-{way}-{index}"))).unwrap())
}

/// Returns the number of sets that are published in turn.
pub(crate) fn count() -> u64 {
    SETS as u64
}
