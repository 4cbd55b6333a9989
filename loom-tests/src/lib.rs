//! Small worlds in which every interleaving of the threads of the shipped code is run.
//!
//! A model's body is written once over [`Design`]. Under `--cfg loom` it runs in every
//! interleaving; otherwise it runs many times on the standard library's threads. [`Shipped`] is the
//! crate itself. `wrong` has designs in which one step is out of order, for which the same bodies
//! must fail.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // reason: what fails here is a failed model, and counts are printed

mod connecting;
mod disk;
mod model;
mod shipped;
mod trusting;
#[cfg(loom)]
pub mod wrong;
#[cfg(loom)]
pub mod wrong_trust;

pub use connecting::{
    ClientSessions, Connecting, Connection, Credentials, Kept, RotatedConnection, ShippedClient, connect,
    connect_rotating, load_client,
};
pub use disk::{Disk, Whole};
pub use model::{Notify, block_on, bounded, fallible, model, quiet, spawn, started};
#[cfg(loom)]
pub use model::{must_fail, must_fail_within, must_pass};
pub use rustls_reload::{Published, Reload};
pub use shipped::{Shipped, Surroundings};
pub use trusting::{
    Cas, CompletedHandshake, RotatedHandshake, Session, ShippedTrust, Shrank, Store, Trusting, Trusts,
    handshake, handshake_rotating,
};

#[cfg(loom)]
pub use loom::thread;
#[cfg(not(loom))]
pub use std::thread;

use std::{pin::Pin, sync::Arc};

/// A future of the first publication after a generation.
pub type After = Pin<Box<dyn Future<Output = Arc<Published<Whole>>> + Send>>;

/// The operations of a reloader that the models use. A wrong design implements them too.
pub trait Design: Send + Sync + Sized + 'static {
    /// Makes a design that has loaded `disk` and calls `observer` with each later publication.
    fn load(disk: &Disk, observer: impl Fn(&Self::Handle, &Published<Whole>) + Send + Sync + 'static)
    -> Self;

    /// A handle for the threads other than the owner's.
    type Handle: Clone + Send + Sync + 'static;

    /// Returns a handle.
    fn handle(&self) -> Self::Handle;
    /// Starts the driver. Returns false if it was running.
    fn start(&self) -> bool;
    /// Stops the driver and waits for its end. Returns false if that took too long.
    fn stop(&self) -> bool;
    /// Returns the value that a handshake gets.
    fn current(handle: &Self::Handle) -> Arc<Published<Whole>>;
    /// Starts the driver and waits until it has begun.
    fn start_and_begin(&self);
    /// Returns whether the status says that the driver runs.
    fn is_running(handle: &Self::Handle) -> bool;
    /// Returns the generation that the status names.
    fn status(handle: &Self::Handle) -> u64;
    /// Reloads manually.
    fn reload_now(handle: &Self::Handle) -> Reload;
    /// Waits for a publication after `generation`.
    fn wait_published(handle: &Self::Handle, generation: u64) -> Option<Arc<Published<Whole>>>;
    /// Returns a future of the first publication after `generation`.
    fn published(handle: &Self::Handle, generation: u64) -> After;
}
