//! Small worlds: two authorities of one name, an intermediate, eight certificates, and every list
//! of several kinds.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, Error as TlsError,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use rustls_reload::internal::der;
use rustls_reload_harness::{RevocationPolicy, client_verifiers};
use rustls_reload_testkit::{Authority, Crl, HOLD, ListSpec, Pair, PrivateKey, Subject};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Users,
    Authorities,
    At(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Nobody,
    Revoked,
    Held,
}

/// A kind of list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) scope: Scope,
    pub(crate) names: Names,
    pub(crate) expired: bool,
    /// Whether the other authority with the issuer's name signed it.
    pub(crate) other_key: bool,
}

impl Kind {
    /// Returns whether both cover the same certificates.
    pub(crate) fn like(&self, other: &Self) -> bool {
        (self.scope, self.other_key) == (other.scope, other.other_key)
    }
}

/// A list in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) kind: Kind,
    /// Whether it is the later list by date and number.
    pub(crate) later: bool,
}

/// The lists in the order in which they are loaded, and the policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    pub(crate) lists: &'a [List],
    pub(crate) policy: RevocationPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    In,
    Revoked,
    Expired,
    Unknown,
}

/// The certificate in question: a client's own, or the intermediate above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cert {
    pub(crate) authority: bool,
    pub(crate) points: &'static [&'static str],
}

const POINTS: [&[&str]; 4] = [
    &[],
    &["http://crl.example/a"],
    &["http://crl.example/b"],
    &["http://crl.example/a", "http://crl.example/b"],
];

/// Returns all kinds of lists: each scope with each content and date, and some of the other key.
pub(crate) fn kinds() -> Vec<Kind> {
    let scopes =
        [Scope::All, Scope::Users, Scope::Authorities, Scope::At(POINTS[1][0]), Scope::At(POINTS[2][0])];
    let mut kinds = Vec::new();
    for scope in scopes {
        for (names, expired) in
            [(Names::Nobody, false), (Names::Nobody, true), (Names::Revoked, false), (Names::Revoked, true)]
        {
            kinds.push(Kind { scope, names, expired, other_key: false });
        }
    }
    for scope in [scopes[0], scopes[3]] {
        kinds.push(Kind { scope, names: Names::Held, expired: false, other_key: false });
    }
    for names in [Names::Nobody, Names::Revoked] {
        kinds.push(Kind { scope: Scope::All, names, expired: false, other_key: true });
    }
    kinds
}

/// Returns every list alone, and every two of them in either order of loading and of issue.
pub(crate) fn list_sets() -> Vec<Vec<List>> {
    let kinds = kinds();
    let list = |kind: &Kind, later| List { kind: *kind, later };
    let mut sets: Vec<_> = kinds.iter().map(|kind| vec![list(kind, false)]).collect();
    for one in &kinds {
        for two in &kinds {
            sets.extend([false, true].map(|later| vec![list(one, later), list(two, !later)]));
        }
    }
    sets
}

pub(crate) fn policies() -> Vec<RevocationPolicy> {
    let bits = |n: u8| RevocationPolicy {
        end_entity_only: n & 4 != 0,
        allow_unknown: n & 1 != 0,
        ignore_expiration: n & 2 != 0,
    };
    (0..8).map(bits).collect()
}

/// The real certificates and lists.
pub(crate) struct Factory {
    pub(crate) root: Authority,
    pub(crate) other: Authority,
    /// Each certificate with the chain that its client sends, the client's own certificate first.
    pub(crate) certs: Vec<(Cert, Vec<CertificateDer<'static>>)>,
    /// Each kind of list, the earlier one first.
    lists: Vec<(Kind, [Crl; 2])>,
    /// An empty list of each intermediate.
    pub(crate) of_intermediates: Vec<Crl>,
}

impl Factory {
    pub(crate) fn new() -> Self {
        let (root, other) = (Authority::seeded("CA", 1), Authority::seeded("CA", 2));
        let (mut certs, mut named, mut of_intermediates) = (Vec::new(), Vec::new(), Vec::new());
        let key = PrivateKey::seeded(3);
        for points in POINTS {
            let pair = root.issue_listed_at(&Subject::client("client"), &key, points);
            named.push(pair.leaf.clone());
            certs.push((Cert { authority: false, points }, vec![pair.leaf]));
            let intermediate = root.intermediate_listed_at(&format!("intermediate {}", certs.len()), points);
            named.push(intermediate.der().clone());
            let Pair { leaf, .. } = intermediate.issue(&Subject::client("client"), &key);
            certs.push((Cert { authority: true, points }, vec![leaf, intermediate.der().clone()]));
            of_intermediates.push(intermediate.list(&ListSpec::new(1)));
        }
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let list = |kind: &Kind, later: bool| {
            let reason = (kind.names == Names::Held).then_some(HOLD);
            let serial = |named: &CertificateDer<'_>| (der::fields(named).unwrap().serial.to_vec(), reason);
            let from = now - if later { 2 * hour } else { 3 * hour };
            let spec = ListSpec {
                revoked: named.iter().filter(|_| kind.names != Names::Nobody).map(serial).collect(),
                window: (from, if kind.expired { now - hour } else { now + hour }),
                points: if let Scope::At(uri) = kind.scope { vec![uri.to_owned()] } else { Vec::new() },
                users: kind.scope == Scope::Users,
                authorities: kind.scope == Scope::Authorities,
                ..ListSpec::new(1 + u64::from(later))
            };
            if kind.other_key { other.list(&spec) } else { root.list(&spec) }
        };
        let lists =
            kinds().into_iter().map(|kind| (kind, [false, true].map(|later| list(&kind, later)))).collect();
        Self { certs, lists, of_intermediates, root, other }
    }

    pub(crate) fn list(&self, list: &List) -> &Crl {
        let (_, both) = self.lists.iter().find(|(kind, _)| *kind == list.kind).unwrap();
        &both[usize::from(list.later)]
    }

    /// Returns the verifiers with these lists, by the policy.
    pub(crate) fn verifiers(
        &self,
        lists: &[List],
    ) -> impl Fn(RevocationPolicy) -> Arc<dyn ClientCertVerifier> + use<> {
        let lists = lists.iter().map(|list| self.list(list)).chain(&self.of_intermediates);
        let lists: Vec<_> = lists.map(|list| &*list.der).map(AsRef::as_ref).collect();
        client_verifiers(&[self.root.der(), self.other.der()], &lists).unwrap()
    }
}

/// Returns the answer of a verifier for a chain.
pub(crate) fn ask(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> Answer {
    match verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()) {
        Ok(_) => Answer::In,
        Err(TlsError::InvalidCertificate(CertificateError::Revoked)) => Answer::Revoked,
        Err(TlsError::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => Answer::Unknown,
        Err(TlsError::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. })) => {
            Answer::Expired
        }
        Err(other) => panic!("{other}"),
    }
}
