//! The files of a server, as arguments: the same for all commands, so that what was checked is what is served.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use rustls_reload::{ClientAuth, ServerBuilder, ServerReloader};

/// What to serve.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// The certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The private key of the leaf, PEM; it may be the same file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A further pair for clients that name one of its servers, by the names given or by those of its leaf; can be given
    /// several times
    #[arg(long, value_name = "CERT,KEY[,NAME...]", value_parser = pair)]
    pair: Vec<Pair>,
    /// Refuse clients that name no server, or one that no pair holds, instead of showing them the first pair
    #[arg(long)]
    strict_names: bool,
    /// The CAs that client certificates are verified against, PEM
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Load the client CAs as a file set of their own, not with the first pair
    ///
    /// A broken bundle then does not keep the certificate from being renewed, nor a broken certificate the bundle.
    /// The revocation lists in the directory of the bundle are in its set.
    #[arg(long, requires = "client_ca")]
    separate_client_ca: bool,
    /// A file of revocation lists of those CAs, DER or PEM; can be given several times
    ///
    /// A file in the directory of the client CAs is in their set. The files of any other directory are a file set of their
    /// own: a broken one refuses that set only. Directories are compared as they are given; links are not followed.
    #[arg(long, value_name = "FILE", requires = "client_ca", group = "crls")]
    crl: Vec<PathBuf>,
    /// A directory of which every file is one of revocation lists, names that begin with a dot left out; can be given several
    /// times
    ///
    /// Each directory is a file set of its own: a broken file in it refuses that set only.
    #[arg(long, value_name = "DIR", requires = "client_ca", group = "crls")]
    crl_dir: Vec<PathBuf>,
    /// Load all revocation lists in one file set with the client CAs, wherever they are
    #[arg(long, requires = "crls")]
    crls_with_client_ca: bool,
    /// What becomes of clients that only expired revocation lists cover, or whose intermediate only such lists cover
    #[arg(long, value_enum, requires = "crls", default_value = "refuse")]
    crl_expired: Expired,
    /// What becomes of clients that no revocation list covers, or whose intermediate none covers
    #[arg(long, value_enum, requires = "crls", default_value = "refuse")]
    crl_unknown: Unknown,
    /// Ask for the revocation of the client's own certificate only, not of the intermediates above it
    #[arg(long, requires = "crls")]
    crl_leaf_only: bool,
    /// What is asked of clients
    #[arg(long, value_enum, requires = "client_ca", default_value = "required")]
    client_auth: Mode,
    /// By how many seconds this machine's clock may be wrong, either way
    ///
    /// A new certificate is taken up so much after its notBefore, and refused as expired so much before its notAfter: it is
    /// served only once it is valid whatever the time really is. The dates of client certificates and of revocation lists go
    /// by the clock as it is.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    clock_skew: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// A client may have a certificate; if it has one, that is verified
    Optional,
    /// A client without a valid certificate is refused
    Required,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Expired {
    /// They are refused
    Refuse,
    /// The list counts as before
    Use,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Unknown {
    /// They are refused
    Refuse,
    /// They are let in
    Allow,
}

/// A further pair; without names it has those of its leaf.
#[derive(Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

fn pair(text: &str) -> Result<Pair, &'static str> {
    let mut parts = text.split(',');
    match (parts.next(), parts.next()) {
        (Some(cert), Some(key)) if !cert.is_empty() && !key.is_empty() => {
            Ok(Pair { cert: cert.into(), key: key.into(), names: parts.map(str::to_owned).collect() })
        }
        _ => Err("a chain and its key are wanted, as in CERT,KEY or CERT,KEY,a.example,*.b.example"),
    }
}

impl Files {
    /// The settings of a server of these files.
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
