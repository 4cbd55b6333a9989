//! Reloads the certificate, key, client CAs and certificate revocation lists (CRLs) of a running
//! rustls server when their files change, and the identity and roots of a client.
//!
//! There is no restart, no failed handshake and no mixture of two updates:
//!
//! - **Whole.** The files of one publisher form a file set and are published together. Their bytes
//!   were on disk at one instant. They belong to one update, unless the publisher pauses for too
//!   long within it (see [Limits](#limits)). The bytes that passed the checks are the bytes that
//!   are served.
//! - **Valid.** A configuration is published only after every check passed. The last check is a TLS
//!   handshake in memory against it.
//! - **Kept.** A rejected reload changes nothing: the same `Arc<ServerConfig>` stays served. The
//!   rejection is reported once. The reload is retried until it succeeds or the files change.
//! - **Converging.** Once the disk holds a valid file set, that set is served, even if all file
//!   events are lost. With file events, that takes milliseconds where the publisher commits by one
//!   rename (Kubernetes volumes, release links), and otherwise the settle time of 500 ms. Without
//!   them, the next poll finds the change.
//! - **Resuming.** Sessions keep resuming over a renewal. No session resumes over a change of the
//!   client CAs, of the revoked certificates, of the client authentication mode or of a
//!   certificate's names.
//! - **Prompt.** A handshake waits for no file, no parser, no callback and no lock that a reload
//!   holds.
//!
//! # The shortest program
//!
//! With tokio (feature `tokio`), `incoming` makes the handshakes:
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # mod with_tokio {
//! use rustls_reload::ServerReloader;
//! use tokio::net::TcpListener;
//!
//! # async fn serve<C>(_: C) {}
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // A missing file, a key that does not match or an unusable CA is an error here.
//! let tls = ServerReloader::builder("tls.crt", "tls.key")
//!     .on_event(|event| eprintln!("{event}"))
//!     .start_async()
//!     .await?;
//! let mut incoming = tls.incoming(TcpListener::bind("0.0.0.0:8443").await?);
//! // Each connection gets the configuration that is served when its handshake begins.
//! while let Some(connection) = incoming.accept().await {
//!     tokio::spawn(serve(connection));
//! }
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! Without it, `config` returns the configuration for the next connection:
//!
//! ```no_run
//! # fn accept() -> Result<std::net::TcpStream, std::io::Error> { unimplemented!() }
//! use rustls_reload::ServerReloader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = ServerReloader::builder("tls.crt", "tls.key").start()?;
//! loop {
//!     let socket = accept()?;
//!     // One atomic load.
//!     let connection = rustls::ServerConnection::new(tls.config())?;
//! #   drop((socket, connection));
//! }
//! # }
//! ```
//!
//! # What rotates where
//!
//! | changed files | new handshakes | sessions |
//! |---|---|---|
//! | chain and key, same names | get the new certificate | keep resuming |
//! | chain and key, other names | get the new certificate | start afresh |
//! | client CAs, same names, keys and constraints | use the new bundle | keep resuming |
//! | client CAs, any other change | use the new bundle | start afresh |
//! | CRLs, same certificates named | use the new lists | keep resuming |
//! | CRLs, other certificates named | use the new lists | start afresh |
//!
//! [`ServerBuilder::client_ca`], [`ServerBuilder::crl`] and [`ServerBuilder::crl_dir`] add the
//! files that clients are verified against. [`ServerBuilder::pair`] adds a pair for clients whose
//! SNI is one of its names. Each file set is accepted or rejected as a whole, and keeps its own
//! last good state.
//!
//! A client ([`ClientReloader`]) rotates its identity and the roots that it verifies servers by:
//!
//! | changed files | new handshakes | sessions |
//! |---|---|---|
//! | identity, same certificates and key file | go on as before | keep resuming |
//! | identity, any other change | show the new certificate | start afresh |
//! | roots, same names, keys and constraints | use the new bundle | keep resuming |
//! | roots, any other change | use the new bundle | start afresh |
//!
//! [`manual::clients`] has the rule in full, and says what to give to which client.
//!
//! A client that resumes a session is sent no certificate (RFC 8446, section 2.2). It shows that of
//! the handshake by which the session began. To see a renewal, connect without a session, as each
//! run of `openssl s_client` does. After the theft of a key, replace the pair, have the old
//! certificate revoked, and restart the server: every client then makes a full handshake. A server
//! with [`resume_over_reloads(false)`](ServerBuilder::resume_over_reloads) needs no restart.
//!
//! Open connections keep the configuration that they were accepted with. New connections get the
//! served configuration in one of these ways:
//!
//! - [`ServerReloader::config`] returns the whole configuration for the next connection.
//! - [`ServerReloader::incoming`] accepts TLS connections from a listener of tokio (feature
//!   `tokio`), for tonic, and for axum (feature `axum`). [`ServerReloader::acceptor`] makes one
//!   handshake.
//! - [`Reloader::on_publish`] passes each new configuration to a server that can replace its own.
//! - [`ServerReloader::rotating_config`] is for a server that takes one configuration for life. No
//!   session of it resumes.
//!
//! # How it works
//!
//! ```text
//! publisher (kubelet, certbot, cp ...)
//!     | changes files
//! watch + poll --hint--> machine --read--> snapshot --bytes--> parse, validate, rehearse
//!                         ^  |                                           |
//!                         |  '--wake me at t                             |
//!                         '---------- valid or rejected <----------------'
//!                            machine --publish--> cell (one Arc) <-- handshakes read here
//!                            machine --report---> events, status
//! ```
//!
//! One thread does all of this. File events are only hints: if all of them are lost, a change is
//! noticed up to ten seconds later, at the next poll. [`Timing`] has all delays. Every directory on
//! the way to every file is watched, including the directories of symlinks and of their targets. So
//! a replaced ancestor is noticed like a rewritten file.
//!
//! Each promise is an invariant with a number. [`manual::invariants`] states them all and lists the
//! tests that check each. [`manual::design`] explains the design. [`Reloader`] is the generic part
//! without TLS: a [`Build`] step of your own makes any value from any files.
//!
//! # Features
//!
//! - `notify` (default): file events. Without it the files are polled every second.
//! - `rustls` (default): the server and the client. Without it the crate is the generic
//!   [`Reloader`], and depends neither on rustls nor on a parser of certificates. `tokio`, `ring`
//!   and `aws-lc-rs` include it.
//! - `tokio`: [`Incoming`], [`Acceptor`], [`Connector`], [`Reloader::reload`], and
//!   [`Reloader::spawn_worker`] with a shutdown receiver.
//! - `axum`: [`Incoming`] is a listener of `axum::serve`.
//! - `tracing`: every event also goes to `tracing`, target `rustls_reload`. The level is WARN for a
//!   rejection, lost file events, files that keep changing, an end that is near or over, and a
//!   warning; it is INFO for all others. The steps of a reload and the spans of its stages follow at
//!   DEBUG, target `rustls_reload::steps`.
//! - `ocsf`: [`Ocsf`] renders events in the form of OCSF, one JSON object a line.
//! - `metrics`: reloads, the state of the files and handshakes go to the facade `metrics`.
//!   [`manual::embedding`] lists them.
//! - `ring`, `aws-lc-rs`: the crypto provider where none is passed and the process has no default.
//!
//! No feature changes the behaviour of another. Certificates, publishers and a client for tests of
//! your own are in the crate `rustls-reload-testkit`.
//!
//! # Limits
//!
//! [`manual::limits`] lists every limit. The following is not promised:
//!
//! - A publisher that rewrites its files one by one may pause for longer than [`Timing::settle`]
//!   between two writes of one update. Half of that update can then be published, if that half
//!   passes every check.
//! - Memory that rustls or the crypto provider hold is not wiped. The buffers of this crate are.
//! - No open connection is closed because a certificate or a CA was removed. Reduced trust is
//!   reported, and each connection can wait for that ([`Reloader::trust_reduced`]).
//! - The served chain is not verified against any root, nor its names against anything. Clients do
//!   that.
//! - On Windows a snapshot holds no directory open, so every change has to settle. A replaced
//!   directory or file is noticed by its file id. On platforms other than Unix and Windows it is
//!   noticed by lengths and times only: see [`fs::PathFs`].
//! - Where panics abort, a panic in a build step ends the process.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Only tests set it.
#![cfg_attr(docsrs, doc(auto_cfg(hide(loom))))]
// A few functions of the core have no other caller than the server. The builds with it report dead
// code in all of the core.
#![cfg_attr(not(feature = "rustls"), allow(dead_code))]
// The pages link to items of these features. The documentation of all features reports the links
// that are broken.
#![cfg_attr(
    not(all(feature = "rustls", feature = "tokio", feature = "ocsf")),
    allow(rustdoc::broken_intra_doc_links)
)]

mod build;
#[cfg(feature = "rustls")]
mod client;
mod clock;
mod decide;
mod drive;
pub mod fs;
#[doc(hidden)]
pub mod internal;
pub mod manual;
#[cfg(feature = "rustls")]
mod pki;
mod probe;
mod read;
mod report;
#[cfg(feature = "rustls")]
mod server;
mod sync;
pub mod watch;

pub use build::{Build, Built, Context, InitialBuild, TrustReduction};
#[cfg(feature = "rustls")]
pub use client::{ClientBuilder, ClientReloader, ClientTls};
#[cfg(all(feature = "tokio", not(loom)))]
pub use client::{Connected, Connector};
pub use clock::{Clock, Now, SystemClock};
pub use decide::machine::Timing;
pub use drive::{
    cell::Published,
    reloader::{
        Builder, Delivered, Events, PublishedAfter, Reloader, STOP_LIMIT, StartError, StopTimeout,
        TrustReduced,
    },
    shared::Reload,
};
pub use read::snapshot::{Files, PathSet};
#[cfg(feature = "ocsf")]
pub use report::ocsf::Ocsf;
pub use report::{
    error::{Error, Layer, Warning},
    event::{
        CertificateValidity, EVENT_LIMIT, Event, EventStatus, Fingerprint, Leaf, RemovedTrust, Severity,
        Timestamp,
    },
    expiry::{EXPIRY_WARNINGS, Expiring},
    status::{Refused, SetStatus, Status},
};
#[cfg(all(feature = "axum", not(loom)))]
pub use server::ConnectionInfo;
#[cfg(all(feature = "tokio", not(loom)))]
pub use server::{Accepted, Acceptor, FailedHandshake, HANDSHAKE_LIMIT, Incoming, Listener, MAX_HANDSHAKES};
#[cfg(feature = "rustls")]
pub use server::{
    ClientAuth, HandshakeFailure, Inspection, SESSION_LIMIT, ServerBuilder, ServerReloader, ServerTls,
};
