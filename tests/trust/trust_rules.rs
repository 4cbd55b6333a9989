//! The rules about trust in combination: client CAs, CRLs, policies, modes, names,
//! sessions and providers.
//!
//! One table over small worlds. An oracle with plain booleans, written from the manual and
//! RFC 5280, decides for each combination how each handshake ends, which reload is accepted, which
//! session goes on over it, and which clients lose trust. Handshakes in memory and the shipped
//! build step have to agree with it. `TRUST_RULES=all` tries every policy and more reloads.
//!
//! Checks: INV-02, INV-03, INV-08, INV-09, INV-11, INV-14, INV-16.

mod cert_cache;
mod clients;
mod count;
mod full;
mod hook;
mod kx;
mod names;
mod oracle;
mod providers;
mod reloads;
mod served;
mod server;
mod sessions;
mod world;

use std::sync::{Arc, LazyLock};

use cert_cache::CertCache;
use oracle::Rule;
use rustls::crypto::ring;
use rustls_reload_harness::settings;
use server::Provider;

static CERT_CACHE: LazyLock<CertCache> = LazyLock::new(CertCache::new);

fn everything() -> bool {
    settings::is("TRUST_RULES", "all")
}

fn provider() -> Provider {
    let mut crypto = ring::default_provider();
    crypto.kx_groups = vec![&kx::Open];
    Provider { crypto: Arc::new(crypto), ticketer: ring::Ticketer::new }
}

/// Engine: generated.
#[test]
fn inv14_full_handshakes_end_as_the_rules_say() {
    full::table(&CERT_CACHE, &provider()).close("full handshakes");
}

/// Engine: generated.
#[test]
fn inv03_inv09_inv11_reloads_end_as_the_rules_say() {
    reloads::table(&CERT_CACHE, &provider()).close("reloads");
}

/// Engine: generated.
#[test]
fn inv08_inv09_sessions_go_on_over_equal_names_alone() {
    names::table(&CERT_CACHE, &provider()).close("names and settings");
}

/// Engine: generated.
#[test]
fn inv14_signatures_are_verified_by_the_provider_given() {
    providers::table(&provider()).close("providers");
}

#[test]
fn inv11_whoever_is_drained_was_trusted_more_before() {
    served::walk(&CERT_CACHE, &provider()).close("served");
}

#[test]
fn inv09_inv14_wrong_rules_differ_somewhere_in_the_table() {
    for rule in Rule::WRONG {
        assert!(full::sees(rule) || reloads::sees(rule) || names::sees(rule), "{rule:?} is not seen");
    }
}

/// Engine: generated.
#[test]
fn inv02_inv09_closure_takes_nothing_that_trust_stands_on() {
    hook::table(&CERT_CACHE, &provider()).close("closure for further settings");
}
