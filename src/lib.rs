//! Swaps a running rustls server's certificate, key and client CAs when their files change: no restart, no failed
//! handshake, no mixture.
//!
//! What is promised:
//!
//! - A configuration is published only whole: its bytes were on disk together at one instant, they are of one update of
//!   their publisher, and the bytes that passed the checks are the bytes that are served.
//! - A configuration is published only after every check passed, the last of them a TLS handshake in memory against it.
//! - A reload that fails changes nothing: the same `Arc<ServerConfig>` goes on being served. It is told once, and tried
//!   again until it succeeds or the files change.
//! - Once the files hold a valid set, that set is served, whether or not an event told of it: within milliseconds where
//!   the publisher commits by one rename (Kubernetes volumes, release links), else once the files hold still.
//! - A session goes on resuming over a renewal, and over no change of what it was verified under: client CAs, what their
//!   revocation lists name, the mode of client authentication, names.
//! - A handshake waits for no file, no parse, no callback and no lock that a reload holds.
//!
//! What is not promised:
//!
//! - A publisher that rewrites its files one by one and pauses for longer than [`Timing::settle`] between two writes of
//!   one update can have half of it published, if that half passes every check.
//! - Memory that rustls or the crypto provider hold is not wiped; the buffers of this crate are.
//! - Connections that are open stay as they were shaken; none is closed because a certificate or a CA has gone. That trust has
//!   shrunk is told, and each connection can wait for it ([`Handle::trust_shrunk`]).
//! - The chain is not verified against any root, nor its names against anything: a client does that.
//! - On Windows no directory is held open, so every change has to hold still; a replaced directory or file is noticed by its
//!   number. Elsewhere than there and on Unix it is noticed by lengths and times only: see [`fs::PathFs`].
//! - Where panics abort, a panic in a build step ends the process.
//!
//! # How it works
//!
//! ```text
//! publisher (kubelet, certbot, cp ...)
//!     | changes files
//! watch + poll --hint--> machine --look--> snapshot --bytes--> parse --> validate --> rehearse
//!  (may lie)              ^  |           (one attempt)                       (handshake in memory)
//!                         |  '--wake me at t                                         |
//!                         '---------------- candidate or refusal <-------------------'
//!                            machine --publish--> cell (one Arc) <-- handshakes read here
//!                            machine --tell-----> events, status
//! ```
//!
//! One thread drives it. File events are hints and nothing more: losing all of them costs at most the poll of ten
//! seconds ([`Timing`] has all delays). Every directory on the way to every file is watched, links and their targets
//! included, so a swapped ancestor is seen like a rewritten file.
//!
//! # The shortest program
//!
//! ```no_run
//! # fn accept() -> Result<std::net::TcpStream, std::io::Error> { unimplemented!() }
//! use rustls_reload::ServerReloader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Strict: a missing file, a key that does not match or an unusable CA is an error here.
//! let tls = ServerReloader::builder("/etc/tls/tls.crt", "/etc/tls/tls.key")
//!     .on_event(|event| eprintln!("{event}"))
//!     .load()?;
//! tls.start()?;
//! loop {
//!     let socket = accept()?;
//!     // What is served at this moment; one atomic load.
//!     let connection = rustls::ServerConnection::new(tls.current())?;
//! #   drop((socket, connection));
//! }
//! # }
//! ```
//!
//! # Guarantees
//!
//! Each promise is an invariant with a number, stated in [`manual::invariants`] together with the tests that check it.
//! [`manual::design`] answers why things are as they are, [`manual::limits`] lists the limits.
//!
//! [`Reloader`] is the part that knows nothing of TLS: a [`Build`] step of one's own makes any value of any files.
//!
//! # Features
//!
//! - `notify` (default): file events. Without it the files are looked at every second.
//! - `tokio`: `Acceptor`, `Reloader::spawn_worker` with a shutdown receiver, `Handle::reload`.
//! - `tracing`: every event also goes to `tracing`, target `rustls_reload`.
//! - `ring`, `aws-lc-rs`: the crypto provider to use where none is passed and the process has no default.
//! - `testkit`: certificates and publishers for tests, this crate's and others'.
//!
//! None of them changes what another does.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod base64;
mod build;
mod cell;
mod clock;
pub mod crl;
mod date;
pub mod der;
mod engine;
mod error;
mod event;
mod expiry;
pub mod fs;
mod line;
pub mod machine;
pub mod manual;
pub mod pem;
mod reloader;
mod secret;
mod sha256;
mod shared;
pub mod snapshot;
mod status;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
mod tls;
#[cfg(feature = "tracing")]
mod trace;
mod trust;
mod unit;
mod walk;
pub mod watch;
mod worker;

pub use build::{Build, Built, Context, Shrunk, Whole};
pub use cell::{Cell, Published};
pub use clock::{Clock, Now, SystemClock};
pub use error::{Error, Layer};
pub use event::{EVENT_LIMIT, Event, Fingerprint, Leaf, Lost, Timestamp, WARNING_LIMIT};
pub use expiry::{Dated, EXPIRY_WARNINGS, Expiring};
pub use line::LINE_LIMIT;
pub use machine::Timing;
pub use reloader::{
    Builder, Events, Handle, PublishedAfter, Reloader, STOP_LIMIT, StartError, StartError::AlreadyRunning,
    Stuck, Told, TrustShrunk,
};
pub use secret::Secret;
pub use shared::Reload;
pub use status::{Refused, SetStatus, Status};
#[cfg(all(feature = "tokio", not(loom)))]
pub use tls::{Accepted, Acceptor};
pub use tls::{
    ClientAuth, HandshakeFailure, Inspection, Resolver, SESSION_LIMIT, ServerBuild, ServerBuilder,
    ServerReloader, ServerTls,
};
pub use trust::{Epoch, Trust};
pub use walk::{Entry, Motion, Seen, Step, Walk, WalkedDir};
