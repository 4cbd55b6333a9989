//! Reads the files of a set as they were at one instant.

pub(crate) mod secret;
pub(crate) mod snapshot;
pub(crate) mod walk;
