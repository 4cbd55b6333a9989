//! Certificates and keys in the place of the blocks of marked files, each made once, and what they mean.

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

type Block = [u8; BLOCK];

/// Valid before every date of a case, and after it.
const FROM: Duration = Duration::from_secs(1_700_000_000);
const TO: Duration = Duration::from_secs(4_000_000_000);

/// What was made so far.
#[derive(Default)]
pub struct Forge(Mutex<Made>);

struct Made {
    root: Authority,
    issuer: Authority,
    keys: HashMap<u32, PrivateKey>,
    /// PEM.
    texts: HashMap<Block, String>,
    certificates: HashMap<CertificateDer<'static>, Block>,
    /// A client CA's name, its block, and a client that it has certified.
    clients: HashMap<Vec<u8>, (Block, Arc<CertifiedKey>)>,
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
        }
    }
}

/// The steps of a plan with real files.
pub struct Forged {
    pub base: Vec<Step>,
    pub steps: Vec<Step>,
    /// The marked file that a real one stands for.
    pub meanings: HashMap<Vec<u8>, Arc<Vec<u8>>>,
}

impl Forge {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan's steps with certificates and keys for blocks. What its paths hold at each moment stays what it is.
    pub fn forge(&self, plan: &Plan) -> Forged {
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
        let mut draft = Draft::new(&plan.paths, &base, &plan.weather);
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
        Forged { base, steps, meanings }
    }

    /// The blocks of a chain and of the client CAs of these names; `None` for what was not made here.
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
    /// What stands for these bytes: the end of them may be half a block.
    fn text(&mut self, bytes: &[u8], blocks: &BTreeSet<Block>) -> Vec<u8> {
        let mut text = Vec::new();
        for chunk in bytes.chunks(BLOCK) {
            // The last that begins so, for it ends a file; any at all where none was written whole.
            let whole = blocks.iter().rev().find(|block| block.starts_with(chunk)).copied();
            let whole = whole.unwrap_or_else(|| [chunk, b"001\n"].concat().try_into().unwrap());
            let pem = self.block(whole);
            // Two certificates of one key and one name differ in their signatures alone, which are at their ends.
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
            // Text beside a certificate would be none of its business.
            return "-----BEGIN RUBBISH-----\n".to_owned();
        }
        let number = |at: usize| std::str::from_utf8(&block[at..at + 3]).unwrap().parse::<u32>().unwrap();
        let pem = match block[0] {
            b'K' => return self.key(number(1)).pem(),
            b'L' => {
                let from = not_before(&[Some(Arc::new(block.to_vec()))]).unwrap_or(FROM);
                let subject = Subject::server("localhost").valid(UNIX_EPOCH + from, UNIX_EPOCH + TO);
                self.key(number(4));
                self.issuer.issue(&subject, &self.keys[&number(4)]).chain
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

/// A client that shows what the first CA that is asked for has certified, and remembers which were asked for.
pub struct Shows {
    forge: Arc<Forge>,
    asked: Mutex<Vec<Vec<u8>>>,
}

impl Shows {
    pub fn new(forge: &Arc<Forge>) -> Arc<Self> {
        Arc::new(Self { forge: Arc::clone(forge), asked: Mutex::default() })
    }

    /// The names of the CAs that the last handshake asked for.
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
        let made = self.forge.made();
        made.clients.get(*names.first()?).map(|(_, shown)| Arc::clone(shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
