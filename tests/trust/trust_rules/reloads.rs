//! Reloads from every state to every other one that differs in one part, and to some that differ in
//! both.

use std::collections::{BTreeSet, HashMap};

use rustls_reload::{HandshakeFailure, Layer, RemovedTrust, ServerTls};

use super::{
    cert_cache::CertCache,
    count::{Count, halves},
    everything,
    full::{Clients, clients, load},
    oracle::{Rule, Verdict, keeps},
    server::{Layout, Provider, Server, Setup},
    sessions::{Kind, Offering},
    world::{BUNDLES, CLIENTS, Client, LEAVES, LISTS, List, MODES, Names, Policy, State},
};

/// The layouts in which one state can follow another in one step if one part changes.
const LAYOUTS: [Layout; 4] = [Layout::One, Layout::Lists, Layout::Three, Layout::Clients];

/// The result of a reload under one policy, by the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    follows: bool,
    warns: bool,
    same: bool,
    shrinks: bool,
    verdicts: Vec<[Verdict; 2]>,
}

fn outcome(from: &State, to: &State, policy: Policy, rule: Rule) -> Outcome {
    let required = MODES[0];
    let verdicts =
        CLIENTS.map(|client| [from, to].map(|state| state.verdict(client, required, policy, rule)));
    let loses = verdicts.iter().any(|[was, now]| was.is_ok() && now.is_err());
    Outcome {
        shrinks: to.lost_cas(from) > 0
            || loses && !to.forgives(from, policy) && rule != Rule::ListsNeverShrink,
        follows: to.follows(from, &BTreeSet::new(), policy, rule),
        warns: to.warns(Some(from), policy),
        same: to.is_trust_of(from, policy, rule),
        verdicts: verdicts.into(),
    }
}

/// Returns the states to which one state is reloaded, and whether both parts change.
fn targets(b: usize, l: usize) -> Vec<(State, bool)> {
    let from = LISTS[l];
    // Each change of the bundle is tried with every second set of lists. Each change of lists is
    // tried with two bundles, and with a third that varies.
    let bundles =
        BUNDLES.into_iter().enumerate().filter(|(n, _)| (b + l + n).is_multiple_of(2) || everything());
    let mut all: Vec<_> = bundles.map(|(_, bundle)| (State { bundle, lists: Some(from) }, false)).collect();
    let changes = LISTS
        .into_iter()
        .enumerate()
        .filter(|(n, _)| [1, 7].contains(&b) || (l + n) % BUNDLES.len() == b || everything());
    all.extend(changes.map(|(_, lists)| (State { bundle: BUNDLES[b], lists: Some(lists) }, false)));
    let both = |n: usize| State {
        bundle: BUNDLES[(b + n * 3 + l) % BUNDLES.len()],
        lists: Some(LISTS[(l * 7 + n * 5 + b) % LISTS.len()]),
    };
    all.extend((1..=if everything() { 30 } else { 2 }).map(|n| (both(n), true)));
    all
}

/// Returns the policies under which a reload is tried: two of the outcomes in turn, each with one
/// policy.
fn policies(from: &State, to: &State, salt: usize) -> Vec<Policy> {
    let mut kinds: Vec<(Outcome, Vec<Policy>)> = Vec::new();
    for policy in Policy::all() {
        // The table of full handshakes covers every verdict.
        let outcome = Outcome { verdicts: Vec::new(), ..outcome(from, to, policy, Rule::Right) };
        match kinds.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, alike)) => alike.push(policy),
            None => kinds.push((outcome, vec![policy])),
        }
    }
    if everything() {
        return Policy::all().into();
    }
    let first = salt % kinds.len();
    kinds.rotate_left(first);
    kinds.into_iter().take(2).map(|(_, alike)| alike[salt % alike.len()]).collect()
}

/// A server that serves one state, and the clients' sessions in it.
struct Loaded<'a> {
    server: Server,
    setup: Setup,
    served: ServerTls,
    state: State,
    kind: Kind,
    offering: HashMap<Client, Offering>,
    cache: &'a CertCache,
    clients: &'a Clients,
}

pub fn table(cache: &CertCache, provider: &Provider) -> Count {
    let clients = clients(cache, provider);
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for b in 0..BUNDLES.len() {
        parts.extend((0..LISTS.len()).map(|l| (b, l)));
    }
    let mut count = halves(&parts, |(b, l)| {
        let mut count = Count::default();
        let state = State { bundle: BUNDLES[*b], lists: Some(LISTS[*l]) };
        if !state.loads() {
            return count;
        }
        let mut loaded = HashMap::new();
        for (n, (to, both)) in targets(*b, *l).into_iter().enumerate() {
            count.combinations += 8;
            let policies = policies(&state, &to, n + b + l);
            count.pruned += 8 - policies.len();
            for policy in policies {
                let served = loaded.entry(policy).or_insert_with(|| {
                    let p = usize::from(policy.allow_unknown) + 2 * usize::from(policy.use_expired);
                    // Both parts can change in one step where they are one set.
                    let layout = LAYOUTS[(b + l + p) % LAYOUTS.len()];
                    let kind = Kind::ALL[(b + l / 4 + p) % Kind::ALL.len()];
                    let setup = Setup {
                        policy,
                        layout,
                        versions: kind.versions(),
                        tickets: kind.tickets(),
                        mode: Some(MODES[l % 2]),
                        ..Setup::new(provider)
                    };
                    let mut server = Server::new(&setup);
                    let served = load_into(&mut count, &mut server, cache, &state, policy, layout);
                    Loaded {
                        server,
                        setup,
                        served,
                        state,
                        kind,
                        offering: HashMap::new(),
                        cache,
                        clients: &clients,
                    }
                });
                if both && !matches!(served.setup.layout, Layout::One | Layout::Clients) {
                    count.pruned += 1;
                    continue;
                }
                let set = served.set(&to);
                served.reload(&mut count, &to, set, n);
            }
        }
        count
    });
    count.join(publishers(cache, provider, &clients));
    count
}

/// Loads a valid state. Whether it warns is known where all files are one set.
fn load_into(
    count: &mut Count,
    server: &mut Server,
    cache: &CertCache,
    state: &State,
    policy: Policy,
    layout: Layout,
) -> ServerTls {
    match layout {
        Layout::One => load(count, server, cache, state, policy).expect("a state that loads"),
        _ => server.load(cache, state).unwrap_or_else(|error| panic!("{state:?}: {error}")).value,
    }
}

impl Loaded<'_> {
    /// Returns the set in which the two states differ; if they do not, the first set that decides
    /// about clients.
    fn set(&self, to: &State) -> usize {
        let of = self.setup.layout.of_clients();
        if self.state.bundle == to.bundle { of[of.len() - 1] } else { of[0] }
    }

    fn verdict(&self, state: &State, client: Client) -> Verdict {
        state.verdict(client, self.setup.mode.unwrap(), self.setup.policy, Rule::Right)
    }

    /// Reloads to another state by a change of this set, and compares all results with the rules.
    fn reload(&mut self, count: &mut Count, to: &State, set: usize, salt: usize) {
        let (from, policy, layout) = (self.state, self.setup.policy, self.setup.layout);
        let what = || format!("{from:?} to {to:?}, {policy:?}, {layout:?}");
        let files = self.server.files(self.cache, to, &LEAVES[..1]);
        let built = self.server.change(&self.served, set, &files[set]);
        let follows = to.follows(&from, &BTreeSet::new(), policy, Rule::Right);
        count.reloads += 1;
        count.expect(built.is_ok(), follows, || format!("{}: {:?}", what(), built.as_ref().err()));
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                count.refused_reloads += 1;
                count.expect(error.layer(), Layer::Crl, || format!("{}: {error}", what()));
                return;
            }
        };
        // Unchanged files cause no new warning.
        if layout == Layout::One && *to != from {
            let warned = count.warnings(&built.warnings);
            let wanted = to.warns(Some(&from), policy);
            count.expect(warned, wanted, || format!("a warning: {}: {:?}", what(), built.warnings));
        }
        let same = to.is_trust_of(&from, policy, Rule::Right);
        let epochs = [&self.served, &built.value].map(ServerTls::trust_epoch);
        count.expect(epochs[1] - epochs[0], u64::from(!same), || format!("the epoch: {}", what()));
        let losers = || {
            let is_in = |state: &State, client| self.verdict(state, client).is_ok();
            CLIENTS.into_iter().filter(move |client| is_in(&from, *client) && !is_in(to, *client))
        };
        let lost = built.reduced_trust.as_ref().map(|shrunk| shrunk.removed.clone()).unwrap_or_default();
        let cas = lost.iter().filter(|lost| matches!(lost, RemovedTrust::ClientCa { .. })).count();
        count.shrunk += usize::from(built.reduced_trust.is_some());
        count.expect(cas, to.lost_cas(&from), || format!("CAs that went: {}: {lost:?}", what()));
        let may_shrink = to.lost_cas(&from) > 0 || !to.forgives(&from, policy);
        let must_shrink = to.lost_cas(&from) > 0 || losers().next().is_some() && may_shrink;
        let fine = if must_shrink {
            built.reduced_trust.is_some()
        } else {
            may_shrink || built.reduced_trust.is_none()
        };
        count.expect(fine, true, || format!("{must_shrink} {may_shrink} {lost:?}: {}", what()));
        let settled = built
            .reduced_trust
            .as_ref()
            .is_none_or(|shrunk| shrunk.epoch == epochs[1] && !shrunk.removed.is_empty());
        count.expect(settled, true, || format!("what is reported: {}", what()));
        // Sessions of excluded clients must not go on.
        let accepted: Vec<_> =
            CLIENTS.into_iter().filter(|client| self.verdict(&from, *client).is_ok()).collect();
        let mut offering: Vec<_> = losers().take(1).collect();
        if same || salt.is_multiple_of(2) {
            offering.extend(accepted.get(salt % accepted.len().max(1)).copied());
            offering.dedup();
        }
        for client in offering {
            self.offer(count, &built.value, to, client, same);
        }
        // The newly built verifier lets newly accepted clients in.
        let gains =
            |client: &Client| self.verdict(&from, *client).is_err() && self.verdict(to, *client).is_ok();
        let mut newcomers: Vec<_> = CLIENTS.into_iter().filter(gains).take(1).collect();
        if salt.is_multiple_of(2) || everything() {
            newcomers.push(CLIENTS[salt / 2 % CLIENTS.len()]);
        }
        for client in newcomers {
            let config = self.clients[&(client, self.kind.place())].clone().into();
            let found = super::clients::handshake(&built.value.config, &config, "a.test");
            count.full(found, self.verdict(to, client), || format!("{client:?} after {}", what()));
        }
        if !same && salt.is_multiple_of(3) && layout != Layout::TwoPublishers {
            self.back(count, &built.value, to, set, accepted.first().copied());
        }
    }

    /// Offers a session of the served state to another state.
    fn offer(&mut self, count: &mut Count, server: &ServerTls, to: &State, client: Client, goes_on: bool) {
        let place = self.kind.place();
        let (from, kind, policy) = (self.state, self.kind, self.setup.policy);
        if !self.offering.get(&client).is_some_and(Offering::is_left) {
            let config = &self.clients[&(client, place)];
            self.offering.insert(client, Offering::new(config, &self.served, "a.test"));
        }
        let found = self.offering[&client].offer(server, "a.test");
        let verdict = self.verdict(to, client);
        let what = || format!("a session of {client:?}, {kind:?}, {policy:?}, {from:?} to {to:?}");
        count.offered += 1;
        count.resumed += usize::from(matches!(found, Ok(true)));
        // An expired list refuses new clients and ends no session, because the trust is unchanged.
        count.fail_open += usize::from(found == Ok(true) && !goes_on && verdict.is_err());
        let wanted = if goes_on { Ok(true) } else { verdict.map(|()| false) };
        count.expect(found.map_err(|error| HandshakeFailure::of(&error)), wanted, what);
    }

    /// Goes back to the served state, which is a new trust in which no session of the first one
    /// goes on.
    fn back(
        &mut self,
        count: &mut Count,
        between: &ServerTls,
        to: &State,
        set: usize,
        client: Option<Client>,
    ) {
        let from = self.state;
        let retired = to.retires(&from, &BTreeSet::new());
        let files = self.server.files(self.cache, &from, &LEAVES[..1]);
        let built = self.server.change(between, set, &files[set]);
        let policy = self.setup.policy;
        let follows = from.follows(to, &retired, policy, Rule::Right);
        count.reloads += 1;
        count.expect(built.is_ok(), follows, || {
            format!("back to {from:?} from {to:?}, {policy:?}: {:?}", built.as_ref().err())
        });
        let Ok(built) = built else {
            count.refused_reloads += 1;
            return;
        };
        let epochs = [&self.served, &built.value].map(ServerTls::trust_epoch);
        count.expect(epochs[1], epochs[0] + 2, || format!("the epoch back at {from:?} from {to:?}"));
        count.shrunk += usize::from(built.reduced_trust.is_some());
        if let Some(client) = client {
            self.offer(count, &built.value, &from, client, false);
        }
    }
}

/// Tests two directories of lists with a publisher each: the first one changes, the other has one
/// more list.
fn publishers(cache: &CertCache, provider: &Provider, clients: &Clients) -> Count {
    let plain =
        |list: &&List| !list.shard && !list.delta && list.key.name() != "I" && list.names != Names::Held;
    let mut all: Vec<List> = LISTS.into_iter().flatten().filter(plain).copied().collect();
    all.sort();
    all.dedup();
    let others: Vec<List> = all.iter().filter(|list| !list.expired).copied().collect();
    halves(&all, |first| {
        let mut count = Count::default();
        for (o, other) in others.iter().enumerate() {
            for (b, bundle) in BUNDLES.iter().enumerate().filter(|(b, _)| [1, 7].contains(b)) {
                let state =
                    |first: &List| State { bundle, lists: Some(Box::leak(Box::new([*first, *other]))) };
                let from = state(first);
                let policy = Policy::all()[(o + b) % 4];
                let kind = Kind::ALL[(o + b) % 4];
                if !from.loads() {
                    continue;
                }
                let (versions, tickets) = (kind.versions(), kind.tickets());
                let layout = Layout::TwoPublishers;
                let setup = Setup { policy, layout, versions, tickets, ..Setup::new(provider) };
                let mut server = Server::new(&setup);
                let served = load_into(&mut count, &mut server, cache, &from, policy, layout);
                let offering = HashMap::new();
                let mut loaded =
                    Loaded { server, setup, served, state: from, kind, offering, cache, clients };
                for (n, next) in all.iter().enumerate() {
                    count.combinations += 1;
                    let to = state(next);
                    if keeps(first, next, other) {
                        loaded.reload(&mut count, &to, 1, n);
                    } else {
                        let files = loaded.server.files(cache, &to, &LEAVES[..1]);
                        let built = loaded.server.change(&loaded.served, 1, &files[1]);
                        (count.reloads, count.refused_reloads) =
                            (count.reloads + 1, count.refused_reloads + 1);
                        count.expect(built.is_err(), true, || {
                            format!("{first:?} to {next:?} beside {other:?}")
                        });
                    }
                }
            }
        }
        count
    })
}

/// Returns whether the tried states distinguish a wrong rule from the right one.
pub fn sees(rule: Rule) -> bool {
    let states = || (0..BUNDLES.len()).flat_map(|b| (0..LISTS.len()).map(move |l| (b, l)));
    states().any(|(b, l)| {
        let from = State { bundle: BUNDLES[b], lists: Some(LISTS[l]) };
        from.loads()
            && targets(b, l).into_iter().enumerate().any(|(n, (to, _))| {
                let mut policies = policies(&from, &to, n + b + l).into_iter();
                policies.any(|policy| {
                    outcome(&from, &to, policy, rule) != outcome(&from, &to, policy, Rule::Right)
                })
            })
    })
}
