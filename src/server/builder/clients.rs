//! The settings by which a server verifies its clients.

use std::path::Path;

use super::ServerBuilder;
use crate::server::trust::ClientAuth;

/// # Client certificates and CRLs
impl ServerBuilder {
    /// Verifies client certificates against the CAs of this bundle. Without this call, the server
    /// requests no client certificates.
    ///
    /// The bundle is in the file set of the default pair, unless
    /// [`separate_client_ca`](Self::separate_client_ca) makes it a set of its own.
    ///
    /// A certificate that may not issue clients (CA:FALSE, for example), and a CA by which rustls
    /// can verify no client, are ignored with a warning. A bundle of nothing else rejects its file
    /// set. The dates of a CA are ignored. The manual has a table:
    /// [`client_cas`](crate::manual::client_cas). The last call counts, so several CAs go into one
    /// bundle.
    #[must_use]
    pub fn client_ca(mut self, bundle: impl AsRef<Path>, mode: ClientAuth) -> Self {
        self.client_ca = Some((bundle.as_ref().to_owned(), mode));
        self
    }

    /// Rejects clients that a CRL in this file revokes. Needs [`client_ca`](Self::client_ca).
    ///
    /// A CRL (certificate revocation list, RFC 5280) is the signed list of the certificates that a
    /// CA has revoked. Each call adds a file.
    ///
    /// The file holds one CRL in DER, or any number in PEM. A missing, unreadable, empty or
    /// malformed file rejects its file set. So does a CRL with the name of a CA of the bundle that
    /// this CA did not sign, unless another CRL has that name. A broken file never means that no
    /// certificate is revoked.
    ///
    /// A file in the directory of the client CA bundle is in the bundle's file set. All files of
    /// any other directory are a file set of their own, since another publisher puts them there. A
    /// broken file keeps that set at its last good version, and the certificate goes on being
    /// renewed. Directories are compared as they are given, made absolute, without following
    /// symlinks: `/tls/..data/ca.crl` and `/tls/ca.crt` are in two sets. See
    /// [`crls_with_client_ca`](Self::crls_with_client_ca).
    ///
    /// All file sets that are served decide together which clients are accepted: a change of one
    /// set is evaluated with the served files of the others.
    ///
    /// A client is rejected if any CRL of an issuer in its chain lists the certificate below it, in
    /// whatever order the CRLs were issued or loaded. Otherwise each certificate of its chain needs
    /// a CRL that covers it
    /// ([`allow_unknown_revocation_status`](Self::allow_unknown_revocation_status)) and has not
    /// expired ([`ignore_revocation_expiration`](Self::ignore_revocation_expiration)).
    /// [`design`](crate::manual::design) has the rules.
    ///
    /// A first load takes an expired CRL, with a warning. A reload rejects one while the served CRL
    /// is valid, and takes it, with a warning, once that has expired too. A CRL older than the
    /// served one is taken with a warning. Dates are compared with the clock as it is, without
    /// [`clock_skew`](Self::clock_skew).
    #[must_use]
    pub fn crl(mut self, file: impl AsRef<Path>) -> Self {
        self.crls.push(file.as_ref().to_owned());
        self
    }

    /// Rejects clients that a CRL in this directory revokes: [`crl`](Self::crl) for every file in
    /// it. The directory is a file set of its own, as with [`crl`](Self::crl).
    ///
    /// The directory is watched: adding, removing or replacing a file in it is a change of the set.
    /// A file counts if it is a regular file or a symlink to one, and its name does not begin with
    /// a dot. Subdirectories are ignored.
    ///
    /// A directory that is missing, unreadable or without a file rejects the set, and so does a
    /// file in it that holds no CRL. Write a file under a name that begins with a dot, and rename
    /// it.
    ///
    /// Nothing shows whether another file will follow, so a change has to settle. The exception is
    /// a directory that moves together with all other files of the set and keeps its number of
    /// files, as behind a release symlink: it is taken at once.
    #[must_use]
    pub fn crl_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.crl_dirs.push(dir.as_ref().to_owned());
        self
    }

    /// Sets whether the client CA bundle, with the CRLs in its directory, is a file set of its own.
    /// By default it is in one file set with the default pair: all of them change together, or none
    /// does.
    ///
    /// Use `true` if another program writes the bundle than the one that writes the pair. Then a
    /// broken bundle does not stop the renewal of the certificate, and a broken pair does not stop
    /// an update of the bundle.
    #[must_use]
    pub fn separate_client_ca(mut self, separate: bool) -> Self {
        self.separate_client_ca = separate;
        self
    }

    /// Sets whether all CRLs are in the file set of the client CA bundle, wherever they are. By
    /// default the CRLs of each other directory are a file set of their own.
    ///
    /// One set is for a publisher that commits bundle and CRLs together, as behind one release
    /// symlink. They are then published together, and a broken CRL rejects the whole set.
    #[must_use]
    pub fn crls_with_client_ca(mut self, together: bool) -> Self {
        self.crls_with_client_ca = together;
        self
    }

    /// Checks the revocation of the client's own certificate only. By default the intermediates
    /// above it are checked too.
    #[must_use]
    pub fn only_check_end_entity_revocation(mut self) -> Self {
        self.revocation.end_entity_only = true;
        self
    }

    /// Accepts clients that no CRL covers. By default they are rejected. A client that only an
    /// expired CRL covers is rejected in either case.
    #[must_use]
    pub fn allow_unknown_revocation_status(mut self) -> Self {
        self.revocation.allow_unknown = true;
        self
    }

    /// Goes on using a CRL after the date by which the next one was due. By default a client that
    /// only such CRLs cover is rejected from then on.
    #[must_use]
    pub fn ignore_revocation_expiration(mut self) -> Self {
        self.revocation.ignore_expiration = true;
        self
    }
}
