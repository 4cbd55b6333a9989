//! Limits on the cost of a directory of CRLs, and errors that it must not hide: on real
//! files, with the system's watcher.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use crate::common::{
    DEADLINE, Generation, Volume, by_events_only, drain, in_memory, published, refused, replace, started,
};
use rustls_reload::{ClientAuth, Event, Layer, Reload, ServerBuilder};
use rustls_reload_testkit::{Authority, CrlVariant, Pair, PrivateKey, Subject};

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    of: Generation,
    volume: Volume,
    root: tempfile::TempDir,
    client: Pair,
}

impl World {
    fn new() -> Self {
        let of = Generation::new(0);
        let client = of.ca.issue(&Subject::client("one"), &PrivateKey::p256());
        let world = Self { volume: Volume::of(&of), root: in_memory(), client, of };
        fs::create_dir(world.dir()).unwrap();
        world
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("crl.d")
    }

    fn list(&self, number: u64) -> String {
        let (now, later) = (SystemTime::now(), Duration::from_secs(number));
        self.of.ca.crl(&[&self.client.leaf], (now - HOUR + later, now + HOUR), number).pem
    }

    fn put(&self, name: &str, text: &str) {
        replace(&self.dir().join(name), text.as_bytes());
    }

    fn server(&self) -> ServerBuilder {
        let server = self.volume.server().client_ca(self.volume.path("ca.crt"), ClientAuth::Required);
        server.crl_dir(self.dir()).timing(by_events_only())
    }
}

/// Checks: INV-11, INV-12. An authority's old lists may stay beside the new one, up to the limit of
/// a directory.
#[test]
fn inv11_old_crls_in_the_directory_displace_no_publication_event() {
    let world = World::new();
    for number in 1..=300 {
        world.put(&format!("{number:04}.crl"), &world.list(number));
    }
    let server = world.server().load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    drain(&mut events);
    world.put("0301.crl", &world.list(301));
    assert!(server.wait_published(1, DEADLINE).is_some());
    assert!(matches!(server.reload_now(), Reload::Unchanged));
    let reported = drain(&mut events);
    let is_published = |event: &Event| matches!(event, Event::Published { generation: 2, .. });
    assert!(
        reported.iter().any(|event| is_published(event)),
        "of {} events none is the publication",
        reported.len()
    );
}

/// Writes lists of other authorities, with a thousand entries each.
fn put_others(world: &World, numbers: std::ops::Range<usize>) {
    let now = SystemTime::now();
    let leaves = vec![&world.client.leaf; 1000];
    for n in numbers {
        let other = Authority::root(&format!("other {n}"));
        fs::write(world.dir().join(n.to_string()), other.crl(&leaves, (now - HOUR, now + HOUR), 1).der)
            .unwrap();
    }
}

/// Returns the processor time of this thread so far, or the elapsed time where the system does not
/// report it.
fn spent(since: Instant) -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or(since.elapsed(), Duration::from_nanos)
}

/// Checks: INV-05, INV-12. Each list is compared with each and read once. The time until a
/// revocation counts grows with the number of lists, not with its square. Other work of the machine
/// is part of neither measured time.
#[test]
fn inv05_time_to_evaluate_a_directory_is_linear_in_its_crls() {
    let world = World::new();
    world.put("own.crl", &world.list(1));
    put_others(&world, 0..64);
    let begun = Instant::now();
    let mut took = Vec::new();
    for (number, others) in [(2, 64..64), (3, 64..512)] {
        put_others(&world, others);
        let server = world.server().load().unwrap();
        world.put("own.crl", &world.list(number));
        let start = spent(begun);
        assert!(matches!(server.reload_now(), Reload::Reloaded));
        took.push(spent(begun) - start);
    }
    println!("64 and 512 lists: {took:?}");
    // Eight times the lists have sixty-four times the comparisons.
    assert!(took[1] < took[0] * 24, "{took:?}");
}

/// Checks: INV-05. There is no poll, so events have to wake the reloader.
#[test]
fn inv05_a_name_that_begins_or_ceases_to_count_wakes() {
    let world = World::new();
    world.put("a.crl", &world.list(1));
    let server = world.server().load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    let path = |name: &str| world.dir().join(name);
    fs::write(path(".b.crl"), world.list(2)).unwrap();
    fs::rename(path(".b.crl"), path("b.crl")).unwrap();
    published(&mut events);
    fs::rename(path("b.crl"), path(".b.crl")).unwrap();
    published(&mut events);
    // A new directory replaces the old one, and the old one returns.
    fs::rename(world.dir(), world.root.path().join("old")).unwrap();
    assert_eq!(refused(&mut events).path(), Some(world.dir().as_path()));
    fs::create_dir(world.dir()).unwrap();
    world.put("c.crl", &world.list(3));
    published(&mut events);
    // A link replaces the directory, and then points elsewhere.
    fs::rename(world.dir(), world.root.path().join("first")).unwrap();
    symlink("first", world.dir()).unwrap();
    fs::create_dir(world.root.path().join("second")).unwrap();
    fs::write(world.root.path().join("second/c.crl"), world.list(4)).unwrap();
    symlink("second", world.root.path().join("next")).unwrap();
    fs::rename(world.root.path().join("next"), world.dir()).unwrap();
    published(&mut events);
    fs::write(world.root.path().join("second/d.crl"), world.list(5)).unwrap();
    published(&mut events);
    // A socket is no list.
    let socket = std::os::unix::net::UnixListener::bind(path("s")).unwrap();
    assert_eq!(refused(&mut events).path(), Some(path("s").as_path()));
    drop(socket);
}

/// Checks: INV-11. A user who may add a file chooses its name.
#[test]
fn inv11_the_name_of_a_list_writes_no_line_of_a_log() {
    let world = World::new();
    world.put("a.crl", &world.list(2));
    let name = OsStr::from_bytes(b"b\xff\n2026 INFO reloaded\r\x1b[2J.crl");
    fs::write(world.dir().join(name), world.list(1)).unwrap();
    let server = world.server().load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    fs::write(world.dir().join(name), world.list(3)).unwrap();
    published(&mut events);
    fs::write(world.dir().join(name), "nothing").unwrap();
    let error = refused(&mut events);
    server.reload_now();
    for event in drain(&mut events).iter().map(ToString::to_string).chain([error.to_string()]) {
        assert!(!event.contains(char::is_control), "{event:?}");
    }
    let status = format!("{:?}", server.status());
    assert!(!status.contains(char::is_control), "{status}");
}

/// Checks: INV-12. Sparse files may have any length without using space on disk.
#[cfg(target_os = "linux")]
#[test]
fn inv12_files_of_any_length_are_refused_by_the_limit() {
    let world = World::new();
    world.put("a.crl", &world.list(1));
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    for n in 0..3 {
        let path = memory.path().join(n.to_string());
        fs::File::create(&path).unwrap().set_len(i64::MAX as u64).unwrap();
        symlink(&path, world.dir().join(n.to_string())).unwrap();
    }
    let error = world.server().load().err().unwrap();
    assert_eq!((error.layer(), error.path()), (Layer::Read, Some(world.dir().as_path())), "{error}");
}

/// Checks: INV-09. Lists that are issued in one second are ordered by their numbers, whatever comes
/// between them.
#[test]
fn inv09_a_list_without_a_number_does_not_put_an_older_one_first() {
    let world = World::new();
    let window = (SystemTime::now() - HOUR, SystemTime::now() + HOUR);
    let other = Authority::root("other");
    world.put("a.crl", &world.of.ca.crl(&[], window, 1).pem);
    world.put("b.crl", &other.odd_crl(&other.crl(&[], window, 1), CrlVariant::NoNumber).pem);
    world.put("c.crl", &world.of.ca.crl(&[&world.client.leaf], window, 2).pem);
    let found = world.server().inspect(Duration::ZERO);
    let counts: Vec<_> = found.crls.iter().map(|(path, _)| path.file_name().unwrap()).collect();
    assert!(counts.contains(&OsStr::new("c.crl")), "{counts:?}");
}
