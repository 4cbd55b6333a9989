//! The smallest FUSE file system that a snapshot can read through: a directory in which every name
//! is a link to one target.
//!
//! Numbers and layouts are those of `linux/fuse.h`, protocol 7.31.

use std::{
    fs::File,
    io::{self, Read, Write},
};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const READLINK: u32 = 5;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
/// Size of the buffer for requests. The kernel refuses one below `FUSE_MIN_READ_BUFFER` (8 KiB).
const READ_LIMIT: usize = 1 << 16;
const ROOT: u64 = 1;
const LINK: u64 = 2;

/// Answers until the file system is unmounted; returns how many names were looked up.
pub(crate) fn serve_links(device: &mut File, target: &str) -> io::Result<usize> {
    let mut request = vec![0; READ_LIMIT];
    let mut lookups = 0;
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // ENODEV: unmounted.
            Err(error) if error.raw_os_error() == Some(19) => return Ok(lookups),
            // ENOENT: the request was interrupted before it was read.
            Err(error) if error.raw_os_error() == Some(2) => continue,
            Err(error) => return Err(error),
        };
        let word = |at: usize| request[at..at + 4].try_into().map(u32::from_ne_bytes).unwrap();
        let long = |at: usize| request[at..at + 8].try_into().map(u64::from_ne_bytes).unwrap();
        assert!(length >= 40, "a header has 40 bytes: {length}");
        let (opcode, unique, node) = (word(4), long(8), long(16));
        let answer = match opcode {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init()),
            // The reply has no validity time, so the kernel caches nothing and asks at each lookup.
            GETATTR => Ok([vec![0; 16], attributes(node, target)].concat()),
            LOOKUP => {
                lookups += 1;
                let head = [LINK, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
                Ok([head, attributes(LINK, target)].concat())
            }
            READLINK => Ok(target.as_bytes().to_vec()),
            STATFS => Ok(vec![0; 80]),
            _ => Err(ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let header = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
        match device.write_all(&[header, body].concat()) {
            // ENOENT: the request was interrupted, and nobody waits for its reply.
            Err(error) if error.raw_os_error() == Some(2) => {}
            written => written?,
        }
    }
}

/// `fuse_init_out`: version, no read-ahead, no flags, writes of at most a page.
fn init() -> Vec<u8> {
    let mut body = [7, 31, 0, 0, 0, 4096].map(u32::to_ne_bytes).concat();
    body.resize(64, 0);
    body
}

/// `fuse_attr` of the directory or of the link.
fn attributes(node: u64, target: &str) -> Vec<u8> {
    let (mode, size) = if node == ROOT { (0o040_755, 0) } else { (0o120_777, target.len() as u64) };
    let times_and_size = [node, size, 0, 1, 1, 1].map(u64::to_ne_bytes).concat();
    let rest = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [times_and_size, rest].concat()
}
