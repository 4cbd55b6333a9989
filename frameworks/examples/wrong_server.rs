//! Servers with the mistakes that people make, so that the checks are checked: each has to fail
//! exactly those that its line in the harness names.
//!
//! `WRONG=KIND cargo run --example wrong_server -- CHAIN KEY [CLIENT_CA CRL]`

use std::{
    env::{args_os, var},
    future::pending,
    path::PathBuf,
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, pem::PemObject},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier},
};
use rustls_reload::{ClientAuth, ServerBuilder, ServerReloader};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy, split},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

// One thread: a connection that has to end does so before a later one is accepted.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), frameworks::AnyError> {
    let (listener, wrong) = (TcpListener::bind("127.0.0.1:0").await?, var("WRONG")?);
    let files: Vec<_> = args_os().skip(1).map(PathBuf::from).collect();
    let reloader = builder(&wrong, &files).start_async().await?;
    let fixed = fixed_config(&wrong, &reloader, files.get(2))?;
    frameworks::listening(listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let served = reloader.current();
        let acceptor = fixed.clone().unwrap_or_else(|| Arc::clone(&served.value.config));
        let next = (wrong == "hangs-up").then(|| reloader.published(served.generation));
        let silent = wrong == "silent";
        tokio::spawn(async move {
            match TlsAcceptor::from(acceptor).accept(tcp).await {
                Ok(stream) if !silent => serve(stream, next).await,
                _ => {}
            }
        });
    }
}

/// Echoes until the client ends, or until this future resolves.
async fn serve(stream: impl AsyncRead + AsyncWrite, until: Option<impl Future>) {
    let (mut from, mut to) = split(stream);
    let until = async {
        match until {
            Some(until) => drop(until.await),
            None => pending().await,
        }
    };
    tokio::select! {
        _ = copy(&mut from, &mut to) => {}
        () = until => {}
    }
}

fn builder(wrong: &str, files: &[PathBuf]) -> ServerBuilder {
    match (wrong, files) {
        // Forgets the CRL.
        ("no-list", [chain, key, client_ca, _]) => ServerReloader::builder(chain, key)
            .client_ca(client_ca, ClientAuth::Required)
            .on_event(|event| eprintln!("{event}")),
        // Accepts clients without a certificate.
        ("optional", [chain, key, client_ca, crl]) => ServerReloader::builder(chain, key)
            .client_ca(client_ca, ClientAuth::Optional)
            .crl(crl)
            .on_event(|event| eprintln!("{event}")),
        _ => frameworks::server(&[]),
    }
}

/// Returns the configuration that is used for life, if there is one.
fn fixed_config(
    wrong: &str,
    reloader: &ServerReloader,
    client_ca: Option<&PathBuf>,
) -> Result<Option<Arc<ServerConfig>>, frameworks::AnyError> {
    Ok(match wrong {
        // Takes the configuration at the start.
        "frozen" => Some(reloader.config()),
        // Reloads the certificate by the resolver, and keeps the client CA of the start.
        "resolver" => Some(Arc::new(own_config(reloader, client_ca)?)),
        // Keeps sessions in a configuration for life, or those of TLS 1.2 alone.
        "sessions" | "sessions-1.2" => {
            let mut config = Arc::unwrap_or_clone(reloader.rotating_config());
            config.session_storage = ServerSessionMemoryCache::new(64);
            config.send_tls13_tickets = if wrong == "sessions" { 2 } else { 0 };
            Some(Arc::new(config))
        }
        _ => None,
    })
}

fn own_config(
    reloader: &ServerReloader,
    client_ca: Option<&PathBuf>,
) -> Result<ServerConfig, frameworks::AnyError> {
    let builder = ServerConfig::builder();
    let Some(client_ca) = client_ca else {
        return Ok(builder.with_no_client_auth().with_cert_resolver(reloader.resolver()));
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(client_ca)?)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    Ok(builder.with_client_cert_verifier(verifier).with_cert_resolver(reloader.resolver()))
}
