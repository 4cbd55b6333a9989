//! Wrong ways to rehearse: with live state.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage};

use super::{Tried, caught};
use crate::common::{Generation, Volume, client_of, handshake, leaves_no_trace};

/// A further use of a configuration before it is published.
type Rehearse = fn(&Arc<ServerConfig>, &Generation);

/// Breaks: INV-02, INV-08. Rehearses against the live session store.
fn against_the_live_store(config: &Arc<ServerConfig>, generation: &Generation) {
    let mut rehearsed = config.as_ref().clone();
    rehearsed.key_log = Arc::new(rustls::NoKeyLog);
    handshake(&Arc::new(rehearsed), &client_of(generation, None)).unwrap();
}

/// Breaks: INV-02. Rehearses with the live key log.
fn with_the_live_key_log(config: &Arc<ServerConfig>, generation: &Generation) {
    let mut rehearsed = config.as_ref().clone();
    rehearsed.session_storage = Arc::new(NoServerSessionStorage {});
    handshake(&Arc::new(rehearsed), &client_of(generation, None)).unwrap();
}

fn verdict(rehearse: Rehearse) -> Result<(), String> {
    let generation = Generation::new(0);
    let volume = Volume::of(&generation);
    leaves_no_trace(|configure| {
        let config = volume.server().configure(configure).load().unwrap().config();
        rehearse(&config, &generation);
        config
    })
}

fn row(name: &str, rehearse: Rehearse) -> Result<(), String> {
    caught((name, "handshake"), &["INV-02"], Tried::runs(1), verdict(rehearse))
}

#[test]
fn inv02_a_rehearsal_leaves_no_trace_unless_the_design_is_wrong() {
    assert_eq!(verdict(|_, _| {}), Ok(()));
    assert_eq!(row("RehearsesLive", against_the_live_store), Ok(()));
    assert_eq!(row("LogsRehearsal", with_the_live_key_log), Ok(()));
    assert!(row("(repaired)", |_, _| {}).is_err());
}
