//! The files and keys of the worlds, each made once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer, sign::CertifiedKey};
use rustls_reload::internal::der;
use rustls_reload_testkit::{Authority, CrlVariant, HOLD, ListSpec, Pair, PrivateKey, Subject};

use super::world::{Anchor, BUNDLES, CLIENTS, Cert, FURTHER, Form, Key, LEAVES, LISTS, Leaf, List, Names};

/// The distribution point of the shards.
const POINT: &str = "http://crl.test/shard";
const HOUR: Duration = Duration::from_secs(3600);

/// Certificates, lists and keys. All keys are Ed25519, which is the fastest.
pub struct CertCache {
    authorities: HashMap<Key, Authority>,
    anchors: HashMap<Anchor, String>,
    certs: HashMap<Cert, Pair>,
    lists: HashMap<List, String>,
    leaves: HashMap<Leaf, Pair>,
}

impl CertCache {
    pub fn new() -> Self {
        let a = Authority::seeded("A", 1);
        let i = a.intermediate_seeded("I", 4);
        let others = [(Key::Rekeyed, "A", 2), (Key::B, "B", 3), (Key::Stranger, "I", 5)];
        let others = others.map(|(key, name, seed)| (key, Authority::seeded(name, seed)));
        let mut cache = Self {
            authorities: others.into_iter().chain([(Key::A, a), (Key::I, i)]).collect(),
            anchors: HashMap::new(),
            certs: HashMap::new(),
            lists: HashMap::new(),
            leaves: HashMap::new(),
        };
        for anchor in BUNDLES.into_iter().flatten() {
            cache.anchors.insert(*anchor, cache.anchor(anchor));
        }
        for (seed, cert) in (10..).zip(CLIENTS.into_iter().flatten()) {
            cache.certs.insert(cert, cache.client(cert, seed));
        }
        for list in LISTS.into_iter().flatten() {
            let made = cache.list(list);
            cache.lists.insert(*list, made);
        }
        let issuers = [Authority::seeded("servers", 6), Authority::seeded("other servers", 7)];
        for leaf in LEAVES.into_iter().chain(FURTHER) {
            let names = leaf.names.iter().map(|&name| name.to_owned()).collect();
            let subject = Subject { names, ..Subject::server("") };
            let place = u8::from(leaf.renewed);
            let pair = issuers[usize::from(place)].issue(&subject, &PrivateKey::seeded(8 + place));
            cache.leaves.insert(leaf, pair);
        }
        cache
    }

    fn anchor(&self, anchor: &Anchor) -> String {
        let (now, authority) = (SystemTime::now(), &self.authorities[&anchor.key]);
        match anchor.form {
            Form::First => authority.pem.clone(),
            Form::Renewed => authority.twin(anchor.key.name(), (now - HOUR, now + 9 * HOUR)),
            Form::Expired => authority.twin(anchor.key.name(), (now - 9 * HOUR, now - HOUR)),
            // Issued by another CA: only its name, key and constraints count.
            Form::Constrained => {
                self.authorities[&Key::B].certify_again_for(authority, anchor.key.name(), "in.test")
            }
        }
    }

    fn client(&self, cert: Cert, seed: u8) -> Pair {
        let name = match cert {
            Cert::Good => "good.in.test".to_owned(),
            other => format!("{other:?}.test").to_lowercase(),
        };
        let (now, identity, subject) = (SystemTime::now(), PrivateKey::seeded(seed), Subject::client(&name));
        let Some(issuer) = cert.issuer() else {
            return Authority::posing(&name, &identity).issue(&subject, &identity);
        };
        let issuer = &self.authorities[&issuer];
        match cert {
            Cert::Expired => issuer.issue(&subject.valid(now - 9 * HOUR, now - HOUR), &identity),
            Cert::Sharded => issuer.issue_listed_at(&subject, &identity, &[POINT]),
            Cert::Below | Cert::RevokedBelow => issuer.issue_with_chain(&subject, &identity),
            _ => issuer.issue(&subject, &identity),
        }
    }

    fn list(&self, list: &List) -> String {
        let (now, authority) = (SystemTime::now(), &self.authorities[&list.key]);
        let reason = (list.names == Names::Held).then_some(HOLD);
        let from = now - if list.later { 2 } else { 3 } * HOUR;
        let spec = ListSpec {
            revoked: list.named().iter().map(|cert| (self.serial(*cert), reason)).collect(),
            window: (from, if list.expired { now - HOUR } else { now + 9 * HOUR }),
            points: list.shard.then(|| POINT.to_owned()).into_iter().collect(),
            ..ListSpec::new(1 + u64::from(list.later))
        };
        let made = authority.list(&spec);
        if list.delta { authority.odd_crl(&made, CrlVariant::Delta).pem } else { made.pem }
    }

    fn serial(&self, cert: Cert) -> Vec<u8> {
        let der: &CertificateDer<'_> = match cert {
            Cert::I => self.authorities[&Key::I].der(),
            cert => &self.certs[&cert].leaf,
        };
        der::fields(der).unwrap().serial.to_vec()
    }

    pub fn bundle(&self, bundle: &[Anchor]) -> String {
        bundle.iter().map(|anchor| self.anchors[anchor].as_str()).collect()
    }

    pub fn list_pem(&self, list: &List) -> &str {
        &self.lists[list]
    }

    pub fn leaf(&self, leaf: &Leaf) -> &Pair {
        &self.leaves[leaf]
    }

    /// Returns the chain and key of a client.
    pub fn shown(&self, cert: Cert, provider: &CryptoProvider) -> Arc<CertifiedKey> {
        let pair = &self.certs[&cert];
        let chain = rustls_reload::internal::pem::chain(pair.chain.as_bytes()).unwrap();
        Arc::new(CertifiedKey::from_der(chain, pair.key_der(), provider).unwrap())
    }
}
