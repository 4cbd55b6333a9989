//! The small worlds: client CA bundles, CRLs, policies, clients, and names of the
//! server's leaves.

use std::fmt;

use rustls_reload::ClientAuth;

/// A key that signs certificates and CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    A,
    /// Another key under the name of `A`.
    Rekeyed,
    B,
    /// An intermediate that `A` has issued.
    I,
    /// Another key under the name of `I`, which has issued no certificate.
    Stranger,
}

impl Key {
    pub fn name(self) -> &'static str {
        match self {
            Self::A | Self::Rekeyed => "A",
            Self::B => "B",
            Self::I | Self::Stranger => "I",
        }
    }
}

/// A certificate of a CA, by its difference from the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    First,
    Renewed,
    Expired,
    /// Valid only for names beneath `in.test`.
    Constrained,
}

/// A certificate in a client CA bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anchor {
    pub key: Key,
    pub form: Form,
}

const fn first(key: Key) -> Anchor {
    Anchor { key, form: Form::First }
}

const fn a(form: Form) -> Anchor {
    Anchor { key: Key::A, form }
}

pub type Bundle = &'static [Anchor];

pub const BUNDLES: [Bundle; 10] = [
    &[first(Key::A)],
    &[first(Key::A), first(Key::B)],
    &[first(Key::B), a(Form::Renewed)],
    &[a(Form::Renewed)],
    &[a(Form::Expired)],
    &[a(Form::Constrained)],
    &[first(Key::Rekeyed)],
    &[first(Key::A), first(Key::Rekeyed)],
    &[first(Key::B)],
    &[first(Key::B), first(Key::A), first(Key::B), a(Form::Expired)],
];

/// The certificates that a CRL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Names {
    Nobody,
    Revoked,
    /// One certificate, and only on hold.
    Held,
    /// Another certificate.
    Good,
}

/// A CRL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List {
    pub key: Key,
    /// Whether it covers only certificates with its distribution point.
    pub shard: bool,
    pub names: Names,
    pub expired: bool,
    /// Whether it is the later issue by date and number.
    pub later: bool,
    /// Whether it is a delta list, which no server accepts.
    pub delta: bool,
}

const fn list(key: Key) -> List {
    List { key, shard: false, names: Names::Nobody, expired: false, later: false, delta: false }
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.key, self.form)
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} naming {:?}", self.key, self.names)?;
        let parts =
            [(self.shard, "shard"), (self.expired, "expired"), (self.later, "later"), (self.delta, "delta")];
        parts.into_iter().filter(|(is, _)| *is).try_for_each(|(_, part)| write!(f, " {part}"))
    }
}

impl List {
    const fn revoking(self) -> Self {
        Self { names: Names::Revoked, ..self }
    }

    const fn holding(self) -> Self {
        Self { names: Names::Held, ..self }
    }

    const fn naming_good(self) -> Self {
        Self { names: Names::Good, ..self }
    }

    const fn shard(self) -> Self {
        Self { shard: true, ..self }
    }

    const fn expired(self) -> Self {
        Self { expired: true, ..self }
    }

    const fn later(self) -> Self {
        Self { later: true, ..self }
    }

    const fn delta(self) -> Self {
        Self { delta: true, ..self }
    }

    /// Returns the certificates whose serial numbers it contains.
    pub fn named(&self) -> &'static [Cert] {
        match (self.names, self.key) {
            (Names::Nobody, _) => &[],
            (Names::Held, _) => &[Cert::Held],
            (Names::Good, _) => &[Cert::Good],
            (Names::Revoked, Key::A) if self.shard => &[Cert::Sharded, Cert::Revoked],
            (Names::Revoked, Key::A) => &[Cert::Revoked, Cert::I],
            // The serial numbers are those of certificates that the other key of the name has
            // issued.
            (Names::Revoked, Key::Rekeyed) => &[Cert::Good, Cert::Revoked],
            (Names::Revoked, Key::B) => &[Cert::RevokedB],
            (Names::Revoked, Key::I) => &[Cert::RevokedBelow],
            (Names::Revoked, Key::Stranger) => &[Cert::Below],
        }
    }
}

const A: List = list(Key::A);
const B: List = list(Key::B);
const I: List = list(Key::I);
const OTHER: List = list(Key::Rekeyed);
const STRANGER: List = list(Key::Stranger);

pub type Lists = &'static [List];

pub const LISTS: [Lists; 36] = [
    &[A],
    &[A.revoking()],
    &[A.expired()],
    &[A.revoking().expired()],
    &[A.later()],
    &[A.later().revoking()],
    &[A, B],
    &[A.revoking(), B],
    &[B.revoking(), A],
    &[A.expired(), B],
    &[A.revoking(), B.expired()],
    &[A, B.revoking().expired()],
    &[A.shard()],
    &[A.shard().revoking()],
    &[A.shard().revoking(), A],
    &[A, A.shard().revoking().expired()],
    &[A.shard().expired()],
    &[A, I],
    &[A, I.revoking()],
    &[A.revoking(), I],
    &[A, I.expired()],
    &[A.expired(), I.revoking()],
    &[A.holding()],
    &[A.holding(), A.later()],
    &[A.later().expired(), A.holding()],
    &[A, A.later().revoking()],
    &[B],
    &[OTHER],
    &[OTHER.revoking(), A],
    &[A, STRANGER.revoking()],
    &[STRANGER, A, I],
    &[A, A.delta()],
    &[A.revoking(), B, I],
    &[A.naming_good()],
    &[A.expired(), A.later()],
    &[A.later().revoking(), A.revoking().expired()],
];

/// A certificate that a list can revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cert {
    /// Issued by `A`, with a name beneath `in.test`.
    Good,
    /// Issued by `A`, with the distribution point of the shards.
    Sharded,
    /// Issued by `A`, and on hold in some lists.
    Held,
    /// Issued by `A`, and revoked by some lists.
    Revoked,
    /// Issued by `A`, and expired.
    Expired,
    Below,
    RevokedBelow,
    GoodRekeyed,
    GoodB,
    RevokedB,
    /// Signed by its own key.
    SelfSigned,
    /// The intermediate.
    I,
}

impl Cert {
    pub fn issuer(self) -> Option<Key> {
        Some(match self {
            Self::Good | Self::Sharded | Self::Held | Self::Revoked | Self::Expired | Self::I => Key::A,
            Self::Below | Self::RevokedBelow => Key::I,
            Self::GoodRekeyed => Key::Rekeyed,
            Self::GoodB | Self::RevokedB => Key::B,
            Self::SelfSigned => return None,
        })
    }
}

/// A client by its certificate; `None` for a client without one.
pub type Client = Option<Cert>;

pub const CLIENTS: [Client; 12] = [
    Some(Cert::Good),
    Some(Cert::Sharded),
    Some(Cert::Held),
    Some(Cert::Revoked),
    Some(Cert::Below),
    Some(Cert::RevokedBelow),
    Some(Cert::GoodRekeyed),
    Some(Cert::GoodB),
    Some(Cert::RevokedB),
    Some(Cert::Expired),
    Some(Cert::SelfSigned),
    None,
];

/// The settings about revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    pub leaf_only: bool,
    pub allow_unknown: bool,
    pub use_expired: bool,
}

impl Policy {
    pub fn all() -> [Self; 8] {
        [0, 1, 2, 3, 4, 5, 6, 7].map(|bits: u8| Self {
            leaf_only: bits & 4 != 0,
            allow_unknown: bits & 1 != 0,
            use_expired: bits & 2 != 0,
        })
    }
}

pub const MODES: [ClientAuth; 2] = [ClientAuth::Required, ClientAuth::Optional];

/// The files that decide about clients. Without lists no file of lists is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub bundle: Bundle,
    pub lists: Option<Lists>,
}

impl State {
    pub fn lists(&self) -> Lists {
        self.lists.unwrap_or_default()
    }
}

/// The names in a server's leaf, and whether a renewal has another issuer and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    pub names: &'static [&'static str],
    pub renewed: bool,
}

const fn leaf(names: &'static [&'static str]) -> Leaf {
    Leaf { names, renewed: false }
}

/// The first name of each is a server name that clients use.
pub const LEAVES: [Leaf; 10] = [
    leaf(&["a.test"]),
    Leaf { names: &["a.test"], renewed: true },
    leaf(&["a.test", "b.test"]),
    leaf(&["a.test", "10.0.0.1"]),
    leaf(&["a.test", "10.0.0.2"]),
    leaf(&["a.test", "2001:db8::1"]),
    leaf(&["a.test", "*.a.test"]),
    leaf(&["a.test", "*.b.test"]),
    leaf(&["a.test", "b.test", "10.0.0.1"]),
    Leaf { names: &["a.test", "10.0.0.1"], renewed: true },
];

/// The leaves of the further pair, by index.
pub const FURTHER: [Leaf; 6] = [
    leaf(&["f.test"]),
    Leaf { names: &["f.test"], renewed: true },
    leaf(&["f.test", "g.test"]),
    leaf(&["f.test", "10.0.0.3"]),
    leaf(&["f.test", "10.0.0.4"]),
    leaf(&["f.test", "*.f.test"]),
];
