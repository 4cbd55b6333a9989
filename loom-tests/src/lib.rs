//! Small worlds in which every interleaving of the shipped code's threads is tried.
//!
//! A model's body is written once over [`Design`]. Under `--cfg loom` it runs in every interleaving; otherwise it runs
//! many times on the standard library's threads. [`Shipped`] is the crate itself; `wrong` holds designs in which one
//! step is out of order, and the same bodies must fail over them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // reason: what fails here is a failed model, and counts are printed

mod disk;
mod model;
mod shipped;
mod trusting;
#[cfg(loom)]
pub mod wrong;
#[cfg(loom)]
pub mod wrong_trust;

pub use disk::{Disk, Whole};
pub use model::{Notify, block_on, bounded, fallible, model, quiet, spawn, started};
#[cfg(loom)]
pub use model::{must_fail, must_pass};
pub use rustls_reload::{Published, Reload};
pub use shipped::{Shipped, Surroundings};
pub use trusting::{Cas, Session, Shaken, ShippedTrust, Shrank, Store, Trusting, Trusts, shake};

#[cfg(loom)]
pub use loom::thread;
#[cfg(not(loom))]
pub use std::thread;

use std::{pin::Pin, sync::Arc};

/// A future of the first publication after a generation.
pub type After = Pin<Box<dyn Future<Output = Arc<Published<Whole>>> + Send>>;

/// What a model needs of a reloader, so that a wrong one can stand in its place.
pub trait Design: Send + Sync + Sized + 'static {
    /// A design that has loaded `disk` and calls `observer` with each later publication.
    fn load(disk: &Disk, observer: impl Fn(&Self::Handle, &Published<Whole>) + Send + Sync + 'static)
    -> Self;

    /// What threads other than the owner's use.
    type Handle: Clone + Send + Sync + 'static;

    /// A handle.
    fn handle(&self) -> Self::Handle;
    /// Starts the driver; whether it was not running.
    fn start(&self) -> bool;
    /// Stops the driver and waits for it; false where that took too long.
    fn stop(&self) -> bool;
    /// What a handshake gets.
    fn current(handle: &Self::Handle) -> Arc<Published<Whole>>;
    /// Starts the driver and waits until it has begun.
    fn start_and_begin(&self);
    /// Whether the driver runs, as the status says.
    fn is_running(handle: &Self::Handle) -> bool;
    /// The generation that the status names.
    fn status(handle: &Self::Handle) -> u64;
    /// Reloads by hand.
    fn reload_now(handle: &Self::Handle) -> Reload;
    /// Waits for a publication after `generation`.
    fn wait_published(handle: &Self::Handle, generation: u64) -> Option<Arc<Published<Whole>>>;
    /// The same as a future.
    fn published(handle: &Self::Handle, generation: u64) -> After;
}
