//! Replaces the blocks of marked files by certificates and keys, each made once, and maps them
//! back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use rustls::{
    RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, pem::PemObject},
    sign::CertifiedKey,
};
use rustls_reload_harness::sim::{BLOCK, Contents, Draft, not_before};
use rustls_reload_testkit::{Authority, Op as Step, PrivateKey, Subject};

use super::plan::{JUNK, Plan};
use crate::common::certified;

pub type Block = [u8; BLOCK];

/// A validity that begins before every date of a case and ends after it.
const FROM: Duration = Duration::from_secs(1_700_000_000);
const TO: Duration = Duration::from_secs(4_000_000_000);

/// The certificates and keys made so far.
#[derive(Default)]
pub struct CertCache(Mutex<Made>);

struct Made {
    root: Authority,
    issuer: Authority,
    keys: HashMap<u32, PrivateKey>,
    /// The PEM of each block.
    texts: HashMap<Block, String>,
    certificates: HashMap<CertificateDer<'static>, Block>,
    /// The block of each client CA by the CA's name, and a client that it has issued.
    clients: HashMap<Vec<u8>, (Block, Arc<CertifiedKey>)>,
    /// A server that each CA has issued, with its name.
    servers: HashMap<Block, (String, Arc<CertifiedKey>)>,
}

impl Default for Made {
    fn default() -> Self {
        let root = Authority::root("root");
        Self {
            issuer: root.intermediate("issuer"),
            root,
            keys: HashMap::new(),
            texts: HashMap::new(),
            certificates: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
        }
    }
}

/// The steps of a plan with real files.
pub struct CachedCerts {
    pub base: Vec<Step>,
    pub steps: Vec<Step>,
    /// The marked file that corresponds to each real one.
    pub meanings: HashMap<Vec<u8>, Arc<Vec<u8>>>,
}

impl CertCache {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the plan's steps with certificates and keys instead of blocks. The content of the
    /// paths at each moment stays the same in meaning.
    pub fn fill(&self, plan: &Plan) -> CachedCerts {
        let written = plan.base.iter().chain(&plan.steps).filter_map(|step| match step {
            Step::Append(_, bytes) => Some(bytes.chunks_exact(BLOCK)),
            _ => None,
        });
        let blocks: BTreeSet<Block> = written.flatten().map(|block| block.try_into().unwrap()).collect();
        let mut made = self.made();
        let mut real = |steps: &[Step]| -> Vec<Step> {
            let real = steps.iter().map(|step| match step {
                Step::Append(path, bytes) => Step::Append(path.clone(), made.text(bytes, &blocks)),
                step => step.clone(),
            });
            real.collect()
        };
        let (base, steps) = (real(&plan.base), real(&plan.steps));
        let mut draft = Draft::new(&plan.paths, &base, &plan.config);
        for step in &steps {
            assert!(draft.take(step.clone()), "a step of the plan: {step:?}");
        }
        let mut meanings = HashMap::new();
        for (marked, real) in plan.contents.iter().flatten().zip(draft.contents().iter().flatten()) {
            if let (Some(marked), Some(real)) = (marked, real) {
                let known = meanings.insert(real.to_vec(), Arc::clone(marked));
                assert!(known.is_none_or(|known| known == *marked), "two files in one");
            }
        }
        CachedCerts { base, steps, meanings }
    }

    /// Returns a server that the CA of this block has issued, with its name; `None` for a block that
    /// was not written.
    pub fn server(&self, ca: &Block) -> Option<(String, Arc<CertifiedKey>)> {
        self.made().servers.get(ca).cloned()
    }

    /// Returns the certificate of a client that the CA of this block has issued; `None` for a block
    /// that was not written.
    pub fn client(&self, ca: &Block) -> Option<Arc<CertifiedKey>> {
        let made = self.made();
        made.clients.values().find(|(block, _)| block == ca).map(|(_, shown)| Arc::clone(shown))
    }

    /// Returns the blocks of a chain, and of the client CAs with these names; `None` for data that
    /// was not made here.
    pub fn shown(&self, chain: &[CertificateDer<'_>], names: &[Vec<u8>]) -> Contents {
        let made = self.made();
        let join = |blocks: Option<Vec<&Block>>| {
            blocks.map(|blocks| Arc::new(blocks.into_iter().flatten().copied().collect()))
        };
        let chain = chain.iter().map(|certificate| made.certificates.get(certificate)).collect();
        let cas = names.iter().map(|name| made.clients.get(name).map(|(block, _)| block)).collect();
        vec![join(chain), None, join(cas)]
    }
}

impl Made {
    /// Returns the real text for these bytes, which may end in half a block.
    fn text(&mut self, bytes: &[u8], blocks: &BTreeSet<Block>) -> Vec<u8> {
        let mut text = Vec::new();
        for chunk in bytes.chunks(BLOCK) {
            // Half a block is half of the last block with this beginning, or of any block if none
            // was written whole.
            let whole = blocks.iter().rev().find(|block| block.starts_with(chunk)).copied();
            let whole = whole.unwrap_or_else(|| [chunk, b"001\n"].concat().try_into().unwrap());
            let pem = self.block(whole);
            // Two certificates of one key and one name differ only in their signatures, which are
            // at their ends.
            let cut = if chunk.len() < BLOCK { (pem.len() / 2).min(60) } else { 0 };
            text.extend_from_slice(&pem.as_bytes()[..pem.len() - cut]);
        }
        text
    }

    fn block(&mut self, block: Block) -> &str {
        if !self.texts.contains_key(&block) {
            let text = self.make(block);
            self.texts.insert(block, text);
        }
        &self.texts[&block]
    }

    fn make(&mut self, block: Block) -> String {
        if block == *JUNK {
            // Other text beside a certificate would be ignored.
            return "-----BEGIN RUBBISH-----\n".to_owned();
        }
        let number = |at: usize| std::str::from_utf8(&block[at..at + 3]).unwrap().parse::<u32>().unwrap();
        let pem = match block[0] {
            b'K' => return self.key(number(1)).pem(),
            b'L' => {
                let from = not_before(&[Some(Arc::new(block.to_vec()))]).unwrap_or(FROM);
                // Servers and clients with the certificate of the other would be warned of.
                let subject = Subject::server("localhost").valid(UNIX_EPOCH + from, UNIX_EPOCH + TO);
                self.key(number(4));
                self.issuer.issue_for_both(&subject, &self.keys[&number(4)]).chain
            }
            b'I' => self.root.certify_again(&self.issuer, "issuer"),
            b'C' => {
                let ca = Authority::root(&String::from_utf8_lossy(&block[..BLOCK - 1]));
                let client = ca.issue(&Subject::client("client"), &PrivateKey::p256());
                let mut roots = RootCertStore::empty();
                roots.add(ca.der().clone()).unwrap();
                let name = roots.subjects()[0].as_ref().to_vec();
                let shown = Arc::new(certified(&client.leaf, client.key_der()));
                self.clients.insert(name, (block, shown));
                let name = format!("c{}-{}.test", number(1), number(4));
                let server = ca.issue(&Subject::server(&name), &PrivateKey::p256());
                let shown = Arc::new(certified(&server.leaf, server.key_der()));
                self.servers.insert(block, (name, shown));
                ca.pem
            }
            _ => panic!("no block: {block:?}"),
        };
        self.certificates.insert(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), block);
        pem
    }

    fn key(&mut self, number: u32) -> &PrivateKey {
        self.keys.entry(number).or_insert_with(PrivateKey::p256)
    }
}

/// A client that shows the certificate of the first CA in the request, and records the CAs of the
/// request.
pub struct Shows {
    cache: Arc<CertCache>,
    asked: Mutex<Vec<Vec<u8>>>,
}

impl Shows {
    pub fn new(cache: &Arc<CertCache>) -> Arc<Self> {
        Arc::new(Self { cache: Arc::clone(cache), asked: Mutex::default() })
    }

    /// Returns the CA names in the request of the last handshake.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl std::fmt::Debug for Shows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shows")
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.asked.lock().unwrap() = names.iter().map(|name| name.to_vec()).collect();
        let made = self.cache.made();
        made.clients.get(*names.first()?).map(|(_, shown)| Arc::clone(shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
