//! Threads and blocking sockets, with rustls alone. Clients resume by tickets.
//!
//! `cargo run --example threads -- CHAIN KEY [CLIENT_CA CRL]`

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring::Ticketer};

fn main() -> Result<(), frameworks::AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // TLS: begin
    let reloader = frameworks::server(&[]).tickets(Ticketer::new).start()?;
    // TLS: end
    frameworks::listening(listener.local_addr()?);
    for tcp in listener.incoming() {
        let Ok(tcp) = tcp else {
            // No descriptor is free, for example. Open connections go on, and may end.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        // TLS: begin
        let config = reloader.config();
        // TLS: end
        // A failure concerns only this client.
        thread::spawn(move || serve(tcp, config));
    }
    Ok(())
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    // A client that sends nothing holds its thread for this time.
    tcp.set_read_timeout(Some(Duration::from_secs(75)))?;
    // TLS: begin
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, tcp);
    // TLS: end
    let mut bytes = [0; 1024];
    loop {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..read])?;
    }
}
