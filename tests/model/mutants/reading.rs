//! A wrong way to read: to the end of the file, without a limit.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls_reload::{
    PathSet,
    fs::{Fs, Kind},
    internal::snapshot::{self, FILE_LIMIT},
};

use super::{Tried, caught, disk::OneFile};

/// Reads the file of a disk.
type Load = fn(&OneFile);

fn shipped(disk: &OneFile) {
    snapshot::take(disk, &PathSet::new(["/file"]).unwrap());
}

/// Breaks: INV-12. Reads to the end of the file.
fn to_the_end(disk: &OneFile) {
    let Ok(mut file) = disk.root(Path::new("/")).and_then(|root| disk.open(&root, OsStr::new("file"))) else {
        return;
    };
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(len @ 1..) = disk.read(&mut file, &mut buffer) {
        all.extend_from_slice(&buffer[..len]);
    }
}

/// Reads files that never end. Returns their number, and whether each read had a limit.
fn bounded(load: Load) -> (Tried, Result<(), String>) {
    let fifo = Kind::Other("a FIFO");
    let mut tried = 0;
    // A device may report a size of zero, and a log may grow while it is read: one byte more than the
    // size shows that.
    for (kind, size, want) in [(Kind::File, 100, 101), (Kind::File, 10 << 30, 0), (fifo, 0, 0)] {
        tried += 1;
        let count = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&count);
        // The file ends for a reader without a limit.
        let disk = OneFile::new(kind, size, move |_, buffer| match read.load(Ordering::SeqCst) {
            read if read > 4 * FILE_LIMIT => Err(io::ErrorKind::QuotaExceeded.into()),
            _ => {
                read.fetch_add(buffer.len() as u64, Ordering::SeqCst);
                Ok(buffer.len())
            }
        });
        load(&disk);
        let (read, opened) = (count.load(Ordering::SeqCst), disk.opened.load(Ordering::SeqCst));
        if kind == fifo && opened > 0 {
            return (Tried::runs(tried), Err("INV-12: a FIFO was opened".to_owned()));
        }
        if read != want {
            let why = format!("INV-12: {read} bytes read of {} of {size} bytes that has no end", kind.name());
            return (Tried::runs(tried), Err(why));
        }
    }
    (Tried::runs(tried), Ok(()))
}

fn row(name: &str, load: Load) -> Result<(), String> {
    let (tried, verdict) = bounded(load);
    caught((name, "disk"), &["INV-12"], tried, verdict)
}

#[test]
fn inv12_reading_is_bounded_unless_the_design_is_wrong() {
    assert_eq!(bounded(shipped).1, Ok(()));
    assert_eq!(row("ReadsToTheEnd", to_the_end), Ok(()));
    assert!(row("(repaired)", shipped).is_err());
}
