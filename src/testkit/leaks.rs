//! Looks for key material in output.

use std::collections::HashSet;

use rustls::pki_types::PrivateKeyDer;

/// As many bytes in a row of a key count as a leak (INV-10).
pub const WINDOW: usize = 12;

/// The windows of one private key: any [`WINDOW`] bytes in a row of it, raw or as they stand in its PEM.
///
/// The PEM's `BEGIN` and `END` lines are no secret. Line breaks within the base64 are taken out of both sides, so that
/// a window across two lines is found however the output is wrapped.
pub struct Windows {
    raw: HashSet<[u8; WINDOW]>,
    base64: HashSet<[u8; WINDOW]>,
}

impl Windows {
    /// Those of this key.
    #[must_use]
    pub fn of(key: &PrivateKeyDer<'_>, key_pem: &str) -> Self {
        let lines = key_pem.lines().filter(|line| !line.starts_with("-----"));
        let base64: Vec<u8> = lines.flat_map(|line| line.trim().bytes()).collect();
        Self { raw: windows(key.secret_der()).collect(), base64: windows(&base64).collect() }
    }

    /// Whether any of them occurs in `output`.
    #[must_use]
    pub fn occur_in(&self, output: &[u8]) -> bool {
        let unwrapped: Vec<u8> = output.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        windows(output).any(|window| self.raw.contains(&window))
            || windows(&unwrapped).any(|window| self.base64.contains(&window))
    }
}

/// Whether any of the key's [`Windows`] occurs in `output`.
#[must_use]
pub fn leaks(output: &[u8], key: &PrivateKeyDer<'_>, key_pem: &str) -> bool {
    Windows::of(key, key_pem).occur_in(output)
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> + '_ {
    bytes.windows(WINDOW).filter_map(|window| window.try_into().ok())
}
