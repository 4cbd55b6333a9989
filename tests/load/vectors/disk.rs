//! Names that lead to no file, or to a file that is never read.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use rustls_reload::Layer;
use rustls_reload_testkit::Op;

use super::{
    Expect::Refused,
    Put, Vector,
    set::{CA, CRT, KEY},
};

type InvalidUpdate = fn(&Path);

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (what, layer, invalidate) in files() {
        for file in [CRT, KEY, CA] {
            let put = Put::Dir(Box::new(move |dir| {
                let path = dir.join(file);
                fs::remove_file(&path).unwrap();
                invalidate(&path);
            }));
            all.push(Vector { name: format!("{file}: {what}"), put, expect: Refused(layer, file) });
        }
    }
    for (what, invalidate) in directories() {
        let put = Put::Volume(Box::new(invalidate));
        all.push(Vector { name: format!("directory: {what}"), put, expect: Refused(Layer::Read, CRT) });
    }
    all
}

/// Entries that replace a file.
fn files() -> Vec<(&'static str, Layer, InvalidUpdate)> {
    vec![
        ("missing", Layer::Read, |_| {}),
        ("a directory", Layer::Read, |path| fs::create_dir(path).unwrap()),
        ("a FIFO", Layer::Read, |path| Op::Mkfifo(path.into()).apply(Path::new("/")).unwrap()),
        ("a socket", Layer::Read, |path| drop(UnixListener::bind(path).unwrap())),
        ("a link to nothing", Layer::Read, |path| symlink("nowhere", path).unwrap()),
        ("a link to itself", Layer::Read, |path| symlink(path.file_name().unwrap(), path).unwrap()),
        ("a link to its directory", Layer::Read, |path| symlink(".", path).unwrap()),
        ("a link through a file", Layer::Read, |path| symlink("/dev/null/file", path).unwrap()),
        ("a link with a name that is too long", Layer::Read, |path| symlink("x".repeat(300), path).unwrap()),
        ("a link to a device without an end", Layer::Read, |path| symlink("/dev/zero", path).unwrap()),
        ("a link to a device without content", Layer::Read, |path| symlink("/dev/null", path).unwrap()),
        ("a file of the kernel that is larger than it says", Layer::Read, |path| {
            symlink("/proc/self/mountinfo", path).unwrap();
        }),
        ("a sparse file of 10 GiB", Layer::Read, |path| {
            fs::File::create(path).unwrap().set_len(10 << 30).unwrap();
        }),
        ("a sparse file", Layer::Pem, |path| fs::File::create(path).unwrap().set_len(4096).unwrap()),
    ]
}

/// Changes of the link that leads to all files.
fn directories() -> Vec<(&'static str, InvalidUpdate)> {
    fn relink(dir: &Path, target: &str) {
        fs::remove_file(dir.join("..data")).unwrap();
        symlink(target, dir.join("..data")).unwrap();
    }
    vec![
        ("the link is missing", |dir| fs::remove_file(dir.join("..data")).unwrap()),
        ("the link leads to nothing", |dir| relink(dir, "..nowhere")),
        ("the link leads to itself", |dir| relink(dir, "..data")),
        ("the link leads to a file", |dir| relink(dir, "/dev/null")),
        ("the link leads to an empty directory", |dir| {
            fs::create_dir_all(dir.join("..empty")).unwrap();
            relink(dir, "..empty");
        }),
    ]
}
