//! Passes `--cfg loom` on to the doc tests: RUSTFLAGS does not reach rustdoc, and a build script's
//! cfgs do. Otherwise doc tests would be compiled that use items which are absent under loom.
#![allow(clippy::print_stdout)] // reason: how a build script speaks

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom");
    }
}
