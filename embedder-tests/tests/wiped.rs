//! No buffer of this crate is freed or reallocated with key material in it. This binary's allocator
//! searches every block for windows of the keys when it is freed or reallocated, on every thread.
//!
//! The crate does not promise that of rustls and the provider. So that their copies hide none of
//! this crate, the provider here keeps nothing: it gets its signers before the search begins, finds
//! them by the key that it is handed, and wipes that copy. Left out are bytes that the certificate
//! contains too (the public key, the names of the algorithm), and the stack.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout)] // reason: a test may panic and print

#[path = "wiped/forms.rs"]
mod forms;
#[path = "wiped/search.rs"]
mod search;
#[path = "wiped/ways.rs"]
mod ways;

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rustls::{
    Error as TlsError,
    crypto::{CryptoProvider, KeyProvider, ring},
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::SigningKey,
};
use rustls_reload::{
    ClientAuth, Layer, Reload, ServerBuilder, ServerReloader, Timing,
    internal::{Secret, der},
};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject, WINDOW, armor};
use search::{Window, alone, found, holds_key};
use zeroize::{Zeroize, Zeroizing};

/// Returns the windows that no block may hold: of these keys, raw and as base64, with and without
/// line breaks.
fn windows(pairs: &[&Pair]) -> Vec<Window> {
    let text = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let all = |bytes: &[u8]| {
        bytes.windows(WINDOW).map(|window| window.try_into().unwrap()).collect::<Vec<Window>>()
    };
    let mut windows = BTreeSet::new();
    for pair in pairs {
        windows.extend(all(pair.key_der().secret_der()));
        windows.extend(all(text(&pair.key).as_bytes()));
        windows.extend(
            all(pair.key.replace("-----", "").as_bytes())
                .into_iter()
                .filter(|window| window.contains(&b'\n')),
        );
    }
    let mut known = BTreeSet::new();
    for pair in pairs {
        known.extend(all(&pair.leaf));
        known.extend(all(pair.chain.as_bytes()));
        known.extend(all(text(&pair.chain).as_bytes()));
    }
    for pair in pairs {
        let (key, key_text) = (pair.key_der(), text(&pair.key));
        // The bytes before the 32 secret ones are in every key of its kind, and any certificate may
        // have their text.
        let at = key.secret_der().windows(2).position(|header| header == [0x04, 0x20]).unwrap() + 2;
        known.extend(all(&key.secret_der()[..at]));
        known.extend(all(&key_text.as_bytes()[..at / 3 * 4]));
    }
    // The text of the BEGIN and END lines.
    let plain = |window: &Window| {
        window.iter().filter(|byte| byte.is_ascii_uppercase() || **byte == b' ').count() >= WINDOW - 1
    };
    windows.into_iter().filter(|window| !known.contains(window) && !plain(window)).collect()
}

/// A provider that keeps nothing of a key, as the head of this file explains.
#[derive(Debug)]
struct Keeps(OnceLock<Vec<(PrivateKeyDer<'static>, Arc<dyn SigningKey>)>>);

static KEEPS: Keeps = Keeps(OnceLock::new());

impl KeyProvider for Keeps {
    fn load_private_key(&self, mut key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, TlsError> {
        let signers = self.0.get().map(Vec::as_slice).unwrap_or_default();
        let signers = if ways::REFUSES.get() { &[] } else { signers };
        let known = signers.iter().find(|(known, _)| known.secret_der() == key.secret_der());
        let signer = known.map(|(_, signer)| Arc::clone(signer));
        key.zeroize();
        if ways::EXCHANGES.get() {
            let (_, other) = &signers[1];
            return Ok(Arc::new(ways::Unnamed(Arc::clone(other))));
        }
        signer.ok_or_else(|| TlsError::General("unknown".to_owned()))
    }
}

/// Returns the pairs of this process: two of P-256 and one of Ed25519.
fn pairs() -> &'static [Pair] {
    static PAIRS: OnceLock<Vec<Pair>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let ca = Authority::root("CA");
        let pairs: Vec<_> = [PrivateKey::p256(), PrivateKey::ed25519(), PrivateKey::p256()]
            .map(|identity| ca.issue(&Subject::server("localhost"), &identity))
            .into();
        let signers = pairs.iter().map(|pair| {
            let signer = ring::default_provider().key_provider.load_private_key(pair.key_der()).unwrap();
            (pair.key_der(), signer)
        });
        KEEPS.0.set(signers.chain(ways::signers()).collect()).unwrap();
        let mut all = windows(&pairs.iter().collect::<Vec<_>>());
        all.extend(forms::windows());
        search::search_for(all);
        overwrite_stack();
        pairs
    })
}

/// Overwrites the part of this thread's stack that the calls before have used. They left keys and
/// windows there, which a later structure would take into its padding, and with it into a block.
#[inline(never)]
fn overwrite_stack() {
    std::hint::black_box(&mut [0_u8; 1 << 20]);
}

/// Returns a key file damaged in every way that leaves some of the key in it.
fn damaged(key: &str) -> Vec<Vec<u8>> {
    let bytes = key.as_bytes();
    let mut variants: Vec<Vec<u8>> = Vec::new();
    for at in (0..bytes.len()).step_by(7) {
        variants.push(bytes[..at].to_vec());
        variants.push(bytes[at..].to_vec());
        for put in [b'*', b'\n', b'-', b'A', 0xff] {
            let mut variant = bytes.to_vec();
            variant[at] = put;
            variants.push(variant);
        }
    }
    variants.push([bytes, bytes].concat());
    for label in ["ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        variants.push(key.replace("PRIVATE KEY", label).into_bytes());
    }
    variants.push(key.replacen("\n", "\nProc-Type: 4,ENCRYPTED\n", 1).into_bytes());
    variants
}

fn serial(pair: &Pair) -> String {
    der::serial_hex(der::fields(&pair.leaf).unwrap().serial)
}

/// The builder of a server of the pair in `dir`, with short delays and optional client
/// certificates.
fn server_in(dir: &Path) -> ServerBuilder {
    let provider = CryptoProvider { key_provider: &KEEPS, ..ring::default_provider() };
    let short = Duration::from_millis(20);
    let timing =
        Timing { settle: short, shrink_settle: 2 * short, retry: short, poll: short, ..Timing::default() };
    ServerReloader::builder(dir.join("tls.crt"), dir.join("tls.key"))
        .client_ca(dir.join("ca.crt"), ClientAuth::Optional)
        .provider(Arc::new(provider))
        .timing(timing)
}

/// The key of a P-256 pair as a JDK writes it: without the public part, which the build adds from
/// the certificate.
fn without_public_part(pair: &Pair) -> String {
    let key = Zeroizing::new(pair.key_der());
    let der = key.secret_der();
    // RFC 5958: version and algorithm take 24 bytes. The secret number of 32 bytes follows the
    // version of RFC 5915.
    let (algorithm, number) = (&der[3..27], &der[36..68]);
    assert_eq!((&der[27..29], &der[34..36]), (&[4, 0x6d][..], &[4, 32][..]), "another form of PKCS #8");
    let half = [&[0x30, 0x41][..], algorithm, &[4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 32], number].concat();
    let half = Zeroizing::new(half);
    String::from_utf8(armor::encode("PRIVATE KEY", &[half.as_slice()])).unwrap()
}

/// Writes the chain and the key of a pair into a directory.
fn publish(dir: &Path, pair: &Pair) {
    fs::write(dir.join("tls.crt"), &pair.chain).unwrap();
    fs::write(dir.join("tls.key"), &pair.key).unwrap();
}

/// Checks: INV-10.
#[test]
fn inv10_no_freed_or_moved_block_holds_key_material() {
    let _alone = alone();
    let pairs = pairs();
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &pairs[0]);
    fs::write(dir.path().join("ca.crt"), Authority::root("client CA").pem).unwrap();
    let path = |name: &str| dir.path().join(name);
    let variants: Vec<_> = pairs.iter().flat_map(|pair| damaged(&pair.key)).collect();
    let both: Vec<String> = pairs.iter().map(|pair| pair.key.clone() + &pair.chain).collect();
    let ca = fs::read(path("ca.crt")).unwrap();
    let halves = [&pairs[0], &pairs[2]].map(without_public_part);
    let layers = Mutex::new(BTreeSet::new());
    let (before, mut reloads, mut refusals) = (search::counts().1, 0, 0);
    let (count, who) = found(|| {
        let reloader =
            server_in(dir.path()).on_event(|event| drop(format!("{event} {event:?}"))).load().unwrap();
        let mut reload = |what: &str| match reloader.reload_now() {
            Reload::Refused(error) => {
                refusals += 1;
                layers.lock().unwrap().insert(error.layer());
            }
            Reload::Reloaded => reloads += 1,
            Reload::Unchanged => {}
            other => panic!("{what}: {other:?}"),
        };
        // Valid sets, some with key and chain in one file.
        for i in 0..12 {
            publish(dir.path(), &pairs[i % 3]);
            if i % 4 == 3 {
                fs::write(path("tls.crt"), &both[i % 3]).unwrap();
            }
            reload("a good set");
        }
        // Keys that are completed from the certificate, and a key of another pair.
        for (pair, half) in [(0, 0), (2, 1), (0, 1)] {
            publish(dir.path(), &pairs[pair]);
            fs::write(path("tls.key"), &halves[half]).unwrap();
            reload("a key without its public part");
        }
        // Every damage; another pair's key; the key in the place of CAs or of the chain; too long a
        // file.
        for variant in &variants {
            fs::write(path("tls.key"), variant).unwrap();
            reload("a damaged key");
        }
        publish(dir.path(), &pairs[0]);
        fs::write(path("tls.key"), &pairs[2].key).unwrap();
        reload("another's key");
        publish(dir.path(), &pairs[1]);
        fs::write(path("ca.crt"), &both[1]).unwrap();
        reload("a key among the CAs");
        fs::write(path("ca.crt"), &ca).unwrap();
        fs::write(path("tls.crt"), &pairs[1].key).unwrap();
        reload("a key instead of a chain");
        fs::remove_file(path("tls.crt")).unwrap();
        reload("no chain");
        publish(dir.path(), &pairs[0]);
        reload("the end");
        // A worker drives the reloads: sets that become stable, and sets replaced before that.
        let mut events = reloader.events();
        reloader.start().unwrap();
        for i in 0..30 {
            publish(dir.path(), &pairs[i % 3]);
            let served = || reloader.current().value.leaf.serial == serial(&pairs[i % 3]);
            while i % 3 == 2 && !served() {
                events.next_within(Duration::from_secs(20)).expect("it is served in the end");
            }
        }
        reloader.stop().unwrap();
        drop((reloader, events));
        // A refused first load, a closure that panics, and an inspection.
        for variant in variants.iter().step_by(20) {
            fs::write(path("tls.key"), variant).unwrap();
            drop(server_in(dir.path()).load());
        }
        publish(dir.path(), &pairs[0]);
        let panics =
            server_in(dir.path()).configure(|_| std::panic::resume_unwind(Box::new("by design"))).load();
        layers.lock().unwrap().insert(panics.unwrap_err().layer());
        drop(format!("{:?}", server_in(dir.path()).inspect(Duration::ZERO)));
    });
    let searched = search::counts().1 - before;
    println!(
        "{searched} blocks searched over {reloads} reloads and {refusals} refusals by {:?}",
        layers.lock().unwrap()
    );
    assert_eq!(count, 0, "{}", who.join("\n\n"));
    assert!(searched > 50_000 && reloads >= 14 && refusals > variants.len() / 2);
    for layer in [Layer::Read, Layer::Pem, Layer::Key, Layer::Match, Layer::Panic] {
        assert!(layers.lock().unwrap().contains(&layer), "{layer} refused nothing");
    }
}

/// A certificate whose serial number is a byte shorter encodes the names of its algorithms at other
/// offsets of its lines.
#[test]
fn no_certificate_is_taken_for_a_key() {
    let _alone = alone();
    pairs();
    for name in 0..1_000 {
        let pem = Authority::root(&"x".repeat(name % 3)).pem;
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for text in [pem.as_bytes(), text.as_bytes()] {
            assert!(!holds_key(text), "{pem}");
        }
    }
}

/// Breaks: INV-10. Designs from the field: a buffer that grows while it is filled, one that is
/// wiped only as far as it is filled, a decoder that keeps its text, a copy for comparison, and the
/// material in a message.
#[test]
fn buffers_that_grow_or_are_left_as_they_are_are_found() {
    let _alone = alone();
    let pair = &pairs()[0];
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), pair);
    let path = dir.path().join("tls.key");
    let wrong: [(&str, &dyn Fn()); 6] = [
        ("grows", &|| {
            let mut bytes = Vec::with_capacity(64);
            pair.key.as_bytes().chunks(50).for_each(|chunk| bytes.extend_from_slice(chunk));
            bytes.zeroize();
        }),
        ("is dropped as it is", &|| drop(fs::read(&path).unwrap())),
        ("is wiped in part", &|| {
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(100);
            bytes.as_mut_slice().zeroize();
        }),
        ("is decoded elsewhere", &|| {
            let mut text = Secret::from(pair.key.as_bytes());
            let mut key = PrivateKeyDer::from_pem_slice(&text).unwrap();
            key.zeroize();
            text.bytes_mut().zeroize();
        }),
        ("is copied", &|| drop(pair.key_der())),
        ("is reported", &|| drop(format!("cannot parse {:?}", pair.key))),
    ];
    for (what, wrong) in wrong {
        let (count, _) = found(wrong);
        assert!(count > 0, "not found: a buffer that {what}");
    }
    // A correct design is not reported.
    let right = || {
        let mut bytes = Secret::zeroed(pair.key.len());
        fs::File::open(&path).unwrap().read_exact(bytes.bytes_mut()).unwrap();
        drop(bytes.clone());
    };
    assert_eq!(found(right), (0, Vec::new()));
}
