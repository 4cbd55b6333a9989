//! File contents: `Debug` prints their length, and they are wiped when dropped.

use std::{fmt, ops::Deref};

use zeroize::Zeroize;

/// The contents of a file. Any file may hold a private key, so all of them are treated as secret
/// (INV-10).
///
/// The buffer is allocated once at its final size and never grows, so no copy remains in freed
/// memory. Dropping it wipes it, and its `Debug` prints only the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Allocates a buffer of `len` zeros, to be filled in place.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self(vec![0; len].into_boxed_slice())
    }

    /// Returns the whole buffer, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
