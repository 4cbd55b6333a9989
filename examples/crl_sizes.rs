//! Prints the time and memory for loading CRLs of several sizes, and for renewing a
//! leaf beside them. Run by `scripts/crl-sizes`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // reason: a measurement

use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use rustls_reload::{ClientAuth, Reload, ServerReloader, Timing};
use rustls_reload_testkit::{Authority, ListSpec, PrivateKey, Subject};

/// Returns the memory of this process in MiB: the present one for `VmRSS`, the peak for `VmHWM`.
fn memory(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Returns a serial number of 16 bytes. The numbers are in no order, as those of public
/// authorities.
fn serial(n: u32) -> (Vec<u8>, Option<u8>) {
    let mixed = (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    ([&[0x11_u8; 4][..], &mixed, &n.to_be_bytes()].concat(), None)
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    // The measurement runs in a process of its own, because the memory used here for making the
    // lists would hide what a load takes.
    if let [dir, entries] = &arguments[..] {
        return measure(Path::new(dir), entries);
    }
    println!("| entries | bytes | load | renewal beside it | replaced | memory held | at the peak |");
    println!("|---|---|---|---|---|---|---|");
    for entries in [10_u32, 100_000, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        let ca = Authority::root("Client CA");
        put("ca.crt", ca.pem.as_bytes());
        for name in ["old", "new"] {
            let pair = ca.issue(&Subject::server("localhost"), &PrivateKey::p256());
            put(&format!("{name}.crt"), pair.chain.as_bytes());
            put(&format!("{name}.key"), pair.key.as_bytes());
            let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
            let revoked = (0..entries).map(serial).collect();
            let list = ListSpec {
                revoked,
                window: (now - hour, now + hour),
                ..ListSpec::new(if name == "old" { 1 } else { 2 })
            };
            put(&format!("{name}.crl"), &ca.list(&list).der);
        }
        let this = env::current_exe().unwrap();
        let status = Command::new(this).arg(dir.path()).arg(entries.to_string()).status().unwrap();
        assert!(status.success(), "a list of {entries} entries cannot be loaded");
    }
}

fn measure(dir: &Path, entries: &str) {
    let path = |name: &str| dir.join(name);
    let take = |from: &str, end: &str| {
        fs::rename(path(&format!("{from}.{end}")), path(&format!("tls.{end}"))).unwrap()
    };
    ["crt", "key", "crl"].iter().for_each(|end| take("old", end));
    let bytes = fs::metadata(path("tls.crl")).unwrap().len();
    let timed = |run: &dyn Fn() -> Reload| {
        let start = Instant::now();
        assert_eq!(run(), Reload::Reloaded);
        start.elapsed()
    };
    let start = Instant::now();
    let server = ServerReloader::builder(path("tls.crt"), path("tls.key"))
        .client_ca(path("ca.crt"), ClientAuth::Required)
        .crl(path("tls.crl"))
        .timing(Timing { settle: Duration::ZERO, ..Timing::default() })
        .load()
        .unwrap();
    let load = start.elapsed();
    let held = memory("VmRSS");
    ["crt", "key"].iter().for_each(|end| take("new", end));
    let renewed = timed(&|| server.reload_now());
    take("new", "crl");
    let replaced = timed(&|| server.reload_now());
    let peak = memory("VmHWM");
    println!(
        "| {entries} | {bytes} | {load:.0?} | {renewed:.0?} | {replaced:.0?} | {held} MiB | {peak} MiB |"
    );
}
