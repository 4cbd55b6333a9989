//! The rows of the tables, and the expected outcome of each.

use std::{path::Path, time::Duration};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_reload_testkit::Volume;

/// How a server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Bytes that come back.
    Echo,
    Http1,
    Http2,
    /// The health service of gRPC.
    Grpc,
    /// Bytes that come back, on a stream of QUIC.
    Quic,
}

impl Wire {
    /// Returns the protocols to offer by ALPN.
    pub fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::Echo => &[],
            Self::Http1 => &["http/1.1"],
            Self::Http2 | Self::Grpc => &["h2"],
            Self::Quic => &["hello"],
        }
    }
}

/// A row of the tables: an example, and what is expected of it.
pub struct Row {
    /// The file in `examples/`.
    pub example: &'static str,
    /// The title, where it is not that of the crate.
    pub title: &'static str,
    /// The crate whose version is shown.
    pub package: &'static str,
    pub wire: Wire,
    /// Whether sessions are resumed.
    pub resumes: bool,
    /// Whether open connections end when trust is reduced.
    pub drains: bool,
    /// Whether each reload is reported.
    pub reports: bool,
    /// The mistake of a wrong server or client, which the variable `WRONG` names.
    pub wrong: Option<&'static str>,
    /// The checks that have to fail, by their numbers, and the reason.
    pub fails: &'static [usize],
    pub why: &'static str,
    /// The version of TLS in which they have to fail, if they pass in the other.
    pub only: Option<Version>,
}

pub type Version = &'static SupportedProtocolVersion;

/// The way in which files change.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// As kubelet does: all files by one rename of `..data`.
    Kubelet,
    /// One file after another, each truncated and written.
    InPlace,
}

impl Mode {
    pub fn volume(self, dir: &Path) -> Volume {
        match self {
            Self::Kubelet => Volume::kubelet(dir),
            Self::InPlace => Volume::in_place(dir),
        }
    }
}

/// One run through the checks of a row.
#[derive(Clone, Copy)]
pub struct Case {
    pub row: &'static Row,
    pub mode: Mode,
    pub version: Version,
}

impl Case {
    pub fn has_to_fail(&self, check: usize) -> bool {
        self.row.fails.contains(&check) && self.row.only.is_none_or(|version| version == self.version)
    }

    /// Returns how long a check waits for a change after the reload was reported. By then it is
    /// served, so that one attempt shows a mistake. The time is for files that were not written
    /// fast enough to be one update.
    pub fn patience(&self, check: usize) -> Duration {
        match self.row.reports && self.has_to_fail(check) {
            true => Duration::ZERO,
            false => PATIENCE,
        }
    }
}

pub const PATIENCE: Duration = Duration::from_secs(20);

impl Row {
    const fn server(example: &'static str, package: &'static str, wire: Wire) -> Self {
        Self {
            example,
            title: package,
            package,
            wire,
            resumes: true,
            drains: false,
            reports: true,
            wrong: None,
            fails: &[],
            why: "",
            only: None,
        }
    }

    const fn wrong(kind: &'static str, fails: &'static [usize], why: &'static str) -> Self {
        let row = Self::server("wrong_server", "tokio-rustls", Wire::Echo);
        Self { title: kind, wrong: Some(kind), fails, why, ..row }
    }

    const fn wrong_client(kind: &'static str, fails: &'static [usize], why: &'static str) -> Self {
        Self { example: "wrong_client", ..Self::wrong(kind, fails, why) }
    }

    const fn titled(self, title: &'static str) -> Self {
        Self { title, ..self }
    }

    const fn never_resuming(self) -> Self {
        Self { resumes: false, ..self }
    }

    const fn draining(self) -> Self {
        Self { drains: true, ..self }
    }

    /// Returns the runs: two ways of publishing in each version of TLS. QUIC has one version.
    pub fn cases(&'static self) -> Vec<Case> {
        let versions: &[Version] = if self.wire == Wire::Quic { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let case = |mode, version| Case { row: self, mode, version };
        let modes = [Mode::Kubelet, Mode::InPlace].into_iter();
        modes.flat_map(|mode| versions.iter().map(move |version| case(mode, version))).collect()
    }

    pub fn is_client(&self) -> bool {
        self.example == "wrong_client" || self.example.starts_with("client_")
    }

    /// Returns the title with the kind of row.
    pub fn title(&self) -> String {
        let kind = match (self.wrong, self.is_client()) {
            (Some(_), true) => "wrong client: ",
            (Some(_), false) => "wrong server: ",
            (None, true) => "client: ",
            (None, false) => "",
        };
        format!("{kind}{}", self.title)
    }
}

pub const SERVERS: &[Row] = &[
    Row::server("tokio_rustls", "tokio-rustls", Wire::Echo),
    Row::server("axum", "axum", Wire::Http1).titled("axum, HTTP/1.1"),
    Row::server("axum", "axum", Wire::Http2).titled("axum, HTTP/2"),
    Row::server("hyper", "hyper", Wire::Http1).titled("hyper, HTTP/1.1, draining").draining(),
    Row::server("hyper", "hyper", Wire::Http2).titled("hyper, HTTP/2, draining").draining(),
    Row::server("tonic", "tonic", Wire::Grpc),
    Row::server("poem", "poem", Wire::Http2),
    Row::server("axum_server", "axum-server", Wire::Http1),
    Row::server("quinn", "quinn", Wire::Quic),
    Row::server("actix_web", "actix-web", Wire::Http1).never_resuming(),
    Row::server("threads", "rustls", Wire::Echo).titled("rustls, threads"),
    Row::server("smol", "futures-rustls", Wire::Echo).titled("futures-rustls, smol"),
    Row {
        title: "tonic, `ServerTlsConfig`",
        reports: false,
        fails: &[2, 6, 7, 9, 10],
        why: "takes PEM text once, and no CRL: it cannot be reloaded",
        ..Row::server("tonic_pem", "tonic", Wire::Grpc)
    },
    Row::wrong("frozen", &[2, 6, 7, 9, 10], "takes the configuration at the start"),
    Row::wrong("resolver", &[6, 7, 9, 10], "reloads the certificate alone, by `resolver()`"),
    Row::wrong("sessions", &[7, 9], "keeps sessions in `rotating_config()`"),
    Row {
        only: Some(&TLS12),
        ..Row::wrong("sessions-1.2", &[4, 7, 9], "keeps sessions of TLS 1.2 in `rotating_config()`")
            .never_resuming()
    },
    Row::wrong("no-list", &[9], "is not given the CRL"),
    Row::wrong("optional", &[5], "lets clients in that have no certificate"),
    Row::wrong("hangs-up", &[3, 8], "ends its connections at each reload"),
    Row::wrong("silent", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "closes each connection after the handshake"),
];

pub const CLIENTS: &[Row] = &[
    Row::server("client_tokio", "tokio-rustls", Wire::Echo),
    Row::server("client_tonic", "tonic", Wire::Grpc),
    Row::server("client_reqwest", "reqwest", Wire::Http2).never_resuming(),
    Row::server("client_hyper_rustls", "hyper-rustls", Wire::Http2).never_resuming(),
    Row::server("client_quinn", "quinn", Wire::Quic),
    Row::wrong_client("frozen", &[2, 3, 4, 5, 6], "takes the configuration at the start"),
    Row::wrong_client("sessions", &[2, 3, 4], "keeps sessions in `rotating_config()`"),
    Row::wrong_client("unchecked", &[3, 6], "reads the files for each connection").never_resuming(),
    Row::wrong_client("anonymous", &[1, 2, 3, 4, 5, 6], "shows no certificate"),
];
