//! The publications of a simulated world: sets of marked files, and what of them a renewal changes.

/// The bytes of a block. Files are whole numbers of blocks, so a file that is cut at a block
/// boundary is a valid shorter one.
pub const BLOCK: usize = 8;

/// The index of the chain in a set.
pub const CHAIN: usize = 0;
/// The index of the key in a set.
pub const KEY: usize = 1;
/// The index of the client CAs in a set.
pub const CA: usize = 2;

/// Chain, key and client CAs of one generation.
pub type Set = [Vec<u8>; 3];

/// The order in which a publisher writes its files.
pub type Order = [usize; 3];

/// All orders of three files.
pub const ORDERS: [Order; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The files that a renewal changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// Everything, including the key.
    NewKey,
    /// Everything except the key.
    SameKey,
    /// The leaf alone.
    LeafOnly,
    /// The intermediate alone.
    ChainOnly,
    /// The client CAs alone.
    CaOnly,
    /// The client CAs, which lose the last one.
    Shrink,
    /// Nothing: equal bytes are written again.
    Nothing,
    /// Everything, with a key that does not belong to the leaf.
    Broken,
}

impl Renewal {
    /// The renewals that end in a set that can be served.
    pub const ALL: [Self; 7] = [
        Self::NewKey,
        Self::SameKey,
        Self::LeafOnly,
        Self::ChainOnly,
        Self::CaOnly,
        Self::Shrink,
        Self::Nothing,
    ];

    /// Returns the set that follows `old` as generation `number`.
    #[must_use]
    pub fn next(self, old: &Set, number: u32) -> Set {
        let old_key = number_of(&old[KEY]);
        let new = |key| full(number, key);
        let [chain, key, ca] = old.clone();
        match self {
            Self::NewKey => new(number),
            Self::SameKey => [new(old_key)[CHAIN].clone(), key, new(old_key)[CA].clone()],
            Self::LeafOnly => [[&new(old_key)[CHAIN][..BLOCK], &chain[BLOCK..]].concat(), key, ca],
            Self::ChainOnly => [[&chain[..BLOCK], &new(old_key)[CHAIN][BLOCK..]].concat(), key, ca],
            Self::CaOnly => [chain, key, new(old_key)[CA].clone()],
            Self::Shrink => {
                let len = ca.len() - BLOCK;
                [chain, key, ca[..len.max(BLOCK)].to_vec()]
            }
            Self::Nothing => old.clone(),
            Self::Broken => [new(number)[CHAIN].clone(), new(number + 500)[KEY].clone(), ca],
        }
    }
}

/// Makes a complete set: leaf and intermediate, key, three client CAs.
#[must_use]
pub fn full(number: u32, key: u32) -> Set {
    let block = |tag: char, n: u32| format!("{tag}{number:03}{n:03}\n");
    let chain = block('L', key) + &block('I', 1);
    let ca = block('C', 1) + &block('C', 2) + &block('C', 3);
    [chain.into_bytes(), format!("K{key:03}{key:03}\n").into_bytes(), ca.into_bytes()]
}

/// Returns the number that the leaf and the key must have in common.
fn number_of(block: &[u8]) -> u32 {
    block.get(4..7).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok()).unwrap_or(u32::MAX)
}

/// Returns whether a set would pass every check. This oracle of every world does not know where the
/// bytes come from.
#[must_use]
pub fn is_valid(files: &[Option<impl AsRef<Vec<u8>>>]) -> bool {
    let blocks = |index: usize| -> Option<Vec<Vec<u8>>> {
        let bytes = files.get(index)?.as_ref()?.as_ref();
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK);
        whole.then(|| bytes.chunks(BLOCK).map(<[u8]>::to_vec).collect())
    };
    let (Some(chain), Some(key), Some(ca)) = (blocks(CHAIN), blocks(KEY), blocks(CA)) else { return false };
    // All files of a directory in which every file counts.
    let mut listed = (CA + 1..files.len()).map(blocks);
    chain[0][0] == b'L'
        && chain[1..].iter().all(|block| block[0] == b'I')
        && key.len() == 1
        && key[0][0] == b'K'
        && number_of(&key[0]) == number_of(&chain[0])
        && ca.iter().all(|block| block[0] == b'C')
        && listed.all(|file| file.is_some_and(|blocks| blocks.iter().all(|block| block[0] == b'R')))
}

/// Leaves with these numbers have a date. The first is valid when a world begins, and each other
/// one ten minutes after its predecessor.
const DATED: std::ops::Range<u32> = 700..800;

/// Returns the number of a leaf that is valid from `tens` times ten minutes after the beginning of
/// a world.
///
/// # Panics
/// If `tens` is more than 99.
#[must_use]
pub fn dated(tens: u32) -> u32 {
    assert!(tens < DATED.end - DATED.start, "no leaf has such a date");
    DATED.start + tens
}

/// Returns the wall time from which the leaf of a valid set is valid, if it has a date.
#[must_use]
pub fn not_before(files: &[Option<impl AsRef<Vec<u8>>>]) -> Option<std::time::Duration> {
    let number = files.get(CHAIN)?.as_ref()?.as_ref().get(1..4)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let tens = DATED.contains(&number).then(|| number - DATED.start)?;
    Some(super::EPOCH.wall + std::time::Duration::from_secs(600) * tens)
}
