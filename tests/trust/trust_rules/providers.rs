//! Providers that verify fewer algorithms than the compiled-in one. Certificates and lists are
//! verified by the provider that the server was given.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    SignatureScheme,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm, alg_id, pem::PemObject},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_reload::{Error, Files, HandshakeFailure, Layer, ServerTls, internal::crl};
use rustls_reload_testkit::{Authority, ListSpec, Pair, PrivateKey, Subject, armor};

use super::{
    clients::{client, handshake},
    count::Count,
    full::VERSIONS,
    oracle::Verdict,
    server::{Layout, Provider, Server, Setup, file},
    world::Policy,
};

/// The end of the identifiers of `sha256WithRSAEncryption` and `sha512WithRSAEncryption`.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
const RSA_SHA256: u8 = 11;
const RSA_SHA512: u8 = 13;

/// The algorithms that the provider of a server verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verifies {
    Everything,
    /// Everything but RSA with SHA-512.
    NoSha512,
    /// Everything but RSA.
    NoRsa,
}

impl Verifies {
    const ALL: [Self; 3] = [Self::Everything, Self::NoSha512, Self::NoRsa];

    fn takes(self, algorithm: &dyn SignatureVerificationAlgorithm) -> bool {
        match self {
            Self::Everything => true,
            Self::NoSha512 => algorithm.signature_alg_id() != alg_id::RSA_PKCS1_SHA512,
            Self::NoRsa => algorithm.public_key_alg_id() != alg_id::RSA_ENCRYPTION,
        }
    }

    /// Returns the provider with the remaining algorithms.
    fn of(self, provider: &Provider) -> Provider {
        let WebPkiSupportedAlgorithms { all, mapping } = provider.crypto.signature_verification_algorithms;
        let left: Vec<_> = all.iter().copied().filter(|algorithm| self.takes(*algorithm)).collect();
        let mapped = mapping.iter().map(|(scheme, all)| {
            let left: Vec<_> = all.iter().copied().filter(|algorithm| self.takes(*algorithm)).collect();
            (*scheme, &*Box::leak(left.into_boxed_slice()))
        });
        let mapping: Vec<_> = mapped.filter(|(_, left)| !left.is_empty()).collect();
        let crypto = CryptoProvider {
            signature_verification_algorithms: WebPkiSupportedAlgorithms {
                all: Box::leak(left.into_boxed_slice()),
                mapping: Box::leak(mapping.into_boxed_slice()),
            },
            ..provider.crypto.as_ref().clone()
        };
        Provider { crypto: Arc::new(crypto), ..provider.clone() }
    }
}

/// A list signed by an RSA key: its issuer, the digest, and whether it revokes the issuer's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct List {
    below: bool,
    sha512: bool,
    revokes: bool,
}

/// The clients of the root and of the intermediate below it: of each one that lists revoke, and one
/// that they do not.
const CLIENTS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

struct World {
    root: Authority,
    below: Authority,
    /// A CA that every provider supports, with a list of its own.
    other: Authority,
    clients: [Pair; 4],
    server: Pair,
    key: PrivateKeyDer<'static>,
}

impl World {
    fn new() -> Self {
        let pem = include_str!("../../load/vectors/keys/rsa-2048.pem");
        let identity = PrivateKey::from_pem(pem);
        let (root, below) = (Authority::posing("RSA", &identity), Authority::posing("below", &identity));
        let certificate = root.certify_again(&below, "below");
        let clients = CLIENTS.map(|(is_below, revoked)| {
            let key = PrivateKey::seeded(20 + u8::from(is_below) * 2 + u8::from(revoked));
            let subject = Subject::client("client.test");
            if !is_below {
                return root.issue(&subject, &key);
            }
            let pair = below.issue(&subject, &key);
            Pair { chain: pair.chain.clone() + &certificate, ..pair }
        });
        let servers = Authority::seeded("servers", 6);
        Self {
            other: Authority::seeded("other", 7),
            server: servers.issue(&Subject::server("a.test"), &PrivateKey::seeded(8)),
            key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap(),
            root,
            below,
            clients,
        }
    }

    fn list(&self, list: List, provider: &CryptoProvider) -> String {
        let issuer = if list.below { &self.below } else { &self.root };
        let now = SystemTime::now();
        let window = (now - Duration::from_secs(3600), now + Duration::from_secs(36_000));
        let named = list.revokes.then(|| &self.clients[1 + 2 * usize::from(list.below)].leaf);
        let spec = named.into_iter().fold(ListSpec { window, ..ListSpec::new(1) }, ListSpec::naming);
        let made = issuer.list(&spec);
        if !list.sha512 {
            return made.pem;
        }
        // Replaces the algorithm identifier by the other one, which has the same length, and the
        // signature by one of that algorithm.
        let mut der = made.der.to_vec();
        let places: Vec<_> = der.windows(RSA.len()).enumerate().filter(|(_, bytes)| *bytes == RSA).collect();
        let places: Vec<_> = places.into_iter().map(|(at, _)| at + RSA.len()).collect();
        assert_eq!(places.iter().map(|at| der[*at]).collect::<Vec<_>>(), [RSA_SHA256; 2]);
        places.into_iter().for_each(|at| der[at] = RSA_SHA512);
        let signed = crl::fields(&der).unwrap().signed.to_vec();
        let key = provider.key_provider.load_private_key(self.key.clone_key()).unwrap();
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA512]).unwrap();
        let signature = signer.sign(&signed).unwrap();
        let at = der.len() - signature.len();
        der[at..].copy_from_slice(&signature);
        String::from_utf8(armor::encode("X509 CRL", &[&der])).unwrap()
    }

    fn files(&self, lists: &[List], provider: &CryptoProvider) -> Vec<Files> {
        let bundle = self.root.pem.clone() + &self.other.pem;
        let first = [
            file("/tls", "tls.crt", &self.server.chain),
            file("/tls", "tls.key", &self.server.key),
            file("/tls", "ca.crt", &bundle),
        ];
        let other = self.other.list(&ListSpec::new(1)).pem;
        let lists = lists.iter().map(|list| self.list(*list, provider)).chain([other]);
        let named =
            |(i, pem): (usize, String)| -> (PathBuf, Vec<u8>) { file("/lists", &format!("{i}.crl"), &pem) };
        vec![Files::new(first), Files::new(lists.enumerate().map(named))]
    }
}

/// The rule: whether the lists load.
fn loads(lists: &[List], verifies: Verifies) -> bool {
    // A CA that is left out does not count, so that its list belongs to no CA.
    verifies == Verifies::NoRsa || lists.iter().all(|list| list.below || is_verified(*list, verifies))
}

fn is_verified(list: List, verifies: Verifies) -> bool {
    verifies == Verifies::Everything || verifies == Verifies::NoSha512 && !list.sha512
}

fn verdict(lists: &[List], verifies: Verifies, policy: Policy, (below, revoked): (bool, bool)) -> Verdict {
    if verifies == Verifies::NoRsa {
        return Err(HandshakeFailure::UnknownIssuer);
    }
    let status = |below: bool, revoked: bool| {
        let own: Vec<_> = lists.iter().filter(|list| list.below == below).collect();
        let verified = || own.iter().filter(|list| is_verified(***list, verifies));
        match (own.is_empty(), policy.allow_unknown) {
            (true, true) => Ok(()),
            (true, false) => Err(HandshakeFailure::RevocationUnknown),
            _ if verified().any(|list| revoked && list.revokes) => Err(HandshakeFailure::Revoked),
            _ if verified().next().is_some() => Ok(()),
            _ => Err(HandshakeFailure::RevocationListUnusable),
        }
    };
    status(below, revoked)?;
    if below && !policy.leaf_only { status(false, false) } else { Ok(()) }
}

/// Returns whether a reload accepts the new lists in place of the old ones.
fn follows(new: &[List], old: &[List], verifies: Verifies, policy: Policy) -> bool {
    let has = |lists: &[List], below| lists.iter().any(|list| list.below == below);
    // Without RSA both are lists of authorities that only clients send.
    let kept = |below: bool| {
        !has(old, below) || has(new, below) || !policy.allow_unknown && (below || verifies == Verifies::NoRsa)
    };
    let served = |list: &List| old.contains(list);
    let known = |list: &List| loads(&[*list], verifies) || served(list);
    new.iter().all(known) && kept(false) && kept(true)
}

fn sets() -> Vec<Vec<List>> {
    let root = |sha512, revokes| List { below: false, sha512, revokes };
    let below = |sha512, revokes| List { below: true, sha512, revokes };
    let mut sets = Vec::new();
    for (sha512, revokes) in [(false, false), (false, true), (true, false), (true, true)] {
        sets.push(vec![root(sha512, revokes)]);
        for (other, more) in [(false, false), (false, true), (true, false), (true, true)] {
            sets.push(vec![root(sha512, revokes), below(other, more)]);
        }
    }
    sets
}

pub fn table(provider: &Provider) -> Count {
    let (world, mut count) = (World::new(), Count::default());
    let shown: Vec<_> = world.clients.iter().map(|pair| shown(pair, &provider.crypto)).collect();
    let sets = sets();
    let all: Vec<_> = sets.iter().map(|lists| world.files(lists, &provider.crypto)).collect();
    for verifies in Verifies::ALL {
        let given = verifies.of(provider);
        for policy in [Policy::default(), Policy { allow_unknown: true, ..Policy::default() }] {
            let setup = Setup { policy, layout: Layout::Lists, versions: VERSIONS[1], ..Setup::new(&given) };
            let mut server = Server::new(&setup);
            for (lists, files) in sets.iter().zip(&all) {
                let what = || format!("{lists:?}, {verifies:?}, {policy:?}");
                let loaded = server.first(files);
                count.loads += 1;
                count.expect(loaded.is_ok(), loads(lists, verifies), what);
                let Ok(whole) = loaded else { continue };
                let left_out = whole.warnings.iter().any(|warning| warning.layer() == Layer::ClientCa);
                count.expect(left_out, verifies == Verifies::NoRsa, what);
                ask(&mut count, &whole.value, (lists, verifies, policy), &shown, provider);
                for (next, files) in sets.iter().zip(&all) {
                    let built = server.change(&whole.value, 1, &files[1]);
                    let refused = built.as_ref().err().map(Error::to_string);
                    count.reloads += 1;
                    count.refused_reloads += usize::from(refused.is_some());
                    count.expect(refused.is_none(), follows(next, lists, verifies, policy), || {
                        format!("{next:?} after {}: {refused:?}", what())
                    });
                    if let Ok(built) = built {
                        let one = [(next.len() + lists.len()) % 4, 3];
                        for client in one {
                            let of = [(CLIENTS[client], Arc::clone(&shown[client]))];
                            ask_some(&mut count, &built.value, (next, verifies, policy), &of, provider);
                        }
                    }
                }
            }
        }
    }
    count.combinations = count.reloads + count.loads;
    count
}

fn shown(pair: &Pair, provider: &CryptoProvider) -> Arc<CertifiedKey> {
    let chain = rustls_reload::internal::pem::chain(pair.chain.as_bytes()).unwrap();
    Arc::new(CertifiedKey::from_der(chain, pair.key_der(), provider).unwrap())
}

type Asked<'a> = (&'a [List], Verifies, Policy);

fn ask(
    count: &mut Count,
    server: &ServerTls,
    asked: Asked<'_>,
    shown: &[Arc<CertifiedKey>],
    provider: &Provider,
) {
    let all: Vec<_> = CLIENTS.into_iter().zip(shown.iter().cloned()).collect();
    ask_some(count, server, asked, &all, provider);
}

fn ask_some(
    count: &mut Count,
    server: &ServerTls,
    (lists, verifies, policy): Asked<'_>,
    clients: &[((bool, bool), Arc<CertifiedKey>)],
    provider: &Provider,
) {
    for (who, shown) in clients {
        let config = client(Some(Arc::clone(shown)), &TLS13, &provider.crypto);
        let found = handshake(&server.config, &config.into(), "a.test");
        count.full(found, verdict(lists, verifies, policy, *who), || {
            format!("{who:?} (below, revoked) with {lists:?}, {verifies:?}, {policy:?}")
        });
    }
}
