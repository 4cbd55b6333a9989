//! The port without directory handles, call by call: for everything at a path, the port returns
//! what `std::fs` returns.
//!
//! Checks: INV-12, INV-16. Every call is made on every kind of entry, and again after another kind
//! has replaced the entry since the directory was opened.
//!
//! Engine: generated.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, ErrorKind, Read},
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use rustls_reload::{
    PathSet,
    fs::{FileId, Fs, Kind, PathFs, Stat, UnixFs},
    internal::snapshot,
};
use rustls_reload_testkit::{InterceptFs, Op};

/// A kind of entry at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Missing,
    File,
    Empty,
    /// Modified before 1970.
    Ancient,
    Dir,
    Full,
    Fifo,
    Socket,
    LinkToFile,
    LinkToDir,
    Dangling,
    Loop,
}

const THINGS: [Thing; 12] = [
    Thing::Missing,
    Thing::File,
    Thing::Empty,
    Thing::Ancient,
    Thing::Dir,
    Thing::Full,
    Thing::Fifo,
    Thing::Socket,
    Thing::LinkToFile,
    Thing::LinkToDir,
    Thing::Dangling,
    Thing::Loop,
];

const NAME: &str = "name";
const BYTES: &[u8] = b"some bytes";

/// Makes an entry `name` in the directory. The returned handle holds a FIFO open, so that a port
/// that opens it is seen to be wrong and does not hang.
#[must_use]
fn make(dir: &Path, thing: Thing) -> Option<fs::File> {
    let at = dir.join(NAME);
    let link = |target: &str| std::os::unix::fs::symlink(target, &at).unwrap();
    match thing {
        Thing::Missing => {}
        Thing::File => fs::write(&at, BYTES).unwrap(),
        Thing::Empty => fs::write(&at, "").unwrap(),
        Thing::Ancient => {
            fs::write(&at, BYTES).unwrap();
            let time = UNIX_EPOCH - Duration::from_secs(1_000_000);
            fs::File::options().write(true).open(&at).unwrap().set_modified(time).unwrap();
        }
        Thing::Dir => fs::create_dir(&at).unwrap(),
        Thing::Full => {
            fs::create_dir(&at).unwrap();
            ["a", "b", ".c"].iter().for_each(|name| fs::write(at.join(name), name).unwrap());
        }
        Thing::Fifo => Op::Mkfifo(NAME.into()).apply(dir).unwrap(),
        Thing::Socket => drop(UnixListener::bind(&at).unwrap()),
        Thing::LinkToFile => link("../file"),
        Thing::LinkToDir => link("../dir"),
        Thing::Dangling => link("nowhere"),
        Thing::Loop => link(NAME),
    }
    (thing == Thing::Fifo).then(|| fs::File::options().read(true).write(true).open(&at).unwrap())
}

fn remove(dir: &Path) {
    let at = dir.join(NAME);
    match fs::symlink_metadata(&at) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(at).unwrap(),
        Ok(_) => fs::remove_file(at).unwrap(),
        Err(_) => {}
    }
}

/// A directory with a file and a directory as targets of links. The entries are made in its
/// subdirectory `in`.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "another file").unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        fs::write(root.path().join("dir/inner"), "inner").unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        Self { root }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("in")
    }
}

/// Reduces the error of a result to its kind.
fn said<T>(answer: io::Result<T>) -> Result<T, ErrorKind> {
    answer.map_err(|error| error.kind())
}

/// Returns the stat of the entry itself by `std`.
fn stat_by_std(path: &Path) -> Result<Stat, ErrorKind> {
    said(fs::symlink_metadata(path).map(|found| stat_of(&found)))
}

fn stat_of(found: &fs::Metadata) -> Stat {
    let kind = match found.file_type() {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Dir,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::Other("not a regular file"),
    };
    // Computed from the system's numbers, not by the port's conversion.
    let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    Stat { kind, id: FileId { dev: 0, ino: 0 }, size: found.len(), mtime, ctime: mtime }
}

fn names(fs: &PathFs, dir: &PathBuf) -> Result<Vec<OsString>, ErrorKind> {
    let mut names = Vec::new();
    let listed = fs.list(dir, &mut |name| {
        names.push(name.to_owned());
        true
    });
    names.sort();
    said(listed.map(|()| names))
}

/// Compares all calls about `name` in the directory with `std`.
fn check(dir: &PathBuf, name: &OsStr, what: &str) {
    let (port, at) = (PathFs, dir.join(name));
    let stat = stat_by_std(&at);
    assert_eq!(said(port.stat(dir, name)), stat, "{what}: stat");
    assert_eq!(said(port.stat_dir(&at)), stat, "{what}: stat_dir");

    let is_dir = stat.map(|stat| stat.kind == Kind::Dir);
    let opened = is_dir.and_then(|is| if is { Ok(at.clone()) } else { Err(ErrorKind::NotADirectory) });
    assert_eq!(said(port.open_dir(dir, name)), opened, "{what}: open_dir");

    assert_eq!(said(port.read_link(dir, name)), said(fs::read_link(&at)), "{what}: read_link");

    let listed = said(fs::read_dir(&at)).map(|entries| {
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    });
    assert_eq!(names(&port, &at), listed, "{what}: list");
    // The callback that returns `false` is not called again.
    let mut asked = 0;
    let first = port.list(&at, &mut |_| {
        asked += 1;
        false
    });
    assert_eq!(
        said(first).map(|()| asked),
        listed.map(|names| names.len().min(1)),
        "{what}: list, the first"
    );

    let wanted = match stat.map(|stat| stat.kind) {
        Ok(Kind::File) => said(fs::read(&at)),
        Ok(Kind::Dir) => {
            said(fs::File::open(&at).and_then(|mut dir| dir.read(&mut [0; 8]))).map(|_| Vec::new())
        }
        Ok(Kind::Link) => Err(ErrorKind::NotADirectory),
        Ok(Kind::Other(_)) => Err(ErrorKind::InvalidInput),
        Err(error) => Err(error),
    };
    let opened = said(port.open(dir, name));
    // The port refuses such an entry before it reads, because reading may never end.
    if matches!(stat.map(|stat| stat.kind), Ok(Kind::Link | Kind::Other(_))) {
        assert!(opened.is_err(), "{what}: opened");
    }
    let read = opened.and_then(|mut file| {
        assert_eq!(said(port.stat_file(&file)), stat, "{what}: stat_file");
        let (mut all, mut buffer) = (Vec::new(), [0; 3]);
        loop {
            match said(port.read(&mut file, &mut buffer))? {
                0 => return Ok(all),
                len => all.extend_from_slice(&buffer[..len]),
            }
        }
    });
    assert_eq!(read, wanted, "{what}: open and read");
}

#[test]
fn inv16_each_call_by_path_answers_as_std_does() {
    let place = Place::new();
    for thing in THINGS {
        let _held = make(&place.dir(), thing);
        check(&place.dir(), OsStr::new(NAME), &format!("{thing:?}"));
        // Repeats the checks through a link to the directory, and below a name that is the entry.
        let link = place.root.path().join("link");
        std::os::unix::fs::symlink("in", &link).unwrap();
        check(&link, OsStr::new(NAME), &format!("{thing:?} through a link"));
        fs::remove_file(&link).unwrap();
        for inner in ["a", "inner"] {
            check(&place.dir().join(NAME), OsStr::new(inner), &format!("{inner} in {thing:?}"));
        }
        remove(&place.dir());
    }
    let long = "n".repeat(300);
    check(&place.dir(), OsStr::new(&long), "a name that is too long");
    let deep: PathBuf = (0..3_000).map(|_| "d").collect();
    check(&place.dir().join(deep), OsStr::new(NAME), "a path that is too long");
    assert_eq!(PathFs.root(Path::new("/")).unwrap(), Path::new("/"));
    assert_eq!(said(PathFs.stat_dir(&"/".into())), stat_by_std(Path::new("/")));
}

/// A `Dir` is a path: every call is about the present entry, not about the one that was opened.
#[test]
fn inv16_each_call_by_path_is_about_what_is_there_now() {
    let place = Place::new();
    for before in THINGS {
        for after in THINGS {
            let _held = make(&place.dir(), before);
            let opened = PathFs.open_dir(&place.dir(), OsStr::new(NAME));
            let file = PathFs.open(&place.dir(), OsStr::new(NAME)).ok();
            let is_file = matches!(before, Thing::File | Thing::Empty | Thing::Ancient);
            let size = stat_by_std(&place.dir().join(NAME)).map_or(0, |stat| stat.size);
            remove(&place.dir());
            let _held = make(&place.dir(), after);
            let what = format!("{before:?}, then {after:?}");
            check(&place.dir(), OsStr::new(NAME), &what);
            if let Ok(dir) = opened {
                check(&dir, OsStr::new("a"), &what);
            }
            // An open file keeps its inode (ASM-02), which is not the present entry's.
            if let Some(mut file) = file.filter(|_| is_file) {
                let mut bytes = vec![0; 64];
                assert_eq!(PathFs.read(&mut file, &mut bytes).unwrap() as u64, size, "{what}");
            }
            remove(&place.dir());
        }
    }
}

/// Compares the permissions with `std`, which refuses nothing to root.
#[test]
fn inv16_each_call_by_path_names_the_denied_path() {
    let place = Place::new();
    let _held = make(&place.dir(), Thing::Full);
    for (path, mode) in [("in/name/a", 0), ("in/name", 0o600), ("in/name", 0o300), ("in/name", 0)] {
        Op::Chmod(path.into(), mode).apply(place.root.path()).unwrap();
        check(&place.dir(), OsStr::new(NAME), path);
        check(&place.dir().join(NAME), OsStr::new("a"), path);
        Op::Chmod(path.into(), 0o700).apply(place.root.path()).unwrap();
    }
}

/// A snapshot has the same files as through directory handles, or a failure of the same kind.
#[test]
fn inv12_a_snapshot_by_path_reads_what_one_by_handles_reads() {
    let place = Place::new();
    let root = place.root.path().canonicalize().unwrap();
    for thing in THINGS {
        let _held = make(&place.dir(), thing);
        for path in ["in/name", "in/name/inner", "in/name/a", "in/../in/name", "in/name/."] {
            let set = PathSet::new([root.join(path)]).unwrap();
            let (by_path, by_handles) = (snapshot::take(&PathFs, &set), snapshot::take(&UnixFs, &set));
            let (by_path, by_handles) = (by_path.files, by_handles.files);
            assert_eq!(by_path.as_ref().ok(), by_handles.as_ref().ok(), "{path}, {thing:?}");
            let torn =
                |files: &Result<_, snapshot::Failure>| files.as_ref().err().map(snapshot::Failure::is_torn);
            assert_eq!(torn(&by_path), torn(&by_handles), "{path}, {thing:?}");
        }
        let set = PathSet::of_directory(root.join("in/name")).unwrap();
        let (by_path, by_handles) = (snapshot::take(&PathFs, &set), snapshot::take(&UnixFs, &set));
        assert_eq!(by_path.files.ok(), by_handles.files.ok(), "the files in {thing:?}");
        remove(&place.dir());
    }
}

/// Makes a directory with two files of this text.
fn fill(dir: &Path, text: &str) {
    fs::create_dir(dir).unwrap();
    ["x", "y"].iter().for_each(|name| fs::write(dir.join(name), text).unwrap());
}

/// Before each call of a snapshot in turn, the directory of both files is replaced by a link or by
/// another directory. Both can be read at any time, so the result is whole or torn, and never
/// unreadable.
#[test]
fn inv01_inv16_snapshot_by_path_amid_an_update_is_whole_or_torn() {
    let mut taken = [0; 3];
    for (was_link, becomes_link) in [(false, true), (true, false), (true, true), (false, false)] {
        for call in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            let at = |name: &str| root.join(name);
            fill(&at("old"), "old");
            fill(&at("newer"), "newer");
            let put = |name: &str, as_link: bool| match as_link {
                true => std::os::unix::fs::symlink(name, root.join("vol")).unwrap(),
                false => fs::rename(root.join(name), root.join("vol")).unwrap(),
            };
            put("old", was_link);
            let (calls, place) = (Arc::new(AtomicUsize::new(0)), root.clone());
            let count = Arc::clone(&calls);
            let hook = move |_| {
                if count.fetch_add(1, Ordering::SeqCst) == call {
                    fs::rename(place.join("vol"), place.join("away")).unwrap();
                    match becomes_link {
                        true => std::os::unix::fs::symlink("newer", place.join("vol")).unwrap(),
                        false => fs::rename(place.join("newer"), place.join("vol")).unwrap(),
                    }
                }
                Ok(usize::MAX)
            };
            let set = PathSet::new([at("vol/x"), at("vol/y")]).unwrap();
            let files = snapshot::take(&InterceptFs::new(PathFs, Arc::new(hook)), &set).files;
            let what = format!("a link: {was_link}, then {becomes_link}, at call {call}: {files:?}");
            let read =
                files.as_ref().map(|files| files.iter().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>());
            match read {
                Ok(read) if read == [b"old", b"old"] => taken[0] += 1,
                Ok(read) if read == [b"newer", b"newer"] => taken[1] += 1,
                Ok(_) => panic!("a mixture: {what}"),
                Err(failure) => {
                    assert!(failure.is_torn(), "{what}");
                    taken[2] += 1;
                }
            }
            if calls.load(Ordering::SeqCst) <= call {
                break;
            }
        }
    }
    assert!(taken.iter().all(|count| *count > 3), "the old, the new, torn: {taken:?}");
}
