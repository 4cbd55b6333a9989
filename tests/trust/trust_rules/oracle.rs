//! The rules of the manual and of RFC 5280 over plain names, without DER and without code of the
//! product.
//!
//! Each wrong rule is a possible bug, and the table has to distinguish it from the right one.

use std::collections::BTreeSet;

use rustls_reload::{ClientAuth, HandshakeFailure};

use super::world::{Anchor, Cert, Client, Form, Key, Leaf, List, Names, Policy, State};

/// A set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Right,
    /// Allows an expired list where an unknown status is allowed. Breaks: INV-14
    UnknownExcusesExpiry,
    /// Treats every certificate as covered by expired lists that count. Breaks: INV-14
    ExpiredExcusesUnknown,
    /// Checks only the client's own certificate, regardless of the setting. Breaks: INV-14
    LeafOnly,
    /// Accepts a list by its issuer's name, whichever key signed it. Breaks: INV-14
    ListsByName,
    /// Lets a list revoke only certificates that it covers. Breaks: INV-14
    ShardsHide,
    /// Lets the first list of an issuer decide. Breaks: INV-14
    FirstList,
    /// Lets clients without a certificate in where one is required. Breaks: INV-14
    AlwaysOptional,
    /// Accepts any optional certificate. Breaks: INV-14
    OptionalTakesAny,
    /// Compares CAs by name alone. Breaks: INV-09
    CasByName,
    /// Compares CAs without their name constraints. Breaks: INV-09
    CasWithoutConstraints,
    /// Compares CAs by the bytes of their certificates. Breaks: INV-08, INV-09
    CasByBytes,
    /// Ignores CRLs in the trust. Breaks: INV-09
    ListsForgotten,
    /// Treats lists of different scopes as equal. Breaks: INV-09
    ListsWithoutScope,
    /// Treats reissued lists as different. Breaks: INV-08
    ListsByIssue,
    /// Ignores IP addresses among the names. Breaks: INV-09
    AddressesForgotten,
    /// Ignores wildcards among the names. Breaks: INV-09
    WildcardsForgotten,
    /// Ignores the names of further pairs. Breaks: INV-09
    FurtherForgotten,
    /// Treats a renewed leaf as one with other names. Breaks: INV-08
    LeavesByBytes,
    /// Accepts that a list is removed. Breaks: INV-03, INV-14
    ListsMayGo,
    /// Accepts an expired list in place of a valid one. Breaks: INV-14
    ExpiredMayReplace,
    /// Accepts a list of another key in place of a CA's list. Breaks: INV-14
    OthersMayReplace,
    /// Does not report lists that exclude clients. Breaks: INV-11
    ListsNeverShrink,
}

impl Rule {
    pub const WRONG: [Self; 22] = [
        Self::UnknownExcusesExpiry,
        Self::ExpiredExcusesUnknown,
        Self::LeafOnly,
        Self::ListsByName,
        Self::ShardsHide,
        Self::FirstList,
        Self::AlwaysOptional,
        Self::OptionalTakesAny,
        Self::CasByName,
        Self::CasWithoutConstraints,
        Self::CasByBytes,
        Self::ListsForgotten,
        Self::ListsWithoutScope,
        Self::ListsByIssue,
        Self::AddressesForgotten,
        Self::WildcardsForgotten,
        Self::FurtherForgotten,
        Self::LeavesByBytes,
        Self::ListsMayGo,
        Self::ExpiredMayReplace,
        Self::OthersMayReplace,
        Self::ListsNeverShrink,
    ];
}

/// The decision about a client, and the reason of a refusal.
pub type Verdict = Result<(), HandshakeFailure>;

impl State {
    fn trusts(&self, key: Key) -> bool {
        self.bundle.iter().any(|anchor| anchor.key == key)
    }

    fn knows(&self, name: &str) -> bool {
        self.bundle.iter().any(|anchor| anchor.key.name() == name)
    }

    /// Returns whether the entry of this list refuses the certificate. An entry on hold does, until
    /// a later valid list of the same CA and scope omits it (RFC 5280 section 5.3.1).
    fn refuses(&self, list: &List, cert: Cert, policy: Policy) -> bool {
        let releases = |other: &List| {
            (other.key, other.shard) == (list.key, list.shard)
                && other.later
                && !list.later
                && (!other.expired || policy.use_expired)
                && !other.named().contains(&cert)
        };
        let released =
            list.names == Names::Held && self.trusts(list.key) && self.lists().iter().any(releases);
        list.named().contains(&cert) && !released
    }

    /// The decision about one certificate by the lists of its issuer (RFC 5280 section 6.3.3).
    fn status(&self, cert: Cert, issuer: Key, policy: Policy, rule: Rule) -> Verdict {
        let counts = |list: &&List| {
            list.key == issuer || rule == Rule::ListsByName && list.key.name() == issuer.name()
        };
        let covers = |list: &List| !list.shard || cert == Cert::Sharded;
        let own: Vec<&List> = self.lists().iter().filter(counts).collect();
        let own = if rule == Rule::FirstList { &own[..own.len().min(1)] } else { &own[..] };
        let hides = |list: &List| rule == Rule::ShardsHide && !covers(list);
        if own.iter().any(|list| self.refuses(list, cert, policy) && !hides(list)) {
            return Err(HandshakeFailure::Revoked);
        }
        let mut covering = own.iter().filter(|list| covers(list)).peekable();
        if covering.peek().is_some() {
            let excused = rule == Rule::UnknownExcusesExpiry && policy.allow_unknown;
            return match policy.use_expired || excused || covering.any(|list| !list.expired) {
                true => Ok(()),
                false => Err(HandshakeFailure::RevocationListExpired),
            };
        }
        // Another key has signed a list in the name of an intermediate, so that its signer is
        // unknown.
        let is_unsigned = |list: &List| {
            list.key != issuer && list.key.name() == issuer.name() && !self.trusts(issuer) && covers(list)
        };
        if self.lists().iter().any(is_unsigned) {
            return Err(HandshakeFailure::RevocationListUnusable);
        }
        match policy.allow_unknown || rule == Rule::ExpiredExcusesUnknown && policy.use_expired {
            true => Ok(()),
            false => Err(HandshakeFailure::RevocationUnknown),
        }
    }

    /// The decision about a client in a full handshake.
    pub fn verdict(&self, client: Client, mode: ClientAuth, policy: Policy, rule: Rule) -> Verdict {
        let optional = mode == ClientAuth::Optional;
        let Some(cert) = client else {
            return match optional || rule == Rule::AlwaysOptional {
                true => Ok(()),
                false => Err(HandshakeFailure::NoCertificate),
            };
        };
        if optional && rule == Rule::OptionalTakesAny {
            return Ok(());
        }
        if cert == Cert::Expired {
            return Err(HandshakeFailure::Expired);
        }
        let issuer = cert.issuer().ok_or(HandshakeFailure::UnknownIssuer)?;
        let root = if issuer == Key::I { Key::A } else { issuer };
        let anchors = || self.bundle.iter().filter(|anchor| anchor.key == root);
        if anchors().next().is_none() {
            return Err(match self.knows(root.name()) {
                true => HandshakeFailure::BadSignature,
                false => HandshakeFailure::UnknownIssuer,
            });
        }
        if anchors().all(|anchor| anchor.form == Form::Constrained) && cert != Cert::Good {
            return Err(HandshakeFailure::NameConstraint);
        }
        if self.lists().is_empty() {
            return Ok(());
        }
        self.status(cert, issuer, policy, rule)?;
        if issuer == Key::I && !policy.leaf_only && rule != Rule::LeafOnly {
            self.status(Cert::I, root, policy, rule)?;
        }
        Ok(())
    }

    /// Returns the state in which all of its lists have expired.
    pub fn aged(&self) -> Self {
        let expired = self.lists().iter().map(|list| List { expired: true, ..*list });
        Self { lists: self.lists.map(|_| &*Box::leak(expired.collect())), ..*self }
    }

    /// Returns the client CAs as far as sessions depend on them: name, key and name constraints.
    pub fn cas(&self, rule: Rule) -> BTreeSet<(Option<Key>, &'static str, Form)> {
        let form = |anchor: &Anchor| match (anchor.form, rule) {
            (form, Rule::CasByBytes) => form,
            (Form::Constrained, rule) if rule != Rule::CasWithoutConstraints => Form::Constrained,
            _ => Form::First,
        };
        let key = |anchor: &Anchor| (rule != Rule::CasByName).then_some(anchor.key);
        self.bundle.iter().map(|anchor| (key(anchor), anchor.key.name(), form(anchor))).collect()
    }

    /// Returns the serial numbers that the lists refuse, by key and scope. Lists of a key that is
    /// no CA's are separate.
    fn listed(&self, policy: Policy, rule: Rule) -> Vec<((Key, bool), BTreeSet<Cert>)> {
        let mut listed: Vec<((Key, bool), BTreeSet<Cert>)> = Vec::new();
        // One list in two files counts once.
        let lists: BTreeSet<&List> = self.lists().iter().filter(|_| rule != Rule::ListsForgotten).collect();
        for list in lists {
            let refused = list.named().iter().filter(|cert| self.refuses(list, **cert, policy)).copied();
            let of = (list.key, list.shard && rule != Rule::ListsWithoutScope);
            match listed.iter_mut().find(|(other, _)| *other == of && self.trusts(list.key)) {
                Some((_, all)) => all.extend(refused),
                None => listed.push((of, refused.collect())),
            }
        }
        listed.sort();
        listed
    }

    /// Returns whether sessions go on from `served` to this state.
    pub fn is_trust_of(&self, served: &Self, policy: Policy, rule: Rule) -> bool {
        let issues = |state: &Self| state.lists().iter().copied().collect::<BTreeSet<_>>();
        self.cas(rule) == served.cas(rule)
            && self.listed(policy, rule) == served.listed(policy, rule)
            && (rule != Rule::ListsByIssue || issues(self) == issues(served))
    }

    /// Returns the number of CAs of `served` whose clients are no longer let in.
    pub fn lost_cas(&self, served: &Self) -> usize {
        let cas = self.cas(Rule::Right);
        let trusts =
            |(key, name, _): (Option<Key>, &'static str, Form)| cas.contains(&(key, name, Form::First));
        served.cas(Rule::Right).into_iter().filter(|ca| !cas.contains(ca) && !trusts(*ca)).count()
    }

    /// Returns whether this state has the lists of `served`, by key and scope, and none of them
    /// refuses more than before.
    pub fn forgives(&self, served: &Self, policy: Policy) -> bool {
        let (new, old) = (self.listed(policy, Rule::Right), served.listed(policy, Rule::Right));
        new.len() == old.len()
            && new.iter().zip(&old).all(|(new, old)| new.0 == old.0 && new.1.is_subset(&old.1))
    }

    /// Returns whether a first load accepts these files.
    pub fn loads(&self) -> bool {
        !self.lists().iter().any(|list| list.delta)
            && self.lists().iter().all(|list| !self.is_foreign(list) || self.signs_another(list))
    }

    /// Returns whether the list is in the name of a CA of the bundle, and signed by another key.
    fn is_foreign(&self, list: &List) -> bool {
        self.knows(list.key.name()) && !self.trusts(list.key)
    }

    fn signs_another(&self, list: &List) -> bool {
        self.of(list.key.name()).any(|other| self.trusts(other.key))
    }

    fn of(&self, name: &'static str) -> impl Iterator<Item = &'static List> {
        self.lists().iter().filter(move |list| list.key.name() == name)
    }

    /// Returns whether a reload accepts these files in place of the served ones (the table of the
    /// manual's page on design).
    ///
    /// `retired` are the keys that were CAs' and still have lists.
    pub fn follows(&self, served: &Self, retired: &BTreeSet<Key>, policy: Policy, rule: Rule) -> bool {
        let was_served = |list: &List| served.lists().contains(list);
        // A list of another key replaces no list of a CA.
        let replaces_none = |list: &List| {
            let mut old = served.of(list.key.name()).peekable();
            old.peek().is_some() && old.all(|old| served.is_foreign(old))
        };
        let is_fine = |list: &List| {
            !self.is_foreign(list)
                || self.signs_another(list)
                || was_served(list)
                || replaces_none(list)
                || rule == Rule::OthersMayReplace
        };
        // An expired list replaces no valid list, and does not outlast it. A new one is accepted only
        // beside a valid one, or in place of an expired one.
        let about = |list: &List, other: &List| (other.key, other.shard) == (list.key, list.shard);
        let valid = |of: &Self, list: &List| of.lists().iter().any(|o| about(list, o) && !o.expired);
        let over = |list: &List| served.lists().iter().any(|old| old.key == list.key && old.expired);
        let loses_a_ca = served.bundle.iter().any(|anchor| !self.trusts(anchor.key));
        let leaves = |list: &List| !self.trusts(list.key) && (retired.contains(&list.key) || loses_a_ca);
        let is_due = |list: &List| {
            !list.expired
                || valid(self, list)
                || was_served(list) && leaves(list)
                || !valid(served, list) && (was_served(list) || over(list))
                || rule == Rule::ExpiredMayReplace
        };
        // No authority loses its lists.
        let is_excused = |old: &List| {
            !policy.allow_unknown
                || old.expired && !policy.use_expired
                || retired.contains(&old.key)
                || loses_a_ca
        };
        let may_go = |old: &List| !self.trusts(old.key) && is_excused(old);
        let kept = |old: &List| {
            self.lists().iter().any(|list| list.key == old.key) || may_go(old) || rule == Rule::ListsMayGo
        };
        // A shard is no list of all certificates, where those that it does not cover are accepted.
        let covered = |old: &List| {
            let mut left = self.lists().iter().filter(|list| list.key == old.key).peekable();
            left.peek().is_none()
                || left.any(|list| old.shard || !list.shard)
                || !policy.allow_unknown
                || old.expired && !policy.use_expired
                || !self.trusts(old.key) && is_excused(old)
                || rule == Rule::ListsMayGo
        };
        !self.lists().iter().any(|list| list.delta)
            && self.lists().iter().all(|list| is_fine(list) && is_due(list))
            && served.lists().iter().all(|old| kept(old) && covered(old))
    }

    /// Returns the keys that are no longer a CA's and were while their list was served.
    pub fn retires(&self, served: &Self, retired: &BTreeSet<Key>) -> BTreeSet<Key> {
        let left = served.lists().iter().map(|list| list.key).filter(|key| served.trusts(*key));
        let all = left.chain(retired.iter().copied());
        all.filter(|key| !self.trusts(*key) && self.lists().iter().any(|list| list.key == *key)).collect()
    }

    /// Returns the keys of CAs without a list of theirs, where that rejects their clients, and of
    /// those with shards alone. Each comes with whether it has a shard.
    fn without(&self, policy: Policy) -> BTreeSet<(Key, bool)> {
        if policy.allow_unknown || self.lists().is_empty() {
            return BTreeSet::new();
        }
        let has = |key: Key, shard| self.lists().iter().any(|list| list.key == key && list.shard == shard);
        let keys = self.bundle.iter().map(|anchor| anchor.key);
        keys.filter(|key| !has(*key, false)).map(|key| (key, has(key, true))).collect()
    }

    /// Returns whether an operator is warned about the lists, where all files are one set.
    pub fn warns(&self, served: Option<&Self>, policy: Policy) -> bool {
        let about = |list: &List, other: &List| (other.key, other.shard) == (list.key, list.shard);
        let lists = || self.lists().iter();
        let expired = |list: &List| list.expired && !lists().any(|o| about(list, o) && !o.expired);
        let replaced = |list: &List| {
            self.trusts(list.key) && !list.later && lists().any(|other| about(list, other) && other.later)
        };
        let newest = |of: &Self, list: &List| {
            of.lists().iter().filter(|other| about(list, other)).map(|other| other.later).max()
        };
        let gone = |old: &List| {
            let left = || lists().filter(|list| list.key == old.key);
            !left().any(|list| list.shard == old.shard)
        };
        let is_replaced_key = |served: &Self, old: &List| {
            served.trusts(old.key) && !self.trusts(old.key) && self.of(old.key.name()).next().is_some()
        };
        lists().any(|list| self.is_foreign(list) || expired(list) || replaced(list))
            || match served {
                None => !self.without(policy).is_empty(),
                Some(served) => {
                    !self.without(policy).is_subset(&served.without(policy))
                        || lists().any(|list| newest(self, list) < newest(served, list))
                        || served.lists().iter().any(|old| {
                            let of_key = lists().any(|list| list.key == old.key);
                            gone(old) && (of_key || !is_replaced_key(served, old))
                        })
                }
            }
    }
}

/// Returns whether a publisher may replace its list `old` by `new` beside the list of another
/// publisher: no set loses the list of an authority unless another set has one as new.
pub fn keeps(old: &List, new: &List, other: &List) -> bool {
    new.key == old.key || other.key != old.key || other.later >= old.later
}

impl Leaf {
    /// Returns the names that sessions depend on.
    pub fn identity(&self, rule: Rule) -> BTreeSet<&'static str> {
        let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
        let counts = |name: &&str| match rule {
            Rule::AddressesForgotten => !is_address(name),
            Rule::WildcardsForgotten => !name.starts_with('*'),
            _ => true,
        };
        let renewed = (rule == Rule::LeavesByBytes && self.renewed).then_some("renewed");
        self.names.iter().copied().filter(counts).chain(renewed).collect()
    }

    /// Returns whether a client with this server name gets the pair, where only names count.
    pub fn answers(&self, name: &str) -> bool {
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let is_dns = |held: &&str| held.parse::<std::net::IpAddr>().is_err();
        let mut names = self.names.iter().copied().filter(is_dns);
        names.any(|held| held == name || Some(held) == wildcard.as_deref())
    }
}
