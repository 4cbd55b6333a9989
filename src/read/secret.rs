//! File contents: `Debug` prints their length, and they are wiped when dropped.

use std::{fmt, ops::Deref};

use zeroize::Zeroize;

/// The contents of a file. Any file may hold a private key, so all of them are treated as secret
/// (INV-10).
///
/// The buffer is allocated once at its final size and never grows, so no copy remains in freed
/// memory. Dropping it wipes it, and its `Debug` prints only the length.
#[derive(Clone)]
pub struct Secret {
    /// The contents, and perhaps one spare byte.
    buffer: Box<[u8]>,
    len: usize,
}

impl Secret {
    /// Allocates a buffer of `len` zeros, to be filled in place.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { buffer: vec![0; len].into(), len }
    }

    /// Allocates as [`zeroed`](Self::zeroed), with a spare byte behind the contents.
    pub(super) fn with_spare(len: usize) -> Self {
        Self { buffer: vec![0; len + 1].into(), len }
    }

    /// Returns the whole buffer, writable, with the spare byte if there is one.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self { buffer: bytes.into(), len: bytes.len() }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Secret {}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}
