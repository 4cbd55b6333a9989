//! The certificates of a scenario: every set that it publishes, and the clients.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls_reload::internal::{der, pem};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    model::{Ca, Change, Files, PairChange, Shown, Start, Who},
    publisher::{Content, FileSet},
};
use crate::{
    Failure,
    testkit::{Authority, Pair, PrivateKey, Subject},
};

mod spoil;

const HOUR: Duration = Duration::from_secs(3600);
/// Attempts to make a pair of the same size. About one in three has it.
const SIZE_ATTEMPTS: usize = 400;

const END: &str = "-----END CERTIFICATE-----\n";

/// The DNS name of every server certificate.
pub(super) const NAME: &str = "localhost";

/// A set as the drill means it.
#[derive(Clone)]
pub(super) struct Set {
    issuer: Arc<Authority>,
    /// The name of the issuer, by which it can be certified again.
    issued_by: String,
    key: Arc<PrivateKey>,
    pair: Pair,
    /// The number of the chain.
    pub(super) chain: usize,
    trust: Vec<Ca>,
    revoked: Vec<Who>,
    lists: String,
}

/// Every chain of a scenario, by number.
#[derive(Default)]
pub(super) struct Chains(RwLock<Vec<Vec<CertificateDer<'static>>>>);

impl Chains {
    /// Returns the number of a chain, which is added if it is new.
    fn number(&self, chain: Vec<CertificateDer<'static>>) -> usize {
        let mut chains = self.0.write().unwrap_or_else(PoisonError::into_inner);
        chains.iter().position(|one| *one == chain).unwrap_or_else(|| {
            chains.push(chain);
            chains.len() - 1
        })
    }

    /// Returns which chain a handshake presented.
    pub(super) fn identify(&self, presented: &[CertificateDer<'_>]) -> Shown {
        let chains = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(leaf) = presented.first() else { return Shown::Nothing };
        let exactly = chains.iter().position(|chain| chain == presented);
        let half = || chains.iter().position(|chain| chain.starts_with(presented)).map(Shown::Half);
        let altered = || chains.iter().position(|chain| chain.first() == Some(leaf)).map(Shown::Altered);
        exactly.map(Shown::Chain).or_else(half).or_else(altered).unwrap_or(Shown::Unknown)
    }
}

/// The authorities of a scenario, and what they have issued.
pub(super) struct Material {
    files: Files,
    root: Authority,
    cas: Vec<(Ca, Authority)>,
    clients: Vec<(Who, Pair)>,
    pub(super) chains: Arc<Chains>,
    /// Counts intermediates and lists.
    number: u64,
}

impl Material {
    /// Makes the authorities and the clients. Published sets have the files of this kind.
    pub(super) fn new(files: Files) -> Self {
        let cas = [Ca::A, Ca::B, Ca::C, Ca::Foreign].map(|ca| (ca, Authority::root(ca_name(ca))));
        let cas = Vec::from(cas);
        let issue = |who: Who| {
            let (_, ca) = cas.iter().find(|(ca, _)| Some(*ca) == who.ca())?;
            Some((who, ca.issue(&Subject::client(who.name()), &PrivateKey::p256())))
        };
        let clients = Who::ALL.into_iter().filter_map(issue).collect();
        Self {
            files,
            root: Authority::root("drill server CA"),
            cas,
            clients,
            chains: Arc::default(),
            number: 0,
        }
    }

    /// Returns the certificate and key that a client presents.
    pub(super) fn client(&self, who: Who) -> Option<&Pair> {
        self.clients.iter().find(|(one, _)| *one == who).map(|(_, pair)| pair)
    }

    /// Makes the first set.
    pub(super) fn first(&mut self, start: &Start) -> Result<Set, Failure> {
        let (issuer, issued_by) = self.intermediate();
        let key = Arc::new(PrivateKey::p256());
        let pair = issuer.issue_with_chain(&Subject::server(NAME), &key);
        let chain = self.number_of(&pair)?;
        let (trust, revoked) = (start.trust.to_vec(), start.revoked.to_vec());
        let mut set = Set { issuer, issued_by, key, pair, chain, trust, revoked, lists: String::new() };
        set.lists = self.lists(&set);
        Ok(set)
    }

    /// Makes the set that follows `old` by this change.
    pub(super) fn next(&mut self, old: &Set, change: &Change) -> Result<Set, Failure> {
        let mut set = old.clone();
        match change.pair {
            PairChange::None => {}
            PairChange::New => {
                (set.issuer, set.issued_by) = self.intermediate();
                set.key = Arc::new(PrivateKey::p256());
                set.pair = set.issuer.issue_with_chain(&Subject::server(NAME), &set.key);
            }
            PairChange::SameKey => {
                set.pair = set.issuer.issue_with_chain(&Subject::server(NAME), &set.key);
            }
            PairChange::Intermediate => {
                // The chain is the leaf and one intermediate, whose length differs each time.
                let leaf = set.pair.chain.find(END).map_or(0, |at| at + END.len());
                set.pair.chain.truncate(leaf);
                set.pair.chain += &self.root.certify_again(&old.issuer, &old.issued_by);
            }
            PairChange::SameSize => (set.key, set.pair) = same_size(old)?,
        }
        set.chain = self.number_of(&set.pair)?;
        set.trust = change.trust.map_or(set.trust, <[_]>::to_vec);
        set.revoked = change.revoked.map_or(set.revoked, <[_]>::to_vec);
        if change.relist || change.trust.is_some() || change.revoked.is_some() {
            set.lists = self.lists(&set);
        }
        Ok(set)
    }

    /// Returns the files of a set.
    pub(super) fn files(&self, set: &Set) -> FileSet {
        let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        let mut files = vec![("tls.crt", bytes(&set.pair.chain)), ("tls.key", bytes(&set.pair.key))];
        if self.files >= Files::Trust {
            let bundle: String = set.trust.iter().map(|ca| self.ca(*ca).pem.as_str()).collect();
            files.push(("ca.crt", bytes(&bundle)));
        }
        if self.files >= Files::Lists {
            files.push(("ca.crl", bytes(&set.lists)));
        }
        files
    }

    /// Returns the clients that a server of this set has to accept.
    pub(super) fn admitted(&self, set: &Set) -> Vec<Who> {
        let admits = |who: &Who| match self.files {
            Files::Pair => true,
            _ => {
                let is_trusted = who.ca().is_some_and(|ca| set.trust.contains(&ca));
                is_trusted && !(self.files == Files::Lists && set.revoked.contains(who))
            }
        };
        Who::ALL.into_iter().filter(admits).collect()
    }

    fn intermediate(&mut self) -> (Arc<Authority>, String) {
        self.number += 1;
        let name = format!("drill intermediate {}", self.number);
        (Arc::new(self.root.intermediate(&name)), name)
    }

    fn ca(&self, ca: Ca) -> &Authority {
        // `new` makes all of them, in this order.
        &self.cas[ca as usize].1
    }

    fn number_of(&self, pair: &Pair) -> Result<usize, Failure> {
        Ok(self.chains.number(pem::chain(pair.chain.as_bytes()).map_err(|error| format!("{error:?}"))?))
    }

    /// Returns one list of each client CA of the set.
    fn lists(&mut self, set: &Set) -> String {
        self.number += 1;
        let now = SystemTime::now();
        let window = (now - HOUR, now + 24 * HOUR);
        set.trust.iter().map(|ca| self.list(*ca, &set.revoked, window)).collect()
    }

    fn list(&self, ca: Ca, revoked: &[Who], window: (SystemTime, SystemTime)) -> String {
        let of_ca = revoked.iter().filter(|who| who.ca() == Some(ca));
        let leaves: Vec<_> = of_ca.filter_map(|who| Some(&self.client(*who)?.leaf)).collect();
        self.ca(ca).crl(&leaves, window, self.number).pem
    }
}

impl Set {
    /// Returns the first digits of the leaf's serial number. It is random, so they identify it.
    pub(super) fn serial(&self) -> String {
        let serial = der::fields(&self.pair.leaf).map(|fields| der::serial_hex(fields.serial));
        serial.unwrap_or_default().chars().take(8).collect()
    }
}

fn ca_name(ca: Ca) -> &'static str {
    match ca {
        Ca::A => "drill client CA A",
        Ca::B => "drill client CA B",
        Ca::C => "drill client CA C",
        Ca::Foreign => "drill foreign CA",
    }
}

/// Makes a key and a leaf by the same issuer, in files of the sizes of the old ones.
fn same_size(old: &Set) -> Result<(Arc<PrivateKey>, Pair), Failure> {
    for _ in 0..SIZE_ATTEMPTS {
        let key = PrivateKey::p256();
        let pair = old.issuer.issue_with_chain(&Subject::server(NAME), &key);
        if (pair.chain.len(), pair.key.len()) == (old.pair.chain.len(), old.pair.key.len()) {
            return Ok((Arc::new(key), pair));
        }
    }
    Err("no pair of the same size came up".into())
}
