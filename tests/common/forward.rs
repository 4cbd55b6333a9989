//! Ports and verifiers that leave most of the work to another one.

use std::sync::{Arc, Mutex};

use rustls::{
    DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Implements the methods of `Fs` with those of a field, without `open` and `list`.
macro_rules! forward_fs {
    ($field:tt) => {
        fn root(&self, anchor: &std::path::Path) -> std::io::Result<Self::Dir> {
            self.$field.root(anchor)
        }

        fn open_dir(&self, at: &Self::Dir, name: &std::ffi::OsStr) -> std::io::Result<Self::Dir> {
            self.$field.open_dir(at, name)
        }

        fn stat_dir(&self, dir: &Self::Dir) -> std::io::Result<rustls_reload::fs::Stat> {
            self.$field.stat_dir(dir)
        }

        fn stat(&self, at: &Self::Dir, name: &std::ffi::OsStr) -> std::io::Result<rustls_reload::fs::Stat> {
            self.$field.stat(at, name)
        }

        fn read_link(&self, at: &Self::Dir, name: &std::ffi::OsStr) -> std::io::Result<std::path::PathBuf> {
            self.$field.read_link(at, name)
        }

        fn stat_file(&self, file: &Self::File) -> std::io::Result<rustls_reload::fs::Stat> {
            self.$field.stat_file(file)
        }

        fn read(&self, file: &mut Self::File, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.$field.read(file, buffer)
        }
    };
}
pub(crate) use forward_fs;

/// A verifier of servers for the life of a configuration: it asks the verifier that was set last.
#[derive(Debug)]
pub struct CurrentVerifier(Mutex<Arc<dyn ServerCertVerifier>>);

impl CurrentVerifier {
    pub fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self(Mutex::new(verifier))
    }

    pub fn set(&self, verifier: Arc<dyn ServerCertVerifier>) {
        *self.0.lock().unwrap() = verifier;
    }

    fn now(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

impl ServerCertVerifier for CurrentVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.now().verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.now().verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.now().verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}
