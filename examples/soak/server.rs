//! The server process: a reloader and a listener for each publisher.

use std::{
    io::{BufRead, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::ServerConnection;
use rustls_reload::{ClientAuth, Event, ServerReloader};

use super::publishers;

/// Serves until stdin ends; the first line on stdout is the ports.
pub(crate) fn serve(root: &Path) {
    let (published, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut ports = String::new();
    for publisher in publishers() {
        let paths = publisher.paths();
        let at = |index: usize| root.join(publisher.name()).join(paths[index].strip_prefix("/").unwrap());
        let (publications, refusals) = (Arc::clone(&published), Arc::clone(&refused));
        let name = publisher.name();
        let reloader = ServerReloader::builder(at(0), at(1))
            .client_ca(at(2), ClientAuth::Required)
            .on_event(move |event| match event {
                Event::Published { .. } => drop(publications.fetch_add(1, Ordering::Relaxed)),
                Event::Refused { .. } => drop(refusals.fetch_add(1, Ordering::Relaxed)),
                Event::Degraded { .. } | Event::Warning { .. } => eprintln!("soak: {name}: {event}"),
                _ => {}
            })
            .load()
            .unwrap_or_else(|error| panic!("{error}"));
        reloader.start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ports += &format!("{} ", listener.local_addr().unwrap().port());
        thread::spawn(move || {
            for socket in listener.incoming() {
                // The client is the one who tells of a failure.
                let _ = answer(&reloader, &socket.unwrap());
            }
        });
    }
    println!("{}", ports.trim());
    for _ in std::io::stdin().lock().lines() {
        println!("{} {}", published.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    }
}

fn answer(reloader: &ServerReloader, mut socket: &TcpStream) -> std::io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut tls = ServerConnection::new(reloader.current()).map_err(std::io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    tls.writer().write_all(b"ok")?;
    tls.send_close_notify();
    tls.complete_io(&mut socket)?;
    Ok(())
}
