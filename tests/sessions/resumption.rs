//! The rule of resumption over random series of renewals, changes of trust and handshakes, some of
//! which last over a reload. An oracle that counts epochs checks the server.
//! Checks: INV-08, INV-09, INV-11.
//!
//! Engine: generated. `RESUMPTION_CASES` sets the number of series for each kind of session,
//! `RESUMPTION_SEED` their seed.

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
use rustls_reload_harness::settings;
use rustls_reload_testkit::{Pair, PrivateKey, Subject};

/// Number of tickets of one server that rustls's client keeps.
const KEPT: usize = 8;
const CLIENTS: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    /// A new certificate with the same names and another key, by either CA.
    Renew(usize),
    /// Another set of client CAs, in either order.
    Trust(&'static [usize]),
    /// The certificate has this name as well, or does not.
    Name(bool),
    /// The lists of both CAs revoke their client or do not, and have this issue.
    Revoke([bool; CLIENTS], usize),
    /// Equal bytes are written again.
    Rewrite,
    /// Another trust with the key of another pair.
    Broken,
    /// A client makes a handshake.
    Shake(usize),
    /// A client begins a handshake, which ends after other operations.
    Hold(usize),
    /// The handshake that was begun first ends.
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

/// Number of pairs for each set of names.
const PAIRS: usize = 4;
/// Number of CRLs with equal entries, and with different dates and numbers.
const ISSUES: usize = 3;

/// Shared by all series, because making keys takes the most time.
struct Stock {
    cas: Vec<Generation>,
    pairs: [Vec<Pair>; 2],
    /// The lists of each CA: empty ones, and ones that revoke its client.
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

/// The trust: the CAs in order, whether there is a second name, and which clients are revoked.
type Trusted = (Vec<usize>, bool, [bool; CLIENTS]);

/// The oracle: a session resumes only in the epoch that it was made in, and epochs are counted.
struct Oracle {
    epoch: u64,
    trusted: Trusted,
}

impl Oracle {
    fn publish(&mut self, trusted: Trusted) {
        self.epoch += u64::from(self.trusted != trusted);
        self.trusted = trusted;
    }

    /// Returns whether a CA is removed, or a list newly revokes a client.
    fn shrinks(&self, trusted: &Trusted) -> bool {
        self.trusted.0.iter().any(|ca| !trusted.0.contains(ca))
            || self.trusted.2.iter().zip(trusted.2).any(|(was, now)| now && !was)
    }

    fn resumes(&self, session: Option<u64>) -> bool {
        session == Some(self.epoch)
    }
}

/// A client and the epochs of its sessions, with the one that it offers next at the end.
struct Client {
    config: Arc<ClientConfig>,
    sessions: Vec<u64>,
}

/// A handshake that has begun: its client, its epoch, and its expected end.
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
    /// The number of reductions of trust.
    shrank: usize,
}

/// The numbers of handshakes by their end: resumed, in full with a session of another epoch, in
/// full without a session, refused. A series that tests nothing is noticed by them.
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
            // The order of the CAs does not change the trust.
            Op::Trust(cas) => trusted.0 = cas.to_vec(),
            Op::Name(more) => trusted.1 = *more,
            // The dates of a list do not change the trust.
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
        self.reported(shrinks)?;
        match answer {
            Reload::Reloaded | Reload::Unchanged => Ok(()),
            answer => Err(format!("a good set: {answer:?}")),
        }
    }

    /// Checks that a reduction of trust is reported with its epoch if and only if there was one.
    fn reported(&mut self, shrinks: bool) -> Result<(), String> {
        let shrunk = common::drain(&mut self.events).into_iter().filter_map(|event| match *event {
            Event::TrustReduced { epoch, .. } => Some(epoch),
            _ => None,
        });
        let wanted: Vec<_> = shrinks.then_some(self.oracle.epoch).into_iter().collect();
        let reported: Vec<_> = shrunk.collect();
        self.shrank += wanted.len();
        if reported == wanted {
            Ok(())
        } else {
            Err(format!("INV-11: reported of epochs {reported:?}, not {wanted:?}"))
        }
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
        self.reported(false)?;
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
        let connection = match handshake.and_then(Handshake::end) {
            Err(_) if !trusted => {
                self.seen[3] += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("a client that is trusted: {error}")),
            Ok(_) if !trusted => return Err("INV-09: a client that is not trusted was let in".into()),
            Ok(connection) => connection,
        };
        match (connection.resumed, resumes) {
            (true, false) => return Err("INV-09: a session of another epoch resumed".into()),
            (false, true) => return Err("INV-08: a session of this epoch did not resume".into()),
            _ => {}
        }
        self.seen[if resumes { 0 } else { 2 - usize::from(session.is_some()) }] += 1;
        if connection.client.as_ref() != Some(&STOCK.cas[client].client.leaf) {
            return Err("INV-09: the session of somebody else".into());
        }
        let sessions = &mut self.clients[client].sessions;
        // Each handshake of TLS 1.3 brings two tickets, which replace the oldest ones.
        sessions.extend([epoch, epoch]);
        sessions.drain(..sessions.len().saturating_sub(KEPT));
        Ok(())
    }
}

/// Runs `with` on the files of a pair and a trust, and on the names by which a wrong rule may
/// decide.
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

/// Runs a rule on many series. Returns their number, how the handshakes ended, and the number of
/// reductions of trust. The error is that of the shortest series that catches the rule.
fn rows(kind: Kind, rule: Rule, longest: usize) -> Result<(u32, Seen, usize), String> {
    let (cases, seed) =
        (settings::number("RESUMPTION_CASES", 24), settings::number::<u32>("RESUMPTION_SEED", 1));
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
    // Each version and each storage of sessions is used once here. The shorter series of
    // `tests/sessions/over_reloads.rs` cover all four.
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
