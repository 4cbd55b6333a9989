//! A real overflow of the inotify queue: a server process is suspended while more events happen
//! than fit.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::Instant,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustls::{ClientConfig, ClientConnection, ServerConnection, pki_types::ServerName};

use crate::{
    common::{DEADLINE, Volume, by_events_only, client, generations, server_in, this_test},
    own, until,
};

/// The place of the server's volume.
const DIR: &str = "LIMITS_DIR";

/// A server process. It is ended when this is dropped, even while it is suspended.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(name: &str, dir: &Path) -> Self {
        let assignment = format!("{DIR}={}", dir.display());
        let mut process = own::start(name, &["env", &assignment]);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.to_owned()));
        let server = Self { process, address: address.expect("a server that listens") };
        // The remaining output is read and dropped, so that the server does not block on it.
        std::thread::spawn(move || lines.for_each(drop));
        server
    }

    fn signal(&self, signal: &str, state: &[&str]) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let now = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap()[..1].to_owned()
        };
        until(&format!("state {state:?}"), || state.contains(&now().as_str()), now);
    }

    /// Returns the leaf that a new connection gets.
    fn leaf(&self, client: &Arc<ClientConfig>) -> Vec<u8> {
        let mut tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(client), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        tls.peer_certificates().unwrap()[0].to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server process, which serves one handshake after another until its stdin is closed.
fn serve() {
    let dir = std::env::var_os(DIR).unwrap();
    let reloader = server_in(Path::new(&dir)).timing(by_events_only()).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    crate::common::started(&mut events);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    for tcp in listener.incoming() {
        let mut tls = ServerConnection::new(reloader.config()).unwrap();
        // A client that leaves in the middle of a handshake is no failure of the server.
        let _ = tls.complete_io(&mut tcp.unwrap());
    }
}

/// An inotify queue of the test on the same directory, which overflows at the same point as the
/// server's.
struct Witness(OwnedFd);

impl Witness {
    fn of(dir: &Path) -> Self {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mask = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO;
        inotify::add_watch(&queue, dir, mask).unwrap();
        Self(queue)
    }

    /// Returns whether the queue has overflowed, and whether it had an event with this name.
    fn read(&self, name: &str) -> (bool, bool) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let (mut overflowed, mut named) = (false, false);
        while let Ok(event) = reader.next() {
            overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            named |= event.file_name().is_some_and(|event| event.to_str() == Ok(name));
        }
        (overflowed, named)
    }
}

/// Makes and removes this many files. Their names do not concern the server.
fn noise(dir: &Path, files: usize) {
    for i in 0..files {
        let path = dir.join(format!("neighbour-{i}"));
        File::create(&path).unwrap().write_all(b"noise").unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn inv05_inv06_rotation_lost_in_an_overflow_is_served() {
    let name = this_test!();
    if own::is_inside(&name) {
        return serve();
    }
    let generations = generations(8);
    let client = client(&generations, &[&rustls::version::TLS13]);
    let mut volume = Volume::of(&generations[0]);
    let server = Server::start(&name, &volume.dir());
    let serves = |generation: usize, what: &str| {
        let wanted = &generations[generation].server.leaf;
        until(what, || server.leaf(&client) == **wanted, || "another leaf".to_owned());
    };
    serves(0, "the first generation");
    let room = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let room: usize = room.trim().parse().unwrap();
    for round in 0..2 {
        let first = 1 + 3 * round;
        let witness = Witness::of(&volume.dir());
        server.signal("-STOP", &["T"]);
        // Each file causes two events for the witness, and more for the server.
        noise(&volume.dir(), room / 2 + 100);
        volume.publish(&generations[first].files());
        noise(&volume.dir(), 100);
        assert_eq!(witness.read("..data"), (true, false), "the queue overflowed and lost the rename");
        let start = Instant::now();
        server.signal("-CONT", &["S", "R", "D"]);
        serves(first, "what was published while the queue was full");
        println!("{room} events and more: served {:?} after the process went on", start.elapsed());
        for later in [first + 1, first + 2] {
            volume.publish(&generations[later].files());
            serves(later, "a later rotation, by its events");
        }
    }
}
