//! Hashes of states.

use std::hash::{Hash, Hasher};

pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = StateHasher::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A hasher for small keys: states are hashed at every choice. It does one wide multiplication and
/// one fold per word.
#[derive(Default)]
pub(crate) struct StateHasher(u64);

impl Hasher for StateHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let x = self.0.rotate_left(23) ^ word ^ 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(x) * 0xd6e8_feb8_6659_fd93;
        let (low, high) = (wide & u128::from(u64::MAX), wide >> 64);
        // Each half fits into 64 bits.
        self.0 = (low as u64 ^ high as u64).wrapping_add(x);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
