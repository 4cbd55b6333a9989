//! Full handshakes with every state that loads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, Error as TlsError, ServerConfig, SupportedProtocolVersion,
    pki_types::UnixTime,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_reload::{ClientAuth, HandshakeFailure, Layer, ServerTls};

use super::{
    cert_cache::CertCache,
    clients::{client, handshake},
    count::{Count, halves},
    everything,
    oracle::{Rule, Verdict},
    server::{Provider, Server, Setup},
    world::{BUNDLES, Bundle, CLIENTS, Client, LISTS, Lists, MODES, Names, Policy, State},
};

pub const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// The configuration of each client, by the index of its version.
pub type Clients = HashMap<(Client, usize), ClientConfig>;

pub fn clients(cache: &CertCache, provider: &Provider) -> Clients {
    let mut made = HashMap::new();
    for shown in CLIENTS {
        let key = shown.map(|cert| cache.shown(cert, &provider.crypto));
        for (place, versions) in VERSIONS.iter().enumerate() {
            made.insert((shown, place), client(key.clone(), versions[0], &provider.crypto));
        }
    }
    made
}

/// Returns all states of lists, including that without lists.
pub fn lists() -> impl Iterator<Item = Option<Lists>> {
    LISTS.into_iter().map(Some).chain([None])
}

impl Count {
    /// Compares the end of a full handshake with the verdict.
    pub fn full(&mut self, found: Result<bool, TlsError>, wanted: Verdict, what: impl FnOnce() -> String) {
        let found = found.map(|_| ()).map_err(|error| HandshakeFailure::of(&error));
        self.handshakes += 1;
        self.fail_open += usize::from(found.is_ok() && wanted.is_err());
        if let Err(reason) = found {
            *self.refusals.entry(reason.name()).or_default() += 1;
        }
        self.expect(found, wanted, what);
    }

    /// Records whether a build warned about CRLs.
    pub fn warnings(&mut self, warnings: &[rustls_reload::Warning]) -> bool {
        let warned = warnings.iter().any(|warning| warning.layer() == Layer::Crl);
        self.warned += usize::from(warned);
        warned
    }
}

/// Returns whether lists and policy matter for this client. By the rules they decide last.
fn asks_lists(state: &State, client: Client, mode: ClientAuth) -> bool {
    let without = State { lists: None, ..*state };
    client.is_some() && without.verdict(client, mode, Policy::default(), Rule::Right).is_ok()
}

/// Returns whether a policy represents all those under which a client has the same verdict. They
/// take turns.
fn is_representative(state: &State, client: Client, mode: ClientAuth, policy: usize, salt: usize) -> bool {
    let verdicts = Policy::all().map(|policy| state.verdict(client, mode, policy, Rule::Right));
    let alike: Vec<_> = (0..verdicts.len()).filter(|p| verdicts[*p] == verdicts[policy]).collect();
    alike[salt % alike.len()] == policy
}

pub fn table(cache: &CertCache, provider: &Provider) -> Count {
    let clients = clients(cache, provider);
    let policies = Policy::all();
    let parts: Vec<(usize, Bundle)> = BUNDLES.into_iter().enumerate().collect();
    halves(&parts, |(b, bundle)| {
        let mut count = Count::default();
        for mode in MODES {
            for (p, policy) in policies.into_iter().enumerate() {
                // Without a list the policy does not matter, and a certificate is verified in the
                // same way in both modes.
                let is_first = p == 0;
                let is_lax = policy.allow_unknown && policy.use_expired && !policy.leaf_only;
                let is_asked = mode == ClientAuth::Required || is_first || is_lax || everything();
                let mut servers = [[true, false], [true, false]].map(|has_lists| {
                    has_lists.map(|has_lists| Setup {
                        policy,
                        mode: Some(mode),
                        has_lists,
                        ..Setup::new(provider)
                    })
                });
                for (place, versions) in VERSIONS.into_iter().enumerate() {
                    servers[place].iter_mut().for_each(|setup| setup.versions = versions);
                }
                let mut servers = servers.map(|setups| setups.map(|setup| Server::new(&setup)));
                for (l, lists) in lists().enumerate() {
                    count.combinations += CLIENTS.len();
                    if !is_asked || lists.is_none() && !is_first {
                        count.pruned += CLIENTS.len();
                        continue;
                    }
                    let (state, place) = (State { bundle, lists }, (b + l + p) % 2);
                    let server = &mut servers[place][usize::from(lists.is_none())];
                    let Some(served) = load(&mut count, server, cache, &state, policy) else { continue };
                    for shown in CLIENTS {
                        let asked = match asks_lists(&state, shown, mode) {
                            false => l % 8 == 0 && (is_first || is_lax),
                            true => is_first || is_representative(&state, shown, mode, p, b + l),
                        };
                        if !asked && !everything() {
                            count.pruned += 1;
                            continue;
                        }
                        let config = Arc::new(clients[&(shown, place)].clone());
                        let found = handshake(&served.config, &config, "a.test");
                        let wanted = state.verdict(shown, mode, policy, Rule::Right);
                        count.full(found, wanted, || format!("{shown:?}, {mode:?}, {policy:?}, {state:?}"));
                        // The lists expire while they are served.
                        let is_held = state.lists().iter().any(|list| list.names == Names::Held);
                        if wanted.is_ok() && (is_held || (b + l + p) % 4 == 0 || everything()) {
                            let aged = state.aged();
                            let wanted = aged.verdict(shown, mode, policy, Rule::Right);
                            let found = handshake(&later(&served), &config, "a.test");
                            count.full(found, wanted, || format!("later: {shown:?}, {policy:?}, {state:?}"));
                        }
                    }
                }
            }
        }
        count
    })
}

/// Returns the served configuration hours later, when every list has expired and no certificate
/// has.
fn later(served: &ServerTls) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&served.config);
    config.time_provider = Arc::new(Later);
    Arc::new(config)
}

#[derive(Debug)]
struct Later;

impl TimeProvider for Later {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now + 10 * 3600)))
    }
}

/// Loads a state; `None` if it is refused.
pub fn load(
    count: &mut Count,
    server: &mut Server,
    cache: &CertCache,
    state: &State,
    policy: Policy,
) -> Option<ServerTls> {
    let loaded = server.load(cache, state);
    count.loads += 1;
    count.expect(loaded.is_ok(), state.loads(), || {
        format!("first load of {state:?}, {:?}", loaded.as_ref().err())
    });
    match loaded {
        Ok(whole) => {
            let warned = count.warnings(&whole.warnings);
            count.expect(warned, state.warns(None, policy), || {
                format!("a warning at the first load of {state:?}, {policy:?}: {:?}", whole.warnings)
            });
            Some(whole.value)
        }
        Err(error) => {
            count.expect(error.layer(), Layer::Crl, || format!("{state:?}: {error}"));
            None
        }
    }
}

/// Returns whether the tried handshakes distinguish a wrong rule from the right one.
pub fn sees(rule: Rule) -> bool {
    BUNDLES.into_iter().any(|bundle| {
        let states = lists().map(|lists| State { bundle, lists }).filter(State::loads);
        let asked = states.flat_map(|state| CLIENTS.map(|client| (state, client)));
        asked.into_iter().any(|(state, client)| {
            MODES.into_iter().any(|mode| {
                Policy::all().into_iter().any(|policy| {
                    let verdict = |rule| state.verdict(client, mode, policy, rule);
                    verdict(rule) != verdict(Rule::Right)
                })
            })
        })
    })
}
