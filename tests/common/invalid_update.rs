//! Broken sets, one for each way in which a read or a check refuses a set.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_reload::Layer;
use rustls_reload_testkit::{CrlVariant, PrivateKey, Subject};

use super::Generation;

/// A way to break an update.
pub struct InvalidUpdate {
    pub what: &'static str,
    /// The layer that refuses the set in a reload.
    pub layer: Layer,
    /// The file that the error names.
    pub blamed: Option<&'static str>,
    pub invalidate: Box<dyn Fn(&Path)>,
}

/// A way that changes this file of the update.
pub fn invalidate(
    what: &'static str,
    layer: Layer,
    blamed: &'static str,
    invalidate: impl Fn(&Path) + 'static,
) -> InvalidUpdate {
    let invalidate = move |dir: &Path| invalidate(&dir.join(blamed));
    InvalidUpdate { what, layer, blamed: Some(blamed), invalidate: Box::new(invalidate) }
}

/// A way that replaces the content of a file.
fn text(
    what: &'static str,
    layer: Layer,
    blamed: &'static str,
    text: impl Fn(String) -> String + 'static,
) -> InvalidUpdate {
    invalidate(what, layer, blamed, move |path| {
        let was = fs::read_to_string(path).unwrap();
        fs::write(path, text(was)).unwrap();
    })
}

pub fn instead(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

pub fn link(target: &str, path: &Path) {
    super::platform::symlink(target, path);
}

const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// Returns a way for every refusal by a read or a check.
pub fn invalid_updates() -> Vec<InvalidUpdate> {
    let fifo = |path: &Path| {
        instead(path, |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        });
    };
    let other = Generation::new(1000).server;
    let (again, foreign) = (other.key.clone(), other.key);
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let expired = |path: &Path, window| {
        let identity = PrivateKey::p256();
        let pair = Generation::new(1001).ca.issue(&window, &identity);
        fs::write(path, pair.chain).unwrap();
        fs::write(path.with_file_name("tls.key"), pair.key).unwrap();
    };
    let yesterday = Subject::server("localhost").valid(now - 2 * day, now - day);
    let mut invalid_updates = vec![
        invalidate("missing", Layer::Read, "tls.crt", |path| fs::remove_file(path).unwrap()),
        invalidate("missing", Layer::Read, "ca.crt", |path| fs::remove_file(path).unwrap()),
        invalidate("a directory", Layer::Read, "tls.key", |path| {
            instead(path, |path| fs::create_dir(path).unwrap())
        }),
        invalidate("too large", Layer::Read, "tls.crt", |path| {
            fs::File::options().write(true).open(path).unwrap().set_len(5 << 20).unwrap();
        }),
        text("empty", Layer::Pem, "tls.crt", |_| String::new()),
        text("empty", Layer::Pem, "tls.key", |_| String::new()),
        text("empty", Layer::Pem, "ca.crt", |_| String::new()),
        text("cut", Layer::Pem, "tls.crt", |was| was[..was.len() / 2].to_owned()),
        text("cut", Layer::Pem, "tls.key", |was| was[..was.len() - 10].to_owned()),
        text("another label", Layer::Pem, "tls.crt", |was| was.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
        text("a certificate alone", Layer::Key, "tls.key", |_| GARBAGE.to_owned()),
        text("encrypted", Layer::Key, "tls.key", |was| was.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
        text("two keys", Layer::Key, "tls.key", move |was| was + &again),
        text("no base64", Layer::Pem, "tls.crt", |was| was.replace("MII", "*II")),
        text("no base64", Layer::Key, "tls.key", |was| was.replace("MI", "*I")),
        text("no certificate", Layer::Chain, "tls.crt", |_| GARBAGE.to_owned()),
        text("no intermediate", Layer::Chain, "tls.crt", |was| was + GARBAGE),
        text("another's key", Layer::Match, "tls.key", move |_| foreign.clone()),
        text("no CA", Layer::ClientCa, "ca.crt", |was| was + GARBAGE),
        text("damaged CA", Layer::Pem, "ca.crt", |was| was.replacen("MI", "*I", 1)),
        invalidate("expired", Layer::Validity, "tls.crt", move |path| expired(path, yesterday.clone())),
    ];
    if cfg!(unix) {
        invalid_updates.extend([
            invalidate("a fifo", Layer::Read, "tls.key", fifo),
            invalidate("a fifo", Layer::Read, "ca.crt", fifo),
            invalidate("a device", Layer::Read, "tls.crt", |path| {
                instead(path, |path| link("/dev/zero", path))
            }),
            invalidate("a link to itself", Layer::Read, "tls.crt", |path| {
                instead(path, |path| link("tls.crt", path))
            }),
            invalidate("a link to nothing", Layer::Read, "tls.key", |path| {
                instead(path, |path| link("nowhere", path))
            }),
        ]);
    }
    invalid_updates
}

/// Returns a way for every refusal because of the file of CRLs.
pub fn invalid_crl_updates() -> Vec<InvalidUpdate> {
    let ca = Generation::new(1002).ca;
    let now = SystemTime::now();
    let list = ca.crl(&[], (now, now + Duration::from_secs(86_400)), 1);
    let delta = ca.odd_crl(&list, CrlVariant::Delta).pem;
    vec![
        invalidate("missing", Layer::Read, "ca.crl", |path| fs::remove_file(path).unwrap()),
        text("empty", Layer::Pem, "ca.crl", |_| String::new()),
        text("damaged", Layer::Pem, "ca.crl", |was| was.replacen("MI", "*I", 1)),
        invalidate("the key in its place", Layer::Pem, "ca.crl", |path| {
            fs::copy(path.with_file_name("tls.key"), path).map(drop).unwrap();
        }),
        text("what changed since another", Layer::Crl, "ca.crl", move |_| delta.clone()),
    ]
}
