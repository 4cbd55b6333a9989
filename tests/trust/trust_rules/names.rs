//! The names of the pairs, and the settings of sessions: which session goes on over which renewal.

use rustls_reload::{ClientAuth, HandshakeFailure, ServerTls};

use super::{
    cert_cache::CertCache,
    clients::handshake,
    count::{Count, halves},
    full::{Clients, clients},
    oracle::Rule,
    server::{Provider, Server, Setup},
    sessions::{Kind, Offering},
    world::{BUNDLES, Cert, Client, FURTHER, LEAVES, LISTS, Leaf, Policy, State},
};

const STATE: State = State { bundle: BUNDLES[1], lists: Some(LISTS[6]) };
/// The server names in handshakes.
const ASKED: [&str; 9] =
    ["a.test", "b.test", "x.a.test", "x.b.test", "f.test", "g.test", "x.f.test", "x.y.f.test", "other.test"];

/// A change of one leaf, by its index in those of the default pair or of the further pair.
#[derive(Clone, Copy, Debug)]
struct Change {
    set: usize,
    from: Leaf,
    to: Leaf,
}

fn changes() -> Vec<Change> {
    let mut all = Vec::new();
    for (set, leaves) in [(0, &LEAVES[..]), (1, &FURTHER[..])] {
        let pairs = leaves.iter().flat_map(|from| leaves.iter().map(move |to| (from, to)));
        all.extend(pairs.map(|(from, to)| Change { set, from: *from, to: *to }));
    }
    all
}

impl Change {
    /// Returns the leaves before and after the change.
    fn leaves(&self) -> [[Leaf; 2]; 2] {
        match self.set {
            0 => [[self.from, FURTHER[0]], [self.to, FURTHER[0]]],
            _ => [[LEAVES[0], self.from], [LEAVES[0], self.to]],
        }
    }

    fn is_same(&self, rule: Rule) -> bool {
        let forgotten = rule == Rule::FurtherForgotten && self.set > 0;
        forgotten || self.from.identity(rule) == self.to.identity(rule)
    }
}

/// The modes of client authentication, each with a client that it lets in.
const MODES: [(Option<ClientAuth>, Client); 3] =
    [(None, None), (Some(ClientAuth::Optional), None), (Some(ClientAuth::Required), Some(Cert::Good))];

pub fn table(certs: &CertCache, provider: &Provider) -> Count {
    let clients = clients(certs, provider);
    let changes: Vec<_> = changes().into_iter().enumerate().collect();
    let mut count = halves(&changes, |(c, change)| {
        let mut count = Count::default();
        for kind in Kind::ALL {
            for (m, (mode, shown)) in MODES.into_iter().enumerate() {
                for strict in [false, true] {
                    count.combinations += 1;
                    // Modes and strict names take turns, because the rules about names do not
                    // depend on them.
                    if (m + usize::from(strict) * 3 + c + kind.place()) % 3 != 0 {
                        count.pruned += 1;
                        continue;
                    }
                    let setup = Setup {
                        mode,
                        strict,
                        further: true,
                        has_lists: mode.is_some(),
                        versions: kind.versions(),
                        tickets: kind.tickets(),
                        ..Setup::new(provider)
                    };
                    renew(&mut count, certs, &clients, &setup, (*change, kind, shown));
                }
            }
        }
        count
    });
    count.join(settings(certs, provider, &clients));
    count
}

/// Changes a leaf, and offers sessions of both pairs.
fn renew(
    count: &mut Count,
    certs: &CertCache,
    clients: &Clients,
    setup: &Setup,
    (change, kind, shown): (Change, Kind, Client),
) {
    let what = || format!("{change:?}, {kind:?}, {:?}, strict: {}", setup.mode, setup.strict);
    let mut server = Server::new(setup);
    let [before, after] = change.leaves();
    let files = [before, after].map(|leaves| server.files(certs, &STATE, &leaves));
    let served = server.first(&files[0]).unwrap_or_else(|error| panic!("{}: {error}", what())).value;
    count.loads += 1;
    let config = &clients[&(shown, kind.place())];
    let offering = ["a.test", "f.test"].map(|name| (name, Offering::new(config, &served, name)));
    // A session is bound to one name, even if its pair has others.
    let crossed = offering[0].1.offer(&served, "f.test");
    count.offered += 1;
    count.expect(crossed, Ok(false), || format!("under another name: {}", what()));
    let built = server.change(&served, change.set, &files[1][change.set]);
    count.reloads += 1;
    let Ok(built) = built else {
        count.expect(true, false, || format!("{}: {:?}", what(), built.as_ref().err()));
        return;
    };
    let same = change.is_same(Rule::Right);
    let epochs = built.value.trust_epoch() - served.trust_epoch();
    count.expect(epochs, u64::from(!same), || format!("the epoch: {}", what()));
    count.expect(built.reduced_trust.is_some(), false, || {
        format!("names are no trust of clients: {}", what())
    });
    for (name, offering) in &offering {
        let found = offering.offer(&built.value, name);
        count.offered += 1;
        count.resumed += usize::from(found == Ok(true));
        count.fail_open += usize::from(found == Ok(true) && !same);
        count.expect(found, Ok(same), || format!("a session for {name}: {}", what()));
    }
    for name in ASKED {
        answers(count, &built.value, &after, setup.strict, name);
    }
    let name = ASKED[(change.to.names.len() + epochs as usize * 4 + kind.place()) % ASKED.len()];
    let answered = !setup.strict || after.iter().any(|leaf| leaf.answers(name));
    let found = handshake(&built.value.config, &config.clone().into(), name);
    let wanted = if answered { Ok(()) } else { Err(HandshakeFailure::UnknownName) };
    count.full(found, wanted, || format!("{name} from {}", what()));
}

/// Compares the leaf for a name with the rules: that of the further pair, or else of the default
/// one.
fn answers(count: &mut Count, server: &ServerTls, [default, further]: &[Leaf; 2], strict: bool, name: &str) {
    let found = server.leaf_for(Some(name)).map(|leaf| leaf.names.contains(&"f.test".to_owned()));
    let wanted = match (further.answers(name), strict && !default.answers(name)) {
        (true, _) => Some(true),
        (false, false) => Some(false),
        (false, true) => None,
    };
    count.expect(found, wanted, || format!("{name} of {default:?} and {further:?}, strict: {strict}"));
}

/// Tests the settings of sessions: whether they go on over reloads, how many are stored, and
/// whether there are tickets.
fn settings(certs: &CertCache, provider: &Provider, clients: &Clients) -> Count {
    let mut count = Count::default();
    let leaves = [LEAVES[0], LEAVES[1]];
    for kind in Kind::ALL {
        for (over_reloads, cache) in
            [(true, None), (false, None), (true, Some(0)), (false, Some(0)), (true, Some(64))]
        {
            for (mode, shown) in MODES {
                for policy in [Policy::default(), Policy::all()[7]] {
                    count.combinations += 1;
                    let setup = Setup {
                        mode,
                        policy,
                        over_reloads,
                        cache,
                        has_lists: mode.is_some(),
                        versions: kind.versions(),
                        tickets: kind.tickets(),
                        ..Setup::new(provider)
                    };
                    let what =
                        || format!("{kind:?}, {mode:?}, over reloads: {over_reloads}, stored: {cache:?}");
                    let mut server = Server::new(&setup);
                    let files = leaves.map(|leaf| server.files(certs, &STATE, &[leaf]));
                    let served = server.first(&files[0]).unwrap().value;
                    let offering = Offering::new(&clients[&(shown, kind.place())], &served, "a.test");
                    let stored = kind.tickets() || cache != Some(0);
                    let built = server.change(&served, 0, &files[1][0]).unwrap();
                    let epochs = [&served, &built.value].map(ServerTls::trust_epoch);
                    count.expect(epochs[0], epochs[1], || format!("the epoch: {}", what()));
                    (count.loads, count.reloads) = (count.loads + 1, count.reloads + 1);
                    for (server, goes_on) in [(&served, true), (&built.value, over_reloads)] {
                        let found = offering.offer(server, "a.test");
                        count.offered += 1;
                        count.resumed += usize::from(found == Ok(true));
                        count.expect(found, Ok(stored && goes_on), what);
                    }
                }
            }
        }
    }
    count
}

/// Returns whether the tried changes distinguish a wrong rule from the right one.
pub fn sees(rule: Rule) -> bool {
    changes().iter().any(|change| change.is_same(rule) != change.is_same(Rule::Right))
}
