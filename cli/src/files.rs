//! The files of a server, as arguments. All commands share them, so that `check` loads what `serve`
//! serves.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ValueEnum,
    builder::{OsStringValueParser, TypedValueParser as _},
};
use rustls_reload::{ClientAuth, ServerBuilder, ServerReloader};

/// Arguments that name the files and the settings of a server.
#[derive(clap::Args)]
// The arguments of a group exclude each other unless the group says otherwise.
#[command(group(clap::ArgGroup::new("crls").multiple(true)))]
pub(crate) struct Files {
    /// The certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The private key of the leaf, PEM; it may be in the file of the chain
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// An SNI pair, for clients whose SNI is one of these names; without names, those of its leaf;
    /// repeatable
    #[arg(long, value_name = "CERT,KEY[,NAME...]", value_parser = OsStringValueParser::new().try_map(pair))]
    pair: Vec<Pair>,
    /// Reject clients that send no SNI, or one that matches no pair, instead of serving the default pair
    #[arg(long)]
    strict_names: bool,
    /// The CAs that client certificates are verified against, PEM
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Load the client CAs as a file set of their own, not with the default pair
    ///
    /// A broken bundle then does not block the renewal of the certificate, and a broken certificate
    /// does not block that of the bundle. CRLs in the directory of the bundle are in its
    /// set.
    #[arg(long, requires = "client_ca")]
    separate_client_ca: bool,
    /// A file of certificate revocation lists (CRLs) of the client CAs, DER or PEM; repeatable
    ///
    /// A file in the directory of the client CAs is in their set. The files of any other directory
    /// are a file set of their own: a broken file rejects that set only. Directories are compared as
    /// they are given; links are not followed.
    #[arg(long, value_name = "FILE", requires = "client_ca", group = "crls")]
    crl: Vec<PathBuf>,
    /// A directory of CRLs, except files whose names begin with a dot; repeatable
    ///
    /// Each directory is a file set of its own: a broken file in it rejects that set only.
    #[arg(long, value_name = "DIR", requires = "client_ca", group = "crls")]
    crl_dir: Vec<PathBuf>,
    /// Load all CRLs in one file set with the client CAs, wherever they are
    #[arg(long, requires = "crls")]
    crls_with_client_ca: bool,
    /// Policy for clients that only expired CRLs cover, or whose intermediate only such lists cover
    #[arg(long, value_enum, requires = "crls", default_value = "refuse")]
    crl_expired: Expired,
    /// Policy for clients that no CRL covers, or whose intermediate none covers
    #[arg(long, value_enum, requires = "crls", default_value = "refuse")]
    crl_unknown: Unknown,
    /// Check the revocation of the client's own certificate only, not of its intermediates
    #[arg(long, requires = "crls")]
    crl_leaf_only: bool,
    /// Whether a client needs a certificate
    #[arg(long, value_enum, requires = "client_ca", default_value = "required")]
    client_auth: Mode,
    /// Seconds by which this machine's clock may be wrong, in either direction
    ///
    /// A new certificate is published that long after its notBefore at the earliest, and rejected as
    /// expired from that long before its notAfter. So it is served only while it is valid by the true
    /// time. The dates of client certificates and of CRLs are compared with the clock as
    /// it is.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    clock_skew: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// A client may present a certificate; if it does, the certificate is verified
    Optional,
    /// A client without a valid certificate is rejected
    Required,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Expired {
    /// They are rejected
    Refuse,
    /// An expired list is used like a valid one
    Use,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Unknown {
    /// They are rejected
    Refuse,
    /// They are accepted
    Allow,
}

/// An SNI pair. Without names it has those of its leaf.
#[derive(Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

fn pair(text: OsString) -> Result<Pair, &'static str> {
    let text = text.to_str().ok_or("its paths have to be UTF-8, unlike those of --cert and --key")?;
    let mut parts = text.split(',');
    match (parts.next(), parts.next()) {
        (Some(cert), Some(key)) if !cert.is_empty() && !key.is_empty() => {
            Ok(Pair { cert: cert.into(), key: key.into(), names: parts.map(str::to_owned).collect() })
        }
        _ => Err("expected a chain and its key, as in CERT,KEY or CERT,KEY,a.example,*.b.example"),
    }
}

impl Files {
    /// Returns the builder of a server of these files.
    pub(crate) fn builder(&self) -> ServerBuilder {
        let skew = Duration::from_secs(self.clock_skew.into());
        let builder = ServerReloader::builder(&self.cert, &self.key).clock_skew(skew);
        let builder = builder.strict_names(self.strict_names).separate_client_ca(self.separate_client_ca);
        let builder = builder.crls_with_client_ca(self.crls_with_client_ca);
        let builder = self.pair.iter().fold(builder, |builder, pair| match pair.names.as_slice() {
            [] => builder.pair(&pair.cert, &pair.key),
            names => builder.pair_for(names, &pair.cert, &pair.key),
        });
        let builder = self.crl.iter().fold(builder, ServerBuilder::crl);
        let builder = self.crl_dir.iter().fold(builder, ServerBuilder::crl_dir);
        type Policy = fn(ServerBuilder) -> ServerBuilder;
        let policies: [(bool, Policy); 3] = [
            (self.crl_expired == Expired::Use, ServerBuilder::ignore_revocation_expiration),
            (self.crl_unknown == Unknown::Allow, ServerBuilder::allow_unknown_revocation_status),
            (self.crl_leaf_only, ServerBuilder::only_check_end_entity_revocation),
        ];
        let selected = policies.iter().filter(|(selected, _)| *selected);
        let builder = selected.fold(builder, |builder, (_, policy)| policy(builder));
        match &self.client_ca {
            None => builder,
            Some(bundle) => builder.client_ca(
                bundle,
                match self.client_auth {
                    Mode::Optional => ClientAuth::Optional,
                    Mode::Required => ClientAuth::Required,
                },
            ),
        }
    }
}
