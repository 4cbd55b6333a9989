//! The limit on connections: a place is given back once its connection has ended, not before and
//! not later, whatever the connection was busy with and however it ends. Checks: INV-12, INV-15.
//!
//! The test counts the sockets of the process, the open connections in `/status`, and the clients
//! that get an answer. Whether a client waits is compared with a connection that already has its
//! place: that one is answered many times, and a client accepted too early would be accepted within
//! that time.

use std::{
    fs, io,
    io::Write,
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant},
};

use rustls::ClientConnection;

use crate::{
    Server,
    common::{DEADLINE, Generation, NamedFile, Volume, at_once, client_of, generations},
    process::{Stream, ask, begin_request, command, end_request, until},
};

/// Limit on the descriptors of the process, which leaves about ten connections.
const DESCRIPTORS: &str = "--nofile=40:40";
/// Number of answers on another connection, within which a client that is accepted too early is
/// noticed.
const ROUNDS: usize = 25;
/// A case that took longer is run again: the server ends hanging connections after ten seconds.
const IN_TIME: Duration = Duration::from_secs(8);

/// Activity of the connections that take the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    /// Nothing was sent.
    Silent,
    /// Half of a client's first message was sent.
    HalfHandshake,
    /// The handshake is complete, and no request was sent.
    Unasked,
    /// One request was answered, and the connection is kept.
    KeptAlive,
    /// The request's head is incomplete.
    HalfHead,
    /// The request's body is incomplete.
    HalfBody,
    /// The state of `HalfBody`, after the client's CA was removed, so that the connection ends with
    /// the answer.
    Drained,
}

const ALL: [Busy; 7] = [
    Busy::Silent,
    Busy::HalfHandshake,
    Busy::Unasked,
    Busy::KeptAlive,
    Busy::HalfHead,
    Busy::HalfBody,
    Busy::Drained,
];

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Closed,
    /// By a reset, which the system sends when a client closes with unread data.
    Reset,
    /// With the answer.
    Answered,
}

fn endings(busy: Busy) -> &'static [Ends] {
    match busy {
        Busy::Silent | Busy::HalfHandshake => &[Ends::Closed],
        // A connection that is kept alive is not ended by an answer.
        Busy::Unasked | Busy::KeptAlive | Busy::HalfHead | Busy::HalfBody => &[Ends::Closed, Ends::Reset],
        Busy::Drained => &[Ends::Answered, Ends::Closed, Ends::Reset],
    }
}

/// A server, the connection that requests its status, and the number of sockets before the first
/// client.
struct World {
    server: Server,
    volume: Volume,
    address: String,
    limit: usize,
    sockets: usize,
    asks: Stream,
}

/// A connection that takes a place.
enum Holder {
    Plain(#[allow(dead_code)] TcpStream), // reason: it is held open
    Tls(Box<Stream>),
}

fn hello(of: &Generation) -> (ClientConnection, Vec<u8>) {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(client_of(of, None), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    (client, hello)
}

fn files<'a>(of: &'a Generation, bundle: &'a str) -> [NamedFile<'a>; 3] {
    let [chain, key, _] = of.files();
    [chain, key, ("ca.crt", bundle.as_bytes())]
}

impl World {
    fn new(generations: &[Generation]) -> Self {
        let bundle = generations.iter().map(|of| of.ca.pem.as_str()).collect::<String>();
        let volume = Volume::new(&files(&generations[0], &bundle));
        let mut command = command(&volume.dir(), &["prlimit", DESCRIPTORS], "127.0.0.1:0");
        command.arg("--client-ca").arg(volume.path("ca.crt")).args(["--client-auth", "optional"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Server::run(command);
        let most = server.line("at most ");
        let limit = most.split(' ').nth(2).unwrap().parse().unwrap();
        let address = server.address();
        let sockets = sockets(server.process.id());
        let asks = connect(&address, &generations[0], None);
        Self { server, volume, address, limit, sockets, asks }
    }

    /// Returns the number of open connections in the status.
    fn open(&mut self) -> usize {
        let status = ask(&mut self.asks, "/status");
        let (_, open) = status.split_once("\"open\": ").unwrap();
        open.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    fn is_at(&mut self, open: usize) -> bool {
        self.open() == open && sockets(self.server.process.id()) == self.sockets + open
    }

    fn waits(&mut self, open: usize, what: &str) {
        until(what, || self.is_at(open));
    }

    fn hold(&self, busy: Busy, generations: &[Generation]) -> Holder {
        let connect = |shown| Box::new(connect(&self.address, &generations[0], shown));
        let half_body = |mut stream: Box<Stream>| {
            begin_request(&mut stream);
            Holder::Tls(stream)
        };
        match busy {
            Busy::Silent => Holder::Plain(TcpStream::connect(&self.address).unwrap()),
            Busy::HalfHandshake => {
                let mut socket = TcpStream::connect(&self.address).unwrap();
                socket.write_all(&hello(&generations[0]).1[..20]).unwrap();
                Holder::Plain(socket)
            }
            Busy::Unasked => Holder::Tls(connect(None)),
            Busy::KeptAlive => {
                let mut stream = connect(None);
                assert!(ask(&mut stream, "/").starts_with("HTTP/1.1 200"));
                Holder::Tls(stream)
            }
            Busy::HalfHead => {
                let mut stream = connect(None);
                stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
                Holder::Tls(stream)
            }
            Busy::HalfBody => half_body(connect(None)),
            Busy::Drained => half_body(connect(Some(&generations[1]))),
        }
    }

    /// Ends a connection.
    fn end(holder: Holder, how: Ends) {
        match (how, holder) {
            (Ends::Closed, _) => {}
            (Ends::Reset, holder) => {
                let Holder::Tls(mut stream) = holder else { panic!("nothing is unread") };
                // The server answers the request, and the client leaves the answer unread.
                let _ = stream.write_all(b"56789\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                assert!(stream.sock.peek(&mut [0]).unwrap() > 0);
            }
            (Ends::Answered, holder) => {
                let Holder::Tls(mut stream) = holder else { panic!("nothing is asked") };
                let answer = end_request(&mut stream);
                assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
            }
        }
    }
}

fn connect(address: &str, of: &Generation, shown: Option<&Generation>) -> Stream {
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(client_of(of, shown), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    Stream::new(connection, stream)
}

/// The sockets that a process has open.
fn sockets(process: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// A client that has sent its first message.
struct Waiting(TcpStream);

impl Waiting {
    fn new(world: &World, of: &Generation) -> Self {
        let mut socket = TcpStream::connect(&world.address).unwrap();
        socket.write_all(&hello(of).1).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn is_answered(&self) -> bool {
        match self.0.peek(&mut [0]) {
            Ok(read) => {
                assert!(read > 0, "it was cut off");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }
}

/// Takes all places with one kind of connection. Returns false where the machine was too slow to
/// judge.
fn case(generations: &[Generation], busy: Busy) -> bool {
    let mut world = World::new(generations);
    let (limit, begun) = (world.limit, Instant::now());
    assert!((5..30).contains(&limit), "{limit}");
    let mut holders: Vec<_> = (1..limit).map(|_| world.hold(busy, generations)).collect();
    let in_time = || begun.elapsed() < IN_TIME;
    while in_time() && !world.is_at(limit) {}
    if busy == Busy::Drained {
        world.volume.publish(&files(&generations[0], &generations[0].ca.pem));
        world.server.line("trust shrank ");
    }
    let mut waiting: Vec<_> = (0..3).map(|_| Waiting::new(&world, &generations[0])).collect();
    for how in endings(busy).iter().cycle().take(3) {
        for _ in 0..ROUNDS {
            let (full, early) = (world.is_at(limit), waiting.iter().any(Waiting::is_answered));
            if !in_time() {
                return false;
            }
            assert!(full && !early, "{busy:?}: a place was given back while its connection was open");
        }
        World::end(holders.pop().unwrap(), *how);
        until("a place is free", || waiting.iter().any(Waiting::is_answered) || !in_time());
        if !in_time() {
            return false;
        }
        let served = waiting.iter().position(Waiting::is_answered).unwrap();
        // The client has the place now.
        holders.insert(0, Holder::Plain(waiting.swap_remove(served).0));
    }
    drop((holders, waiting));
    world.waits(1, &format!("{busy:?}: all places are free again"));
    true
}

/// Engine: generated.
#[test]
fn inv12_a_place_is_free_when_its_connection_has_ended() {
    let generations = generations(2);
    at_once(&ALL, |busy| {
        assert!((0..5).any(|_| case(&generations, *busy)), "{busy:?}: never within {IN_TIME:?}");
    });
    println!("{} kinds of connections", ALL.len());
}
