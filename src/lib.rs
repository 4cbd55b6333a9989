//! Swaps a running rustls server's certificate, key and client CAs when their files change.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod build;
mod cell;
mod clock;
mod date;
pub mod der;
mod engine;
mod error;
mod event;
pub mod fs;
pub mod machine;
pub mod manual;
pub mod pem;
mod reloader;
mod secret;
mod shared;
pub mod snapshot;
mod status;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
mod tls;
#[cfg(feature = "tracing")]
mod trace;
mod walk;
pub mod watch;
mod worker;

pub use build::{Build, Built, Context};
pub use cell::{Cell, Published};
pub use clock::{Clock, Now, SystemClock};
pub use error::{Error, Layer};
pub use event::{EVENT_LIMIT, Event, Fingerprint, Leaf, Timestamp};
pub use machine::Timing;
pub use reloader::{
    AlreadyRunning, Builder, Events, Handle, PublishedAfter, Reloader, STOP_LIMIT, Stuck, Told,
};
pub use secret::Secret;
pub use shared::Reload;
pub use status::{Refused, Status};
#[cfg(all(feature = "tokio", not(loom)))]
pub use tls::{Accepted, Acceptor};
pub use tls::{ClientAuth, Resolver, ServerBuild, ServerBuilder, ServerReloader, ServerTls};
pub use walk::{Entry, Motion, Seen, Step, Walk, WalkedDir};
