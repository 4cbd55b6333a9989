//! Prints what it takes to load revocation lists of several sizes, and to renew a leaf beside them. Run by
//! `scripts/crl-sizes`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // reason: a measurement

use std::{
    fs,
    time::{Instant, SystemTime},
};

use rustls_reload::{
    ClientAuth, Reload, ServerReloader,
    testkit::{Authority, Identity, ListSpec, Subject},
};

/// What this process has of this kind, in MiB: `VmRSS` now, `VmHWM` at most since that was last reset.
fn memory(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let ca = Authority::root("Client CA");
    let issue = || ca.issue(&Subject::server("localhost"), &Identity::p256());
    fs::write(path("ca.crt"), &ca.pem).unwrap();
    println!(
        "| entries | bytes | load | memory of a load at its peak | memory held | leaf renewed beside it | list replaced |"
    );
    println!("|---|---|---|---|---|---|---|");
    for entries in [10_u32, 100_000, 1_000_000] {
        let list = |number: u64| {
            // Not in order, and 16 bytes long, as those of public authorities.
            let serial = |n: u32| {
                let mixed = (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                ([&[0x11_u8; 4][..], &mixed, &n.to_be_bytes()].concat(), None)
            };
            let now = SystemTime::now();
            let window =
                (now - std::time::Duration::from_secs(3600), now + std::time::Duration::from_secs(3600));
            let der = ca
                .list(&ListSpec {
                    revoked: (0..entries).map(serial).collect(),
                    window,
                    ..ListSpec::new(number)
                })
                .der;
            fs::write(path("ca.crl"), &der).unwrap();
            der.len()
        };
        let pair = issue();
        fs::write(path("tls.crt"), &pair.chain).unwrap();
        fs::write(path("tls.key"), &pair.key).unwrap();
        let bytes = list(1);
        let before = memory("VmRSS");
        // Resets the peak (proc(5)).
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let start = Instant::now();
        let server = ServerReloader::builder(path("tls.crt"), path("tls.key"))
            .client_ca(path("ca.crt"), ClientAuth::Required)
            .crl(path("ca.crl"))
            .load()
            .unwrap();
        let load = start.elapsed();
        let (peak, held) = (memory("VmHWM").saturating_sub(before), memory("VmRSS").saturating_sub(before));
        let pair = issue();
        fs::write(path("tls.crt"), &pair.chain).unwrap();
        fs::write(path("tls.key"), &pair.key).unwrap();
        let start = Instant::now();
        assert_eq!(server.reload_now(), Reload::Reloaded);
        let renewed = start.elapsed();
        list(2);
        let start = Instant::now();
        assert_eq!(server.reload_now(), Reload::Reloaded);
        let replaced = start.elapsed();
        println!(
            "| {entries} | {bytes} | {load:.0?} | {peak} MiB | {held} MiB | {renewed:.0?} | {replaced:.0?} |"
        );
    }
}
