//! Clients with the mistakes that people make, so that the checks are checked: each has to fail
//! exactly those that its line in the harness names.
//!
//! `WRONG=KIND cargo run --example wrong_client -- ADDRESS CHAIN KEY ROOTS`

use std::{
    env::{args_os, var},
    ffi::OsString,
    sync::Arc,
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::{Resumption, WantsClientCert},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

#[tokio::main]
async fn main() -> Result<(), frameworks::AnyError> {
    let (address, builder) = frameworks::client(&[]);
    let reloader = builder.start_async().await?;
    let fixed = match &*var("WRONG")? {
        // Takes the configuration at the start.
        "frozen" => Some(reloader.config()),
        // Keeps sessions in a configuration for life.
        "sessions" => {
            let mut config = reloader.rotating_config();
            config.resumption = Resumption::default();
            Some(Arc::new(config))
        }
        // Shows no certificate.
        "anonymous" => Some(Arc::new(from_files()?.with_no_client_auth())),
        // Reads the files for each connection, as they are at that moment.
        _ => None,
    };
    let requests = frameworks::for_each_line(async || {
        let config = fixed.clone().map_or_else(identified, Ok)?;
        let connector = TlsConnector::from(config);
        let tcp = TcpStream::connect(address).await?;
        let mut stream = connector.connect("localhost".try_into()?, tcp).await?;
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut [0; 5]).await?;
        Ok(())
    });
    Ok(requests.await?)
}

fn file(number: usize) -> Result<OsString, frameworks::AnyError> {
    Ok(args_os().nth(1 + number).ok_or("too few arguments")?)
}

fn from_files() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, frameworks::AnyError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file(3)?)?)?;
    Ok(ClientConfig::builder().with_root_certificates(roots))
}

fn identified() -> Result<Arc<ClientConfig>, frameworks::AnyError> {
    let chain = vec![CertificateDer::from_pem_file(file(1)?)?];
    let key = PrivateKeyDer::from_pem_file(file(2)?)?;
    Ok(Arc::new(from_files()?.with_client_auth_cert(chain, key)?))
}
