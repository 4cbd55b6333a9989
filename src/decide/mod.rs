//! Decides when to read, build and publish, and whether sessions go on.

pub(crate) mod file_set;
pub(crate) mod machine;
pub(crate) mod trust;
