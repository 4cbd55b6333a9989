//! Carries out what was decided, publishes the result, and is what callers hold.

pub(crate) mod cell;
pub(crate) mod engine;
pub(crate) mod reloader;
pub(crate) mod shared;
pub(crate) mod worker;
