//! The pairs of one generation, and the choice of the pair that answers a client by its SNI.
//!
//! Names match as in RFC 6125 section 6.4: by whole labels, without regard to ASCII case. `*` as
//! the whole leftmost label stands for exactly one label. A pair that holds a name exactly comes
//! before a pair that holds it by a wildcard.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    pki_types::DnsName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::trust::SubjectNames;
use crate::{
    pki::der,
    report::{
        error::{Error, Layer},
        event::Leaf,
    },
};

/// The tag of a DNS name among the subject alternative names.
const DNS_NAME: u8 = 0x82;

/// A chain with its key, and the names that it answers.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: Leaf,
    /// The path of the chain.
    pub(super) path: PathBuf,
    /// The names, each once, in the form of [`normalize_dns_name`]. The default pair has the names of its leaf.
    pub(super) names: Vec<String>,
    pub(super) identity: SubjectNames,
}

/// The settings of an SNI pair.
#[derive(Clone, Debug)]
pub(super) struct SniPair {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// `None` for the names of the leaf.
    pub(super) names: Option<Vec<String>>,
}

impl SniPair {
    /// Returns the settings with the given names in the form that is matched.
    ///
    /// # Errors
    /// [`Layer::Settings`] for an empty path, an empty list of names, a name that no client can
    /// send, and a name given twice.
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        let refused = |why: String| Error::new(Layer::Settings, why).at(&self.chain);
        for (what, path) in [("chain", &self.chain), ("key", &self.key)] {
            if path.as_os_str().is_empty() {
                return Err(Error::new(Layer::Settings, format!("a pair without a {what}: both are needed")));
            }
        }
        let Some(given) = &self.names else { return Ok(self) };
        if given.is_empty() {
            return Err(refused("a pair without names would never be selected".to_owned()));
        }
        let mut names: Vec<String> = Vec::with_capacity(given.len());
        for name in given {
            let normalized = normalize_dns_name(name).ok_or_else(|| {
                refused(format!("{name:?} is not a DNS name, nor a wildcard for one label of a DNS name"))
            })?;
            if names.contains(&normalized) {
                return Err(refused(format!("the name {normalized} is given twice")));
            }
            names.push(normalized);
        }
        self.names = Some(names);
        Ok(self)
    }
}

/// Returns a name in the form that is matched: lower case, without a trailing dot. Returns `None`
/// for a name that no client can send.
pub fn normalize_dns_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let sent = name.strip_prefix("*.").unwrap_or(&name);
    (!sent.ends_with('.') && DnsName::try_from(sent).is_ok()).then_some(name)
}

/// Returns the DNS names among a leaf's subject alternative names that a client can send, each
/// once.
pub(super) fn names_of(leaf: &[u8]) -> Vec<String> {
    let Some(fields) = der::fields(leaf) else { return Vec::new() };
    let names = der::identity(&fields).into_iter().filter(|(tag, _)| *tag == DNS_NAME);
    let mut names: Vec<_> =
        names.filter_map(|(_, name)| normalize_dns_name(std::str::from_utf8(name).ok()?)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Maps each name to the pair that holds it.
#[derive(Clone, Debug, Default)]
pub struct Names {
    exact: HashMap<Box<str>, usize>,
    /// Wildcards, by the part behind the first label.
    wildcard: HashMap<Box<str>, usize>,
}

impl Names {
    /// Returns the table and the key of a name in the form of [`normalize_dns_name`].
    fn place<'a>(&mut self, name: &'a str) -> (&mut HashMap<Box<str>, usize>, &'a str) {
        match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name),
        }
    }

    /// Assigns the names to a holder.
    ///
    /// # Errors
    /// The first name that another holder has, and that holder, which keeps it.
    pub fn give(&mut self, holder: usize, names: &[String]) -> Result<(), (String, usize)> {
        for name in names {
            let (holders, place) = self.place(name);
            match holders.get(place) {
                Some(other) if *other != holder => return Err((name.clone(), *other)),
                Some(_) => {}
                None => drop(holders.insert(place.into(), holder)),
            }
        }
        Ok(())
    }

    fn take(&mut self, names: &[String]) {
        for name in names {
            let (holders, place) = self.place(name);
            holders.remove(place);
        }
    }

    /// Returns the holder of this name: an exact one, else one by a wildcard.
    pub fn holder(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let exact = || self.exact.get(name);
        let wildcard = || {
            let (label, parent) = name.split_once('.')?;
            self.wildcard.get(parent).filter(|_| !label.is_empty() && label != "*")
        };
        exact().or_else(wildcard).copied()
    }
}

/// The pairs of one generation: the default one first, then the SNI pairs in the order of the
/// settings.
#[derive(Debug)]
pub(super) struct Pairs {
    pairs: Vec<Arc<Pair>>,
    /// The names of the SNI pairs.
    names: Arc<Names>,
    /// The names of the default pair, if it answers only these.
    only: Option<Arc<Names>>,
}

impl Pairs {
    /// Collects the pairs. With `strict`, a client that sends no name, or a name that no pair
    /// holds, is not answered.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub(super) fn new(pairs: Vec<Pair>, strict: bool) -> Result<Self, Error> {
        let mut all =
            Self { pairs: pairs.into_iter().map(Arc::new).collect(), names: Arc::default(), only: None };
        let mut names = Names::default();
        for (set, pair) in all.pairs.iter().enumerate().skip(1) {
            names.give(set, &pair.names).map_err(|taken| all.name_taken(pair, taken))?;
        }
        all.names = Arc::new(names);
        all.only = strict.then(Arc::default);
        all.restrict();
        Ok(all)
    }

    /// Returns these pairs with one of them replaced; the others are shared.
    ///
    /// # Errors
    /// [`Layer::Names`] if another pair holds a name of the new one.
    pub(super) fn with(&self, set: usize, pair: Pair) -> Result<Self, Error> {
        let Self { pairs, names, only } = self;
        let mut all = Self { pairs: pairs.clone(), names: Arc::clone(names), only: only.clone() };
        let old = std::mem::replace(&mut all.pairs[set], Arc::new(pair));
        let pair = &all.pairs[set];
        if set > 0 && old.names != pair.names {
            let mut names = Names::clone(names);
            names.take(&old.names);
            names.give(set, &pair.names).map_err(|taken| all.name_taken(pair, taken))?;
            all.names = Arc::new(names);
        } else if set == 0 {
            all.restrict();
        }
        Ok(all)
    }

    /// Updates the names that the default pair answers, where it answers only those of its leaf.
    fn restrict(&mut self) {
        if self.only.is_some() {
            let mut names = Names::default();
            // The default pair is the only holder in its table, so no name is taken.
            let _ = names.give(0, &self.pairs[0].names);
            self.only = Some(Arc::new(names));
        }
    }

    fn name_taken(&self, pair: &Pair, (name, other): (String, usize)) -> Error {
        let other = self.pairs[other].path.display();
        Error::new(Layer::Names, format!("another pair has the name {name}: {other}")).at(&pair.path)
    }

    pub(super) fn get(&self, set: usize) -> Option<&Arc<Pair>> {
        self.pairs.get(set)
    }

    pub(super) fn identities(&self) -> Vec<SubjectNames> {
        self.pairs.iter().map(|pair| Arc::clone(&pair.identity)).collect()
    }

    /// Returns the pair that answers a client that sends this name, or no name.
    pub(super) fn answering(&self, name: Option<&str>) -> Option<&Arc<Pair>> {
        let further = name.and_then(|name| self.names.holder(name));
        let default = || match &self.only {
            None => Some(0),
            Some(only) => only.holder(name?),
        };
        self.pairs.get(further.or_else(default)?)
    }

    /// Returns a name that a client can send and that this pair answers, for the rehearsal; `None`
    /// if the pair answers no name of its own.
    pub(super) fn example(&self, set: usize) -> Option<String> {
        self.pairs[set].names.iter().find_map(|name| self.sent(set, name))
    }

    /// Returns a name of this pair that other pairs answer, although no other pair holds it
    /// exactly.
    ///
    /// The answer depends only on the name that the client sends, so a lookup is enough for each
    /// name. One handshake shows that the pair itself works. The default pair has the lowest
    /// precedence.
    pub(super) fn unroutable_name(&self, set: usize) -> Option<&str> {
        let gives_way = |name: &str| match name.strip_prefix("*.") {
            Some(parent) => self.names.wildcard.contains_key(parent),
            None => self.names.holder(name).is_some(),
        };
        let mut own = self.pairs[set].names.iter().filter(|name| set > 0 || !gives_way(name));
        own.find(|name| self.sent(set, name).is_none()).map(String::as_str)
    }

    /// Returns a name that a client can send for this name or wildcard and that this pair answers.
    fn sent(&self, set: usize, name: &str) -> Option<String> {
        let Some(parent) = name.strip_prefix("*.") else {
            return self.answers(set, name).then(|| name.to_owned());
        };
        // Other pairs may hold some names that a wildcard covers, but not all of them.
        let taken = self.names.exact.len().saturating_add(self.pairs[0].names.len());
        (0..=taken).map(|n| format!("rehearsal-{n}.{parent}")).find(|name| self.answers(set, name))
    }

    fn answers(&self, set: usize, name: &str) -> bool {
        self.answering(Some(name)).is_some_and(|pair| Arc::ptr_eq(pair, &self.pairs[set]))
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.answering(hello.server_name()).map(|pair| Arc::clone(&pair.key))
    }
}

/// Answers every client with one pair: for the rehearsal of a pair that no name leads to.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<Pair>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.key))
    }
}

/// Returns the error for an SNI pair without a name.
pub(super) fn nameless(path: &Path) -> Error {
    let why = "the leaf has no DNS name among its subject alternative names: no client could request it";
    Error::new(Layer::Names, why).at(path)
}

#[cfg(all(test, feature = "ring", not(loom)))]
#[allow(clippy::expect_used)] // reason: a test
mod tests {
    use rustls_reload_testkit::{Authority, PrivateKey, Subject};

    use super::*;
    use crate::server::trust::subject_names;

    fn pair(ca: &Authority, names: &[&str]) -> Pair {
        let subject = Subject::server(names[0]);
        let issued = ca.issue(&subject, &PrivateKey::p256());
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(vec![issued.leaf.clone()], issued.key_der(), &provider);
        Pair {
            key: Arc::new(key.expect("a pair")),
            leaf: Leaf::from_der(&issued.leaf).expect("a leaf"),
            path: "/c".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            identity: subject_names(&issued.leaf),
        }
    }

    /// Checks: INV-03, INV-12.
    ///
    /// A change of one pair costs as much as that pair: nothing of the others is copied or
    /// accessed.
    #[test]
    fn inv03_a_changed_pair_shares_everything_with_the_others() {
        let ca = Authority::root("CA");
        let names = ["default.test", "a.test", "b.test"];
        let all = Pairs::new(names.map(|name| pair(&ca, &[name])).into(), false).expect("no name twice");
        let renewed = all.with(1, pair(&ca, &["a.test"])).expect("its own name");
        assert!(Arc::ptr_eq(&all.names, &renewed.names), "the names did not change");
        for (set, is_same) in [(0, true), (1, false), (2, true)] {
            assert_eq!(Arc::ptr_eq(&all.pairs[set], &renewed.pairs[set]), is_same, "set {set}");
        }
        let error = all.with(1, pair(&ca, &["a.test", "b.test"])).expect_err("the name of another");
        assert_eq!(error.layer(), Layer::Names);
        let moved = all.with(2, pair(&ca, &["c.test"])).expect("a free name");
        assert_eq!((moved.names.holder("b.test"), moved.names.holder("c.test")), (None, Some(2)));
        assert_eq!(all.names.holder("b.test"), Some(2), "what is served is as it was");
        assert!(moved.with(1, pair(&ca, &["a.test", "b.test"])).is_ok(), "a name that was let go");
    }

    /// Checks: INV-02.
    ///
    /// A pair is rehearsed by a name that leads to it, whatever names others hold under its
    /// wildcard.
    #[test]
    fn inv02_a_pair_is_rehearsed_by_a_name_that_it_answers() {
        let ca = Authority::root("CA");
        let taken = ["rehearsal-0.w.test", "rehearsal-1.w.test"];
        let all = [pair(&ca, &["default.test"]), pair(&ca, &["*.w.test"]), pair(&ca, &taken)];
        let all = Pairs::new(all.into(), true).expect("no name twice");
        assert_eq!(all.example(1).as_deref(), Some("rehearsal-2.w.test"));
        assert_eq!(all.example(2).as_deref(), Some(taken[0]));
        assert_eq!(all.example(0).as_deref(), Some("default.test"));
    }

    /// Checks: INV-02.
    ///
    /// Each name of a pair leads to it. A table that lost a name, or assigns it to another pair, is
    /// detected.
    #[test]
    fn inv02_a_name_that_does_not_lead_to_its_pair_is_found() {
        let ca = Authority::root("CA");
        let names = [&["default.test", "a.test"][..], &["a.test", "*.w.test"], &["b.test", "x.w.test"]];
        let all =
            || Pairs::new(names.iter().map(|names| pair(&ca, names)).collect(), true).expect("no name twice");
        let right = all();
        assert_eq!([0, 1, 2].map(|set| right.unroutable_name(set)), [None; 3]);
        // The default pair does not answer a name that another pair holds, even if that is all of a
        // wildcard.
        let shared = [pair(&ca, &["*.w.test", "a.w.test"]), pair(&ca, &["*.w.test"])];
        assert_eq!(Pairs::new(shared.into(), true).expect("no name twice").unroutable_name(0), None);
        for (set, name) in [(1, "a.test"), (1, "*.w.test"), (2, "b.test"), (2, "x.w.test")] {
            // Breaks: INV-02
            for holder in [None, Some(3 - set)] {
                let mut broken = all();
                let table = Arc::make_mut(&mut broken.names);
                table.take(&[name.to_owned()]);
                if let Some(holder) = holder {
                    table.give(holder, &[name.to_owned()]).expect("a free name");
                }
                assert_eq!(broken.unroutable_name(set), Some(name), "{name} of {set} is {holder:?}'s");
            }
        }
    }
}
