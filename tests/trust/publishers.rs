//! Three publishers, each with a set of its own. Whatever they do in any order, each set stays at
//! its last good version, and all served sets together decide which clients are let in.
//!
//! A walk makes every ordered pair of changes. After each change the real handshakes of all clients
//! are compared with an oracle that shares no code with the product. The same check walks through
//! wrong designs. `PUBLISHERS_ALL=1` walks with two CAs in every sorting of the files into sets.
//!
//! Checks: INV-03, INV-09, INV-14, INV-15.
//!
//! Engine: generated.

mod oracle;
mod world;
mod wrong;

use std::sync::Arc;

use crate::common::{self, handshake, quick};
use oracle::{Oracle, Part};
use rustls::ServerConfig;
use rustls_reload::{ClientAuth, ServerReloader};
use world::{CLIENTS, Change, State, Tls, World};
use wrong::{Design, Rule};

/// The sorting of the parts into sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sorting {
    /// The default: pair and client CAs in one set, lists in another.
    Lists,
    /// Each part is a set of its own.
    Three,
    /// The pair is one set, client CAs and lists another.
    Clients,
    /// One set.
    Together,
}

impl Sorting {
    fn sets(self) -> &'static [&'static [Part]] {
        use Part::{Bundle, Lists, Tls};
        match self {
            Self::Lists => &[&[Tls, Bundle], &[Lists]],
            Self::Three => &[&[Tls], &[Bundle], &[Lists]],
            Self::Clients => &[&[Tls], &[Bundle, Lists]],
            Self::Together => &[&[Tls, Bundle, Lists]],
        }
    }
}

/// A server during the walk.
trait Walked {
    /// Reloads from disk. Returns whether each set is refused, if the server knows.
    fn reload(&mut self, disk: &State) -> Option<Vec<bool>>;
    fn config(&self) -> Arc<ServerConfig>;
    /// Returns the number of the trust epoch, if there is one.
    fn epoch(&self) -> Option<u64>;
}

impl Walked for ServerReloader {
    fn reload(&mut self, _: &State) -> Option<Vec<bool>> {
        self.reload_now();
        Some(self.status().sets.iter().map(|set| set.refused.is_some()).collect())
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.config()
    }

    fn epoch(&self) -> Option<u64> {
        Some(self.current().value.trust_epoch())
    }
}

fn shipped(world: &World, sorting: Sorting, allow_unknown: bool) -> ServerReloader {
    let [chain, key, ca, lists] =
        ["tls/tls.crt", "tls/tls.key", "ca/ca.crt", "crl.d"].map(|name| world.path(name));
    let server = ServerReloader::builder(chain, key).client_ca(ca, ClientAuth::Required).crl_dir(lists);
    let server = server.separate_client_ca(matches!(sorting, Sorting::Three | Sorting::Clients));
    let server = server.crls_with_client_ca(matches!(sorting, Sorting::Clients | Sorting::Together));
    let server = if allow_unknown { server.allow_unknown_revocation_status() } else { server };
    server.timing(quick()).load().unwrap()
}

/// Returns a walk over all ordered pairs of changes: an Eulerian circuit of the complete graph with
/// loops.
fn walk(changes: &[Change]) -> Vec<Change> {
    let mut left: Vec<Vec<usize>> = vec![(0..changes.len()).collect(); changes.len()];
    let (mut stack, mut circuit) = (vec![0], Vec::new());
    while let Some(at) = stack.last().copied() {
        match left[at].pop() {
            Some(next) => stack.push(next),
            None => circuit.extend(stack.pop()),
        }
    }
    circuit.reverse();
    circuit.into_iter().map(|change| changes[change]).collect()
}

/// Walks, and compares after each step: the refused sets, the served certificate, the clients that
/// are let in, and the epoch of the sessions.
fn walked(
    world: &World,
    server: &mut dyn Walked,
    (first, sets): (State, &[&[Part]]),
    allow_unknown: bool,
) -> Result<usize, String> {
    let mut oracle = Oracle::new(sets, first, allow_unknown);
    let mut handshakes = 0;
    for (step, change) in walk(&first.changes()).into_iter().enumerate() {
        world.put(change);
        let before = (oracle.served, server.epoch(), server.config());
        oracle.disk = oracle.disk.changed(change);
        oracle.reload();
        let refused = server.reload(&oracle.disk);
        let at = |what: &str| format!("{what}: step {step}, {change:?}, {oracle:?}");
        if refused.is_some_and(|refused| refused != oracle.refused) {
            return Err(at("INV-03: other sets are refused"));
        }
        if before.0 == oracle.served && server.epoch().is_some() && !Arc::ptr_eq(&before.2, &server.config())
        {
            return Err(at("INV-03: nothing is taken, and something else is served"));
        }
        let Tls::Good(pair) = oracle.served.tls else { return Err(at("a broken pair is served")) };
        for (client, who) in CLIENTS.iter().enumerate() {
            let expected = oracle.served.lets_in(client, allow_unknown);
            let connection = handshake(&server.config(), world.client(client));
            handshakes += 1;
            match (&connection, expected) {
                // A resumed session has the certificate that it was made with.
                (Ok(connection), true) if connection.resumed || connection.leaf() == world.leaf(pair) => {}
                (Ok(_), true) => return Err(at("INV-03: another certificate is served")),
                (Err(_), false) => {}
                (Ok(_), false) => return Err(at(&format!("INV-14: {who:?} is let in"))),
                (Err(error), true) => {
                    return Err(at(&format!("INV-14: {who:?} is refused, {error}")));
                }
            }
        }
        let (was, now) = (before.0, oracle.served);
        let same = (was.bundle, was.listed()) == (now.bundle, now.listed());
        if server.epoch().is_some() && (server.epoch() == before.1) != same {
            return Err(at("INV-09: the sessions' epoch"));
        }
    }
    Ok(handshakes)
}

#[test]
fn inv14_three_publishers_in_any_order_decide_together() {
    let sortings = [Sorting::Lists, Sorting::Three, Sorting::Clients, Sorting::Together];
    let mut runs: Vec<_> = sortings.into_iter().map(|sorting| (State::ONE_CA, sorting, false)).collect();
    runs.extend([(State::ONE_CA, Sorting::Three, true), (State::FIRST, Sorting::Three, false)]);
    if std::env::var_os("PUBLISHERS_ALL").is_some() {
        runs.extend(sortings.map(|sorting| (State::FIRST, sorting, true)));
        runs.extend(sortings.map(|sorting| (State::FIRST, sorting, false)));
    }
    let all = common::at_once(&runs, |(first, sorting, allow_unknown)| {
        let world = World::new(first);
        let mut server = shipped(&world, *sorting, *allow_unknown);
        walked(&world, &mut server, (*first, sorting.sets()), *allow_unknown)
    });
    for ((first, sorting, unknown), handshakes) in runs.iter().zip(all) {
        let handshakes = handshakes.unwrap_or_else(|why| panic!("{sorting:?}, {unknown}: {why}"));
        let steps = walk(&first.changes()).len();
        println!("{sorting:?}, unknown allowed: {unknown}: {steps} steps, {handshakes} handshakes, 0 differ");
        assert!(handshakes > steps, "{sorting:?}");
    }
}

#[test]
fn inv14_wrong_designs_of_sets_are_caught() {
    for (rule, first, expected) in [
        (Rule::Right, State::ONE_CA, None),
        (Rule::ForgetsTheServedCas, State::FIRST, Some("INV-14")),
        (Rule::BrokenListsAreNone, State::FIRST, Some("INV-14")),
        (Rule::TakesTheLastSeen, State::FIRST, Some("INV-14")),
        (Rule::DropsListsOfOtherKeys, State::ONE_CA, Some("INV-14")),
        (Rule::OneSet, State::FIRST, Some("INV-14")),
    ] {
        let world = World::new(&first);
        let mut design = Design::new(&world, rule, first);
        let found = walked(&world, &mut design, (first, Sorting::Three.sets()), false).err();
        println!("{rule:?}: {found:?}");
        match expected {
            None => assert_eq!(found, None),
            Some(invariant) => assert!(found.unwrap().starts_with(invariant), "{rule:?}"),
        }
    }
}
