//! The bodies of the fuzz targets; `cargo test` replays the committed corpus through them.
//!
//! Each body accepts any bytes, must neither panic nor take long, and checks properties that hold
//! for every input. An accepted input is equal after it is encoded and parsed again. A rejected
//! input changes nothing that is served. Every decision agrees with a simple reference model.

mod crl;
mod names;
mod paths;
mod redact;
pub mod seeds;
mod served;
mod text;
mod worlds;

pub use crl::crl_parse;
pub use names::server_names;
pub use paths::plan_walk;
pub use redact::redaction;
pub use served::{Role, apply};
pub use text::{ca_bundle, chain_parse, der_fields, key_parse, pem_parse};
pub use worlds::{machine_steps, snapshot_ops};

/// The body of a target.
pub type Body = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("ca_bundle", ca_bundle),
    ("chain_parse", chain_parse),
    ("crl_parse", crl_parse),
    ("der_fields", der_fields),
    ("key_parse", key_parse),
    ("machine_steps", machine_steps),
    ("pem_parse", pem_parse),
    ("plan_walk", plan_walk),
    ("redaction", redaction),
    ("server_names", server_names),
    ("snapshot_ops", snapshot_ops),
];

/// Reads an input byte by byte. It continues with zeros after its end, so every input is valid.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns a number below `limit`, from two bytes.
    fn below(&mut self, limit: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number % limit.max(1)
    }

    /// Returns one of these values.
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()].clone()
    }
}
