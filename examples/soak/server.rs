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

/// Serves until stdin ends. The first line on stdout has the ports.
pub(crate) fn serve(root: &Path) {
    let counts = Arc::new(Counts::default());
    let mut ports = String::new();
    for publisher in publishers() {
        let paths = publisher.paths();
        let at = |index: usize| root.join(publisher.name()).join(paths[index].strip_prefix("/").unwrap());
        let counts = Arc::clone(&counts);
        let name = publisher.name();
        let reloader = ServerReloader::builder(at(0), at(1))
            .client_ca(at(2), ClientAuth::Required)
            .on_event(move |event| match event {
                Event::Published { .. } => counts.add(0),
                Event::Refused { error, .. } => {
                    counts.add(1);
                    let text = error.to_string();
                    let reasons = ["Permission denied", "Too many open files"];
                    (2..)
                        .zip(reasons)
                        .filter(|(_, why)| text.contains(why))
                        .for_each(|(at, _)| counts.add(at));
                }
                Event::Degraded { .. } | Event::Warning { .. } => eprintln!("soak: {name}: {event}"),
                _ => {}
            })
            .load()
            .unwrap_or_else(|error| panic!("{error}"));
        let mut events = reloader.events();
        reloader.start().unwrap();
        let limit = Duration::from_secs(60);
        while !matches!(*events.next_within(limit).unwrap().event, Event::Started { .. }) {}
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ports += &format!("{} ", listener.local_addr().unwrap().port());
        thread::spawn(move || {
            for socket in listener.incoming() {
                // Failed handshakes are reported by the client. Without a free descriptor the
                // server waits until there is one.
                match socket {
                    Ok(socket) => drop(answer(&reloader, &socket)),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
    }
    println!("{}", ports.trim());
    for _ in std::io::stdin().lock().lines() {
        let counts = counts.0.each_ref().map(|count| count.load(Ordering::Relaxed).to_string());
        println!("{}", counts.join(" "));
    }
}

/// Totals of all reloaders: publications, refusals, and of these for lack of permission and of
/// descriptors.
#[derive(Default)]
struct Counts([AtomicU64; 4]);

impl Counts {
    fn add(&self, which: usize) {
        self.0[which].fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(reloader: &ServerReloader, mut socket: &TcpStream) -> std::io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut tls = ServerConnection::new(reloader.config()).map_err(std::io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    tls.writer().write_all(b"ok")?;
    tls.send_close_notify();
    tls.complete_io(&mut socket)?;
    Ok(())
}
