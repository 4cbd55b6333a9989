//! The rule of resumption over random rows of renewals, changes of trust and handshakes, some of them held over a reload:
//! what the server does against an oracle that counts epochs. Checks: INV-08, INV-09, INV-11.
//!
//! Engine: generated. `RESUMPTION_CASES` says how many rows for each kind of session, `RESUMPTION_SEED` which.

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use crate::common::{
    self, Generation, Handshake, client_showing, generations,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use proptest::{
    bool::weighted,
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use rustls::{ClientConfig, Error as TlsError, pki_types::CertificateDer, version::TLS13};
use rustls_reload::{Event, Events, Reload, ServerTls};
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

/// Tickets of one server that rustls's client keeps.
const KEPT: usize = 8;
const CLIENTS: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    /// A new certificate of the same names, with another key, by either CA.
    Renew(usize),
    /// Another set of client CAs, in either order.
    Trust(&'static [usize]),
    /// The certificate has this name as well, or not.
    Name(bool),
    /// The lists of both CAs name their client or do not, and are so new.
    Revoke([bool; CLIENTS], usize),
    /// The same bytes.
    Rewrite,
    /// Another trust with a key of somebody else.
    Broken,
    /// A client shakes hands.
    Shake(usize),
    /// A client begins to, and ends once something else has happened.
    Hold(usize),
    /// The handshake that was held longest ends.
    End,
}

fn op() -> impl Strategy<Value = Op> {
    let bundles: [&[usize]; 4] = [&[0], &[1], &[0, 1], &[1, 0]];
    prop_oneof![
        2 => (0..PAIRS).prop_map(Op::Renew),
        3 => (0..bundles.len()).prop_map(move |i| Op::Trust(bundles[i])),
        1 => any::<bool>().prop_map(Op::Name),
        2 => ([weighted(0.3), weighted(0.3)], 0..ISSUES).prop_map(|(revoked, issue)| Op::Revoke(revoked, issue)),
        1 => Just(Op::Rewrite),
        1 => Just(Op::Broken),
        6 => (0..CLIENTS).prop_map(Op::Shake),
        2 => (0..CLIENTS).prop_map(Op::Hold),
        2 => Just(Op::End),
    ]
}

/// Pairs of each set of names.
const PAIRS: usize = 4;
/// Revocation lists that name the same: with other dates and numbers.
const ISSUES: usize = 3;

/// What all rows have in common: making keys takes longest.
struct Stock {
    cas: Vec<Generation>,
    pairs: [Vec<Pair>; 2],
    /// Of each CA, naming nobody or its client.
    lists: Vec<[Vec<String>; 2]>,
}

static STOCK: LazyLock<Stock> = LazyLock::new(|| {
    let cas = generations(CLIENTS);
    let pairs = [&["localhost"][..], &["localhost", "other.example"]].map(|names| {
        let subject =
            Subject { names: names.iter().map(|&name| name.into()).collect(), ..Subject::server("") };
        (0..PAIRS).map(|i| cas[i % CLIENTS].ca.issue(&subject, &PrivateKey::p256())).collect()
    });
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let issues = |of: &Generation, revoked: &[&CertificateDer<'_>]| -> Vec<String> {
        let window = |number| (now - hour + Duration::from_secs(number), now + hour);
        (0..ISSUES as u64).map(|number| of.ca.crl(revoked, window(number), number).pem).collect()
    };
    let lists = cas.iter().map(|of| [issues(of, &[]), issues(of, &[&of.client.leaf])]).collect();
    Stock { cas, pairs, lists }
});

/// What is trusted: the CAs, in order, whether there is a second name, and whose client is revoked.
type Trusted = (Vec<usize>, bool, [bool; CLIENTS]);

/// The oracle: a session resumes in the epoch that it was made in, and epochs are counted.
struct Oracle {
    epoch: u64,
    trusted: Trusted,
}

impl Oracle {
    fn publish(&mut self, trusted: Trusted) {
        self.epoch += u64::from(self.trusted != trusted);
        self.trusted = trusted;
    }

    /// Whether a CA goes with it, or a list comes to name somebody.
    fn shrinks(&self, trusted: &Trusted) -> bool {
        self.trusted.0.iter().any(|ca| !trusted.0.contains(ca))
            || self.trusted.2.iter().zip(trusted.2).any(|(was, now)| now && !was)
    }

    fn resumes(&self, session: Option<u64>) -> bool {
        session == Some(self.epoch)
    }
}

/// A client and the epochs of the sessions that it has, the one that it offers next last.
struct Client {
    config: Arc<ClientConfig>,
    sessions: Vec<u64>,
}

/// A handshake that has begun: whose it is, in which epoch, and how it has to end.
struct Begun {
    handshake: Result<Handshake, TlsError>,
    client: usize,
    epoch: u64,
    session: Option<u64>,
    resumes: bool,
    trusted: bool,
}

struct World {
    server: Sessions,
    kind: Kind,
    oracle: Oracle,
    pair: usize,
    issue: usize,
    clients: Vec<Client>,
    held: Vec<Begun>,
    events: Events<ServerTls>,
    seen: Seen,
    /// How often trust shrank.
    shrank: usize,
}

/// How handshakes ended, so that a row that tried nothing is seen: resumed, in full with a session of another epoch, in
/// full with none, refused.
type Seen = [usize; 4];

impl World {
    fn new(kind: Kind, rule: Rule) -> Self {
        let all: Vec<_> = STOCK.cas.iter().collect();
        let client =
            |shown| Client { config: client_showing(&all, Some(shown), &[kind.0]), sessions: Vec::new() };
        let trusted = (vec![0, 1], false, [false; CLIENTS]);
        let server = with_files(0, 0, &trusted, |files, name| Sessions::new(files, name, kind.1, rule));
        let clients = STOCK.cas.iter().map(client).collect();
        let oracle = Oracle { epoch: 1, trusted };
        let events = server.reloader.events();
        Self {
            server,
            kind,
            oracle,
            pair: 0,
            issue: 0,
            clients,
            held: Vec::new(),
            events,
            seen: [0; 4],
            shrank: 0,
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        let mut trusted = self.oracle.trusted.clone();
        match op {
            Op::Renew(pair) => self.pair = *pair,
            // The order is the publisher's, and says nothing about trust.
            Op::Trust(cas) => trusted.0 = cas.to_vec(),
            Op::Name(more) => trusted.1 = *more,
            // Nor do the dates of a list.
            Op::Revoke(revoked, issue) => (trusted.2, self.issue) = (*revoked, *issue),
            Op::Rewrite => {}
            Op::Broken => return self.broken(),
            Op::Shake(client) => {
                let begun = self.begin(*client);
                return self.end(begun);
            }
            Op::Hold(client) => {
                let begun = self.begin(*client);
                self.held.push(begun);
                return Ok(());
            }
            Op::End => {
                let first = (!self.held.is_empty()).then(|| self.held.remove(0));
                return first.map_or(Ok(()), |begun| self.end(begun));
            }
        }
        let answer =
            with_files(self.pair, self.issue, &trusted, |files, name| self.server.publish(files, name));
        trusted.0.sort_unstable();
        let shrinks = self.oracle.shrinks(&trusted);
        self.oracle.publish(trusted);
        self.told(shrinks)?;
        match answer {
            Reload::Reloaded | Reload::Unchanged => Ok(()),
            answer => Err(format!("a good set: {answer:?}")),
        }
    }

    /// Whether it was told that trust shrank, and of which epoch: if and only if it did.
    fn told(&mut self, shrinks: bool) -> Result<(), String> {
        let shrunk = common::drain(&mut self.events).into_iter().filter_map(|event| match *event {
            Event::TrustReduced { epoch, .. } => Some(epoch),
            _ => None,
        });
        let wanted: Vec<_> = shrinks.then_some(self.oracle.epoch).into_iter().collect();
        let told: Vec<_> = shrunk.collect();
        self.shrank += wanted.len();
        if told == wanted { Ok(()) } else { Err(format!("INV-11: told of epochs {told:?}, not {wanted:?}")) }
    }

    fn broken(&mut self) -> Result<(), String> {
        let (cas, more, revoked) = &self.oracle.trusted;
        let trusted = (vec![1 - cas[0]], *more, revoked.map(|revoked| !revoked));
        let other = &STOCK.pairs[0][(self.pair + 1) % PAIRS];
        let answer = with_files(self.pair, self.issue, &trusted, |files, name| {
            let mut files = *files;
            files[1].1 = other.key.as_bytes();
            self.server.publish(&files, name)
        });
        self.told(false)?;
        if matches!(answer, Reload::Refused(_)) { Ok(()) } else { Err(format!("a broken set: {answer:?}")) }
    }

    fn begin(&mut self, number: usize) -> Begun {
        let client = &mut self.clients[number];
        // A ticket of TLS 1.3 is used once.
        let once = self.kind.0.version == TLS13.version;
        let session = if once { client.sessions.pop() } else { client.sessions.last().copied() };
        Begun {
            handshake: Handshake::begin(self.server.current(), &client.config),
            client: number,
            epoch: self.oracle.epoch,
            session,
            resumes: self.oracle.resumes(session),
            trusted: self.oracle.trusted.0.contains(&number) && !self.oracle.trusted.2[number],
        }
    }

    fn end(&mut self, begun: Begun) -> Result<(), String> {
        let Begun { handshake, client, epoch, session, resumes, trusted } = begun;
        let shaken = match handshake.and_then(Handshake::end) {
            Err(_) if !trusted => {
                self.seen[3] += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("a client that is trusted: {error}")),
            Ok(_) if !trusted => return Err("INV-09: a client that is not trusted was let in".into()),
            Ok(shaken) => shaken,
        };
        match (shaken.resumed, resumes) {
            (true, false) => return Err("INV-09: a session of another epoch resumed".into()),
            (false, true) => return Err("INV-08: a session of this epoch did not resume".into()),
            _ => {}
        }
        self.seen[if resumes { 0 } else { 2 - usize::from(session.is_some()) }] += 1;
        if shaken.client.as_ref() != Some(&STOCK.cas[client].client.leaf) {
            return Err("INV-09: the session of somebody else".into());
        }
        let sessions = &mut self.clients[client].sessions;
        // Two tickets for each handshake of TLS 1.3, in the place of one of the others.
        sessions.extend([epoch, epoch]);
        sessions.drain(..sessions.len().saturating_sub(KEPT));
        Ok(())
    }
}

/// Runs `with` on the files of a pair and what is trusted, and the names by which a wrong rule may go.
fn with_files<R>(
    pair: usize,
    issue: usize,
    (cas, more, revoked): &Trusted,
    with: impl FnOnce(&[common::NamedFile<'_>; 4], &str) -> R,
) -> R {
    let pair = &STOCK.pairs[usize::from(*more)][pair];
    let bundle: String = cas.iter().map(|ca| STOCK.cas[*ca].ca.pem.as_str()).collect();
    let lists =
        STOCK.lists.iter().zip(revoked).map(|(lists, revoked)| lists[usize::from(*revoked)][issue].as_str());
    let lists: String = lists.collect();
    let files = [
        ("tls.crt", pair.chain.as_bytes()),
        ("tls.key", pair.key.as_bytes()),
        ("ca.crt", bundle.as_bytes()),
        ("ca.crl", lists.as_bytes()),
    ];
    with(&files, if *more { "both" } else { "one" })
}

/// Shows a rule so many rows, and says how they ended and how often trust shrank; the error is that of the shortest row that it was caught by.
fn rows(kind: Kind, rule: Rule, longest: usize) -> Result<(u32, Seen, usize), String> {
    let number = |name: &str, default| std::env::var(name).map_or(default, |set| set.parse().unwrap());
    let (cases, seed) = (number("RESUMPTION_CASES", 24), number("RESUMPTION_SEED", 1));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let seed: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let (seen, shrank) = (Cell::new([0; 4]), Cell::new(0));
    let tried = TestRunner::new_with_rng(config, rng).run(&vec(op(), 1..=longest), |ops| {
        let mut world = World::new(kind, rule);
        for op in &ops {
            world.step(op).map_err(TestCaseError::fail)?;
        }
        let before = seen.get();
        seen.set(std::array::from_fn(|i| before[i] + world.seen[i]));
        shrank.set(shrank.get() + world.shrank);
        Ok(())
    });
    match tried {
        Ok(()) => Ok((cases, seen.get(), shrank.get())),
        Err(TestError::Fail(why, ops)) => Err(format!("{why} after {ops:?}")),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

#[test]
fn inv08_inv09_sessions_resume_in_their_epoch_and_in_no_other() {
    for (kind, shown) in KINDS.iter().zip(common::at_once(&KINDS, |kind| rows(*kind, Rule::Shipped, 60))) {
        let (rows, seen, shrank) = shown.unwrap();
        let [resumed, stale, full, refused] = seen;
        println!(
            "{:?}, tickets {}: {rows} rows; {resumed} handshakes resumed, {stale} did not with a session of another \
             epoch, {full} had none, {refused} were refused; trust shrank {shrank} times",
            kind.0.version, kind.1
        );
        assert!(seen.iter().chain([&shrank]).all(|count| *count >= 20), "too little was tried");
    }
}

#[test]
fn each_wrong_rule_is_caught() {
    // Each version and each place for sessions once: the shorter rows of `tests/sessions/over_reloads.rs` go over all four.
    let rules = [
        (Rule::SharesAlways, "INV-09"),
        (Rule::Hashes, "INV-09"),
        (Rule::FreshAlways, "INV-08"),
        (Rule::ForgetsLists, "INV-09"),
    ];
    let shown = [KINDS[0], KINDS[3]].map(|kind| rules.map(|(rule, by)| (kind, rule, by)));
    let shown = shown.as_flattened();
    for ((kind, rule, by), caught) in
        shown.iter().zip(common::at_once(shown, |(kind, rule, _)| rows(*kind, *rule, 60)))
    {
        let why = caught.unwrap_err();
        println!("{rule:?}, {:?}, tickets {}: {why}", kind.0.version, kind.1);
        assert!(why.starts_with(*by), "{rule:?}: {why}");
    }
}
