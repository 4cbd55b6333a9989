//! Says what happened: events, the status, and the error that both carry.

pub(crate) mod date;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod expiry;
#[cfg(feature = "ocsf")]
pub(crate) mod json;
pub(crate) mod line;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(feature = "ocsf")]
pub(crate) mod ocsf;
pub(crate) mod status;
pub(crate) mod steps;
#[cfg(feature = "tracing")]
pub(crate) mod trace;
