//! Lets the doc tests see `--cfg loom`: RUSTFLAGS does not reach rustdoc, a build script's cfgs do. Without it they would
//! be compiled for what is absent under loom.
#![allow(clippy::print_stdout)] // reason: how a build script speaks

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom");
    }
}
