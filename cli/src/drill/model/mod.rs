//! The data of the drill.

mod change;
mod observed;
mod scenario;

pub(super) use change::*;
pub(super) use observed::*;
pub(super) use scenario::*;
