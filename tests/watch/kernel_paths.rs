//! Paths lead where the kernel follows them: a snapshot reads what `open(2)` opens, or nothing.

mod long;
mod processes;
mod trees;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::symlink, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{forward_fs, this_test};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};
use rustls_reload::{
    Error, PathSet,
    fs::{FileId, Fs, NativeFs},
    internal::{Entry, Lookup, Walk, lacks_remote_events, snapshot::take},
};

/// The native port without its treatment of magic links: their text counts as their target.
struct ByText {
    fs: NativeFs,
    /// Whether the port asks the system for the target of a whole path.
    asks: bool,
}

impl Fs for ByText {
    type Dir = <NativeFs as Fs>::Dir;
    type File = <NativeFs as Fs>::File;

    const HAS_DIR_HANDLES: bool = true;

    forward_fs!(fs);

    fn open(&self, at: &Self::Dir, name: &OsStr) -> io::Result<Self::File> {
        self.fs.open(at, name)
    }

    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&OsStr) -> bool) -> io::Result<()> {
        self.fs.list(dir, each)
    }

    fn reached(&self, path: &Path) -> io::Result<Option<FileId>> {
        if self.asks { self.fs.reached(path) } else { Ok(None) }
    }
}

/// Returns the bytes that a snapshot reads at `path`, and its walk.
fn snapshot<F: Fs>(fs: &F, path: &Path) -> (Result<Vec<u8>, Error>, Walk) {
    let snapshot = take(fs, &PathSet::new([path]).unwrap());
    let bytes = snapshot.files.map(|files| files.get(0).unwrap().1.to_vec());
    (bytes.map_err(Error::from), snapshot.walk)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let (bytes, walk) = snapshot(&NativeFs::default(), path);
    let by_text = |entry: &&Entry| {
        let on_procfs = || entry.path.parent().and_then(lacks_remote_events) == Some("procfs");
        matches!(entry.seen, Lookup::Link(..)) && on_procfs()
    };
    assert_eq!(walk.entries.iter().find(by_text), None, "a magic link has no text to show");
    bytes
}

fn fd(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()))
}

/// Returns the refusal of a path that ends at an entry of this kind.
fn refusal(path: &Path, kind: &str) -> String {
    let at = Path::new("/proc/self/fd").join(path.file_name().unwrap());
    format!(
        "read: {}: {kind} where a regular file is expected: each reload reads the file again, so write the \
         content to a regular file (at {})",
        path.display(),
        at.display()
    )
}

/// Checks: INV-01.
#[test]
fn inv01_open_descriptor_is_read_whatever_lies_at_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["kept", "deleted", "deleted (deleted)"] {
        fs::write(at(name), name).unwrap();
    }
    let [kept, deleted] = ["kept", "deleted"].map(|name| File::open(at(name)).unwrap());
    fs::remove_file(at("deleted")).unwrap();
    assert_eq!(fs::read_link(fd(&deleted)).unwrap().file_name(), Some("deleted (deleted)".as_ref()));
    let mut memfd = File::from(memfd_create("pair", MemfdFlags::CLOEXEC).unwrap());
    memfd.write_all(b"memfd").unwrap();
    for (file, text) in [(&kept, "kept"), (&deleted, "deleted"), (&memfd, "memfd")] {
        assert_eq!(read(&fd(file)).unwrap(), text.as_bytes());
        let number = file.as_raw_fd();
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/thread-self/fd/{number}")] {
            assert_eq!(read(Path::new(&path)).unwrap(), text.as_bytes(), "{path}");
        }
    }
    // The directory of a descriptor, after it has been moved.
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/file"), "moved").unwrap();
    let moved = File::open(at("dir")).unwrap();
    fs::rename(at("dir"), at("away")).unwrap();
    symlink(fd(&moved), at("dir")).unwrap();
    assert_eq!(read(&at("dir/file")).unwrap(), b"moved");
    assert_eq!(read(&at("dir/../kept")).unwrap(), b"kept", "`..` is where the directory lies");
}

/// Checks: INV-01.
#[test]
fn inv01_links_of_this_process_lead_where_open_follows_them() {
    let toml = fs::read("Cargo.toml").unwrap();
    let here = std::env::current_dir().unwrap();
    let name = here.file_name().unwrap().to_str().unwrap();
    for path in [
        "/proc/self/cwd/Cargo.toml".to_owned(),
        "/proc/thread-self/cwd/Cargo.toml".to_owned(),
        format!("/proc/self/cwd/../{name}/Cargo.toml"),
        format!("/proc/self/cwd/src/../../{name}/./Cargo.toml"),
        format!("/proc/self/root/../..{}/Cargo.toml", here.display()),
        format!("/proc/{}/task/{0}/cwd//Cargo.toml", std::process::id()),
    ] {
        assert_eq!(read(Path::new(&path)).unwrap(), toml, "{path}");
    }
    // `self` and `root` are a link each, and the kernel follows 40.
    let through = |times: usize| PathBuf::from("/proc/self/root".repeat(times) + here.to_str().unwrap());
    let [most, more] = [20, 21].map(|times| through(times).join("Cargo.toml"));
    assert_eq!((read(&most).unwrap(), fs::read(&most).unwrap()), (toml.clone(), toml));
    assert!(fs::read(&more).is_err());
    let reported = read(&more).unwrap_err().to_string();
    assert!(reported.contains("more than 40 links to follow"), "{reported}");
}

/// Checks: INV-01. A directory in which every file counts may be that of a descriptor.
#[test]
fn inv01_directory_behind_a_descriptor_is_listed_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let open = File::open(dir.path()).unwrap();
    for name in ["one", "two"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let set = PathSet::new(["Cargo.toml"]).and_then(|set| set.directory(fd(&open))).unwrap();
    let snapshot = take(&NativeFs::default(), &set);
    let files = snapshot.files.unwrap();
    let read: Vec<_> = files.iter().skip(1).collect();
    assert_eq!(
        read,
        ["one", "two"]
            .map(|name| (fd(&open).join(name), name.as_bytes()))
            .each_ref()
            .map(|(path, bytes)| (path.as_path(), *bytes))
    );
}

/// Checks: INV-16.
#[test]
fn inv16_descriptor_that_is_no_file_is_refused_by_its_kind() {
    let (pipe, _writer) = io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let terminal = openat(CWD, "/dev/ptmx", OFlags::PATH, Mode::empty()).unwrap();
    let null = File::open("/dev/null").unwrap();
    for (path, kind) in [
        (fd(&pipe), "a pipe"),
        (fd(&socket), "a socket"),
        (fd(&terminal), "a terminal"),
        (fd(&null), "a character device"),
    ] {
        assert_eq!(read(&path).unwrap_err().to_string(), refusal(&path, kind));
    }
    let dir = File::open("/").unwrap();
    let reported = read(&fd(&dir)).unwrap_err().to_string();
    assert!(reported.contains(": a directory where a regular file is expected"), "{reported}");
    let closed = fd(&{ File::open("/dev/null").unwrap() }.as_raw_fd());
    let reported = read(&closed.with_file_name("1000000")).unwrap_err().to_string();
    assert!(reported.contains("cannot find: No such file or directory"), "{reported}");
}

/// Checks: INV-16. A shell's `< file`, `| server` and `< /dev/null`.
#[test]
fn inv16_standard_input_is_read_from_a_file_only() {
    const INSIDE: &str = "KERNEL_PATHS_STDIN";
    let path = Path::new("/dev/stdin");
    if std::env::var_os(INSIDE).is_some() {
        let said =
            read(path).map_or_else(|error| error.to_string(), |bytes| String::from_utf8(bytes).unwrap());
        return println!("SAID {said}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "the file").unwrap();
    let of = |kind| refusal(path, kind).replace("fd/stdin", "fd/0");
    for (stdin, expected) in [
        (Stdio::from(file.reopen().unwrap()), "the file".to_owned()),
        (Stdio::piped(), of("a pipe")),
        (Stdio::null(), of("a character device")),
    ] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([&this_test!(), "--exact", "--nocapture"])
            .env(INSIDE, "1")
            .stdin(stdin)
            .stdout(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find_map(|line| Some(line.split_once("SAID ")?.1)).unwrap_or(&text);
        assert_eq!(said, expected);
    }
}

/// Checks: INV-01. path_resolution(7): a trailing slash or dot requires a directory before it.
#[test]
fn inv01_file_named_as_a_directory_is_refused_as_by_open() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "text").unwrap();
    symlink("file/", at("slash")).unwrap();
    symlink("file/.", at("dot")).unwrap();
    symlink(".", at("here")).unwrap();
    for name in ["file/", "file/.", "file//", "slash", "dot", "file/..", "file/../file", "here/file/"] {
        assert!(fs::read(at(name)).is_err(), "{name}");
        let reported = read(&at(name)).unwrap_err().to_string();
        assert!(reported.contains("a regular file where a directory is expected"), "{name}: {reported}");
    }
    for name in ["file", "./file", "here/./here//file", "here/../here/file"] {
        let name =
            name.replace("here/../here", &format!("../{}/here", dir.path().file_name().unwrap().display()));
        assert_eq!(read(&at(&name)).unwrap(), fs::read(at(&name)).unwrap(), "{name}");
    }
}

/// Checks: INV-01, INV-16. proc_sys_fs(5), protected_symlinks: the kernel refuses only where that
/// is on.
#[test]
fn inv01_link_of_another_user_in_a_sticky_directory_is_as_for_open() {
    use std::os::unix::fs::{PermissionsExt, lchown};
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "text").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let link = dir.path().join("link");
    symlink("file", &link).unwrap();
    assert_eq!(read(&link).unwrap(), b"text", "one's own");
    if lchown(&link, Some(65534), None).is_err() {
        return println!("only root gives links away");
    }
    match (fs::read(&link), read(&link)) {
        (Ok(kernel), Ok(bytes)) => assert_eq!(bytes, kernel),
        (Err(_), Err(error)) => assert!(error.to_string().contains("(fs.protected_symlinks)"), "{error}"),
        (kernel, bytes) => panic!("the kernel: {kernel:?}, and here: {bytes:?}"),
    }
}
