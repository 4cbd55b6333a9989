//! Looks for key material in output.

use rustls::pki_types::PrivateKeyDer;

/// As many bytes in a row of a key count as a leak (INV-10).
pub const WINDOW: usize = 12;

/// Whether any [`WINDOW`] bytes in a row of the private key, raw or as they stand in its PEM, occur in `output`.
///
/// The PEM's `BEGIN` and `END` lines are no secret. Line breaks within the base64 are taken out of both sides, so that
/// a window across two lines is found however the output is wrapped.
#[must_use]
pub fn leaks(output: &[u8], key: &PrivateKeyDer<'_>, key_pem: &str) -> bool {
    let base64: Vec<u8> = key_pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .flat_map(|line| line.trim().bytes())
        .collect();
    let unwrapped: Vec<u8> = output.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    has_window(output, key.secret_der()) || has_window(&unwrapped, &base64)
}

fn has_window(output: &[u8], secret: &[u8]) -> bool {
    let windows: std::collections::HashSet<&[u8]> = secret.windows(WINDOW).collect();
    output.windows(WINDOW).any(|window| windows.contains(window))
}
