//! The rules about trust in combination, with a provider that is given explicitly while another one
//! is compiled in.
//!
//! The table is that of the crate's own tests (`tests/trust/trust_rules`), which use ring.
//! `scripts/providers` runs this file, which needs the features `testkit`, `ring` and `aws-lc-rs`.
//!
//! Checks: INV-03, INV-08, INV-09, INV-11, INV-14, INV-16.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, dead_code, missing_docs, clippy::print_stdout, unreachable_pub)]
// reason: a test may panic and print, and the wrong rules are tried where the table is at home

#[path = "../../tests/trust/trust_rules/cert_cache.rs"]
mod cert_cache;
#[path = "../../tests/trust/trust_rules/clients.rs"]
mod clients;
#[path = "../../tests/trust/trust_rules/count.rs"]
mod count;
#[path = "../../tests/trust/trust_rules/full.rs"]
mod full;
#[path = "../../tests/trust/trust_rules/kx.rs"]
mod kx;
#[path = "../../tests/trust/trust_rules/names.rs"]
mod names;
#[path = "../../tests/trust/trust_rules/oracle.rs"]
mod oracle;
#[path = "../../tests/trust/trust_rules/providers.rs"]
mod providers;
#[path = "../../tests/trust/trust_rules/reloads.rs"]
mod reloads;
#[path = "../../tests/trust/trust_rules/server.rs"]
mod server;
#[path = "../../tests/trust/trust_rules/sessions.rs"]
mod sessions;
#[path = "../../tests/trust/trust_rules/world.rs"]
mod world;

use std::sync::{Arc, LazyLock};

use cert_cache::CertCache;
use rustls::crypto::aws_lc_rs;
use server::Provider;

static CERT_CACHE: LazyLock<CertCache> = LazyLock::new(CertCache::new);

fn everything() -> bool {
    std::env::var("TRUST_RULES").is_ok_and(|value| value == "all")
}

fn provider() -> Provider {
    let mut crypto = aws_lc_rs::default_provider();
    crypto.kx_groups = vec![&kx::Open];
    Provider { crypto: Arc::new(crypto), ticketer: aws_lc_rs::Ticketer::new }
}

/// Engine: generated.
#[test]
fn inv14_full_handshakes_end_as_the_rules_say() {
    full::table(&CERT_CACHE, &provider()).close("full handshakes by aws-lc-rs");
}

/// Engine: generated.
#[test]
fn inv03_inv09_inv11_reloads_end_as_the_rules_say() {
    reloads::table(&CERT_CACHE, &provider()).close("reloads by aws-lc-rs");
}

/// Engine: generated.
#[test]
fn inv08_inv09_sessions_go_on_over_equal_names_alone() {
    names::table(&CERT_CACHE, &provider()).close("names and settings by aws-lc-rs");
}

/// Engine: generated.
#[test]
fn inv14_signatures_are_verified_by_the_provider_given() {
    providers::table(&provider()).close("providers by aws-lc-rs");
}
