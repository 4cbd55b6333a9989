//! Test kit for servers that embed [`rustls_reload`]: certificates and CRLs made on the
//! spot, directories that a publisher of the field writes, a client that shows what is served, and a
//! file system that fails when a test says so.
//!
//! A test of a rotation, from the files to what a new client is served:
//!
//! ```
//! use rustls_reload_testkit::{Authority, Client, Volume};
//! # use std::{error::Error, io, net::{SocketAddr, TcpListener}, path::PathBuf, sync::Arc, thread, time::Duration};
//! # const LIMIT: Duration = Duration::from_secs(60);
//! # // A stand-in for the embedder's server.
//! # fn start_your_server(chain: PathBuf, key: PathBuf) -> Result<SocketAddr, Box<dyn Error>> {
//! #     let reloader = rustls_reload::ServerReloader::builder(chain, key).start()?;
//! #     let listener = TcpListener::bind("127.0.0.1:0")?;
//! #     let address = listener.local_addr()?;
//! #     thread::spawn(move || {
//! #         for tcp in listener.incoming() {
//! #             let mut tls = rustls::ServerConnection::new(reloader.config()).expect("a connection");
//! #             let _ = tls.complete_io(&mut tcp.expect("a client"));
//! #         }
//! #     });
//! #     Ok(address)
//! # }
//! # fn main() -> Result<(), Box<dyn Error>> {
//! let dir = tempfile::tempdir()?;
//! let (ca, volume) = (Authority::root("test CA"), Volume::kubelet(dir.path()));
//! let (old, new) = (ca.server("localhost"), ca.server("localhost"));
//! volume.publish(&old)?;
//! let address = start_your_server(volume.chain(), volume.key())?;
//! let client = Client::new(&ca, "localhost");
//! client.until_served(address, &old, LIMIT)?;
//! volume.publish(&new)?;
//! client.until_served(address, &new, LIMIT)?;
//! # Ok(())
//! # }
//! ```
//!
//! The kit brings `ring` for its certificates. It enables no crypto provider of rustls, so a server
//! under test uses the one that it uses in production, and the client uses the same.
//!
//! Any release may change any of it. Hidden items are for the tests of `rustls-reload` itself.

#[doc(hidden)]
pub mod armor;
mod certs;
mod client;
mod intercept_fs;
mod leaks;
mod lists;
mod publish;
mod revocation;
mod volume;

pub use certs::{Authority, Pair, PrivateKey, Subject};
#[doc(hidden)]
pub use client::Observer;
pub use client::{Client, Handshake};
pub use intercept_fs::{Hook, InterceptFs, Verb};
#[doc(hidden)]
pub use leaks::{WINDOW, Windows, leaks};
pub use lists::Crl;
#[doc(hidden)]
pub use lists::{CrlVariant, value};
pub use publish::NamedFile;
#[doc(hidden)]
pub use publish::{Op, kubelet_first, kubelet_update, wait_for_tick};
#[doc(hidden)]
pub use revocation::{HOLD, ListSpec};
#[doc(hidden)]
pub use rustls_reload::internal::described_leaf;
pub use volume::Volume;
