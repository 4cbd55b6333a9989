//! CRLs from a directory, on real files with the system's watcher and real handshakes.
//! Added, removed and replaced files count, and a directory never stands for having no revoked
//! certificates.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use crate::common::{
    Generation, Volume, by_events_only, client_with, handshake, published, refused, replace, started,
};
use rustls::version::{TLS12, TLS13};
use rustls_reload::{ClientAuth, Layer, Reload, ServerBuilder, ServerReloader, internal};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

const HOUR: Duration = Duration::from_secs(3600);

/// A server in a volume, and a directory of lists beside it.
struct World {
    of: Generation,
    volume: Volume,
    root: tempfile::TempDir,
    clients: [Pair; 2],
}

impl World {
    fn new() -> Self {
        let of = Generation::new(0);
        let client = |name| of.ca.issue(&Subject::client(name), &PrivateKey::p256());
        let clients = [client("one"), client("other")];
        let world = Self { volume: Volume::of(&of), root: tempfile::tempdir().unwrap(), clients, of };
        fs::create_dir(world.dir()).unwrap();
        world
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("crl.d")
    }

    /// Returns the list of this number, which revokes the first `revoked` clients.
    fn list(&self, number: u64, revoked: usize) -> String {
        let (now, later) = (SystemTime::now(), Duration::from_secs(number));
        let leaves: Vec<_> = self.clients[..revoked].iter().map(|pair| &pair.leaf).collect();
        self.of.ca.crl(&leaves, (now - HOUR + later, now + HOUR), number).pem
    }

    fn put(&self, name: &str, text: &str) {
        replace(&self.dir().join(name), text.as_bytes());
    }

    fn server(&self) -> ServerBuilder {
        let server = self.volume.server().client_ca(self.volume.path("ca.crt"), ClientAuth::Required);
        server.crl_dir(self.dir())
    }

    /// Returns whether each client is let in, which is the same in both versions.
    fn let_in(&self, server: &ServerReloader) -> [bool; 2] {
        let [old, new] = [&TLS12, &TLS13].map(|version| {
            let shakes =
                |pair| handshake(&server.config(), &client_with(&[&self.of.ca], Some(pair), &[version]));
            [&self.clients[0], &self.clients[1]].map(|pair| shakes(pair).is_ok())
        });
        assert_eq!(old, new, "TLS 1.2 and 1.3 differ");
        new
    }
}

/// Checks: INV-05, INV-02. There is no poll, so the event of a new name has to wake the reloader.
#[test]
fn inv05_crl_added_removed_or_replaced_is_served_by_events() {
    let world = World::new();
    world.put("a.crl", &world.list(1, 0));
    let server = world.server().timing(by_events_only()).load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    assert_eq!(world.let_in(&server), [true, true]);
    let epoch = server.current().value.trust_epoch();
    world.put("b.crl", &world.list(2, 1));
    published(&mut events);
    assert_eq!(world.let_in(&server), [false, true], "a list came");
    assert_eq!(server.current().value.trust_epoch(), epoch + 1);
    world.put("b.crl", &world.list(3, 2));
    published(&mut events);
    assert_eq!(world.let_in(&server), [false, false], "it was replaced");
    fs::remove_file(world.dir().join("b.crl")).unwrap();
    published(&mut events);
    assert_eq!(world.let_in(&server), [true, true], "it went");
    // The list is written under its own name in two parts. Half a list is not evaluated.
    let list = world.list(4, 1);
    fs::write(world.dir().join("c.crl"), &list[..list.len() / 2]).unwrap();
    fs::write(world.dir().join("c.crl"), &list).unwrap();
    published(&mut events);
    assert_eq!(world.let_in(&server), [false, true]);
    // A file whose name begins with a dot and a directory are not read as lists.
    fs::write(world.dir().join(".c.crl.tmp"), "nothing").unwrap();
    fs::create_dir(world.dir().join("lost+found")).unwrap();
    assert!(matches!(server.reload_now(), Reload::Unchanged));
}

/// Checks: INV-05. A Kubernetes volume gets another key: `..data` moves first, and the key's own
/// name follows.
#[test]
fn inv05_a_volume_that_gets_a_list_more_is_served() {
    let world = World::new();
    let first = world.list(1, 0);
    let mut lists = Volume::new(&[("a.crl", first.as_bytes())]);
    let server = world.volume.server().client_ca(world.volume.path("ca.crt"), ClientAuth::Required);
    let server = server.crl_dir(lists.dir()).timing(by_events_only()).load().unwrap();
    let mut events = server.events();
    server.start().unwrap();
    started(&mut events);
    let second = world.list(2, 1);
    lists.publish(&[("a.crl", first.as_bytes()), ("b.crl", second.as_bytes())]);
    symlink("..data/b.crl", lists.path("b.crl")).unwrap();
    published(&mut events);
    assert_eq!(world.let_in(&server), [false, true]);
    let third = world.list(3, 2);
    lists.publish(&[("a.crl", first.as_bytes()), ("b.crl", third.as_bytes())]);
    published(&mut events);
    assert_eq!(world.let_in(&server), [false, false]);
}

/// Checks: INV-02, INV-03, INV-11. The directory never counts as having no list. The error names
/// layer and path, and recovery follows once the directory is valid again.
#[test]
fn inv03_directory_with_more_than_crls_is_rejected() {
    let garbage = |dir: &Path| fs::write(dir.join("b.crl"), "nobody\n").unwrap();
    let key = |dir: &Path| fs::write(dir.join("b.crl"), Generation::new(1).server.key).unwrap();
    let gone = |dir: &Path| fs::remove_file(dir.join("a.crl")).unwrap();
    let moved = |dir: &Path| fs::rename(dir, dir.with_extension("old")).unwrap();
    let dangling = |dir: &Path| symlink("nowhere", dir.join("b.crl")).unwrap();
    let fifo =
        |dir: &Path| assert!(Command::new("mkfifo").arg(dir.join("b.crl")).status().unwrap().success());
    let huge = |dir: &Path| fs::File::create(dir.join("b.crl")).unwrap().set_len((64 << 20) + 1).unwrap();
    let many = |dir: &Path| (0..1024).for_each(|n| fs::write(dir.join(format!("x{n}")), "").unwrap());
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), Layer, &'a str);
    let cases: [Case<'_>; 8] = [
        ("garbage", &garbage, Layer::Pem, "b.crl"),
        ("a key", &key, Layer::Pem, "b.crl"),
        ("no file", &gone, Layer::Read, ""),
        ("no directory", &moved, Layer::Read, ""),
        ("a link to nothing", &dangling, Layer::Read, "b.crl"),
        ("a fifo", &fifo, Layer::Read, "b.crl"),
        ("too large", &huge, Layer::Read, ""),
        ("too many", &many, Layer::Read, ""),
    ];
    for (what, invalidate, layer, blamed) in cases {
        let world = World::new();
        let list = world.list(1, 1);
        world.put("a.crl", &list);
        let server = world.server().load().unwrap();
        let mut events = server.events();
        server.start().unwrap();
        started(&mut events);
        let old = server.config();
        invalidate(&world.dir());
        let path = if blamed.is_empty() { world.dir() } else { world.dir().join(blamed) };
        let mut error = refused(&mut events);
        // Where the steps of a writer are held up, what the first ones left is rejected before.
        while matches!(what, "too many" | "too large") && error.path() != Some(path.as_path()) {
            error = refused(&mut events);
        }
        assert_eq!((error.layer(), error.path()), (layer, Some(path.as_path())), "{what}: {error}");
        assert!(std::sync::Arc::ptr_eq(&old, &server.config()), "{what}");
        assert_eq!(world.let_in(&server), [false, true], "{what}");
        let error = world.server().load().err().unwrap();
        assert_eq!((error.layer(), error.path()), (layer, Some(path.as_path())), "{what}: {error}");
        let _ = fs::remove_dir_all(world.dir());
        fs::create_dir(world.dir()).unwrap();
        world.put("a.crl", &world.list(2, 2));
        published(&mut events);
        assert_eq!(world.let_in(&server), [false, false], "{what}: right again");
    }
}

/// Checks: INV-02, INV-09. The expired list would reject every client, while sessions went on.
#[test]
fn inv02_expired_crl_does_not_outlast_the_valid_one_beside_it() {
    let world = World::new();
    let now = SystemTime::now();
    let expired = world.of.ca.crl(&[], (now - 3 * HOUR, now - 2 * HOUR), 1).pem;
    world.put("old.crl", &expired);
    world.put("new.crl", &world.list(2, 1));
    let server = world.server().load().unwrap();
    assert_eq!(world.let_in(&server), [false, true]);
    fs::remove_file(world.dir().join("new.crl")).unwrap();
    let Reload::Refused(error) = server.reload_now() else { panic!("the expired list alone is taken") };
    assert_eq!((error.layer(), error.path()), (Layer::Crl, Some(&*world.dir().join("old.crl"))), "{error}");
    assert_eq!(world.let_in(&server), [false, true]);
    // A list that was expired already stays, also beside the change of another one.
    world.put("new.crl", &world.list(3, 2));
    assert_eq!(server.reload_now(), Reload::Reloaded);
    assert_eq!(world.let_in(&server), [false, false]);
}

#[test]
fn crl_directory_without_client_cas_is_an_error_of_the_settings() {
    let world = World::new();
    let error = world.volume.server().crl_dir(world.dir()).load().err().unwrap();
    assert_eq!((error.layer(), error.path()), (Layer::Settings, Some(world.dir().as_path())));
}

/// An inspection reports a directory and each file in it.
#[test]
fn inspection_covers_the_path_of_the_directory_and_its_files() {
    let world = World::new();
    world.put("a.crl", &world.list(1, 1));
    world.put("b.crl", &world.list(2, 2));
    let found = world.server().inspect(Duration::ZERO);
    assert_eq!(found.refused, None);
    let beneath: Vec<_> = found.paths[3..].iter().map(|path| path.as_path()).collect();
    let (dir, files) = (world.dir(), ["a.crl", "b.crl"].map(|name| world.dir().join(name)));
    assert_eq!(beneath, [&dir, &files[0], &files[1]]);
    assert_eq!(internal::inspected_walk(&found).traces.len(), found.paths.len());
    let sizes: Vec<_> = found.sizes.iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 2], "chain, key and CAs were read together, and so were the two lists");
    let lists: Vec<_> = found.crls.iter().map(|(path, _)| path).collect();
    assert_eq!(lists, [&files[0], &files[1]], "an older list goes on refusing whom it names");
    assert!(found.watched.contains(&dir), "{:?}", found.watched);
}
