//! The parts that the examples share: their arguments, and the lines that they print for whoever
//! started them.

use std::{env::args_os, error::Error, io, net::SocketAddr, process::exit};

use rustls_reload::{ClientAuth, ClientBuilder, ClientReloader, Event, ServerBuilder, ServerReloader};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The error of an example.
pub type AnyError = Box<dyn Error + Send + Sync>;

/// Returns the builder of a server for the arguments `CHAIN KEY [CLIENT_CA CRL]`. With the last
/// two, each client needs a certificate of that CA that the list does not revoke.
///
/// Exits with a usage message if there are other arguments.
pub fn server(alpn: &[&str]) -> ServerBuilder {
    let files: Vec<_> = args_os().skip(1).collect();
    let builder = match files.as_slice() {
        [chain, key] => ServerReloader::builder(chain, key),
        [chain, key, client_ca, crl] => {
            ServerReloader::builder(chain, key).client_ca(client_ca, ClientAuth::Required).crl(crl)
        }
        _ => usage("CHAIN KEY [CLIENT_CA CRL]"),
    };
    builder.alpn(alpn).on_event(report)
}

/// Returns the address of the server, and the builder of a client, for the arguments
/// `ADDRESS CHAIN KEY ROOTS`.
///
/// Exits with a usage message if there are other arguments, or if the address has no port.
pub fn client(alpn: &[&str]) -> (SocketAddr, ClientBuilder) {
    let args: Vec<_> = args_os().skip(1).collect();
    let [address, chain, key, roots] = args.as_slice() else { usage("ADDRESS CHAIN KEY ROOTS") };
    let Some(address) = address.to_str().and_then(|address| address.parse().ok()) else {
        usage("ADDRESS CHAIN KEY ROOTS, where ADDRESS is like 127.0.0.1:8443")
    };
    let builder = ClientReloader::builder().identity(chain, key).roots(roots);
    (address, builder.alpn(alpn).on_event(report))
}

fn report(event: &Event) {
    eprintln!("{event}");
}

fn usage(arguments: &str) -> ! {
    eprintln!("arguments: {arguments}");
    exit(2)
}

/// Prints the address that a server listens at.
pub fn listening(address: SocketAddr) {
    println!("listening at {address}");
}

/// Makes a request for each line of stdin, and prints `answered`, or `failed: ` and the reasons.
///
/// # Errors
/// The error of stdin.
pub async fn for_each_line(mut request: impl AsyncFnMut() -> Result<(), AnyError>) -> io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    println!("ready");
    while lines.next_line().await?.is_some() {
        match request().await {
            Ok(()) => println!("answered"),
            Err(error) => println!("failed: {}", reasons(&*error)),
        }
    }
    Ok(())
}

/// Returns the error and its sources in one line.
pub fn reasons(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.replace('\n', " ")
}
