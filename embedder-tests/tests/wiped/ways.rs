//! Every way out of a read, a parse and a build, taken by every kind and form of a key file.
//! Checks: INV-10. Engine: generated.
//!
//! Each form has a server and a thread of its own, and the files of that server go through all ways
//! one after another. The search covers all threads. Everything reported on the way, in an answer,
//! an event, a status or an inspection, is kept as text and searched as well.

#[path = "ways/files.rs"]
mod files;
#[path = "ways/reads.rs"]
mod reads;
#[path = "ways/stops.rs"]
mod stops;

use std::{
    cell::Cell,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{
    forms::{Form, forms},
    pairs,
    search::{alone, counts, found, holds_key},
    server_in,
};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::ring,
    pki_types::PrivateKeyDer,
    sign::{Signer, SigningKey},
};
use rustls_reload::{
    Layer, Reload, Reloader, ServerBuilder, ServerTls, Timing,
    fs::{Fs, NativeFs, PathFs},
    internal::pem,
};
use rustls_reload_testkit::{Authority, InterceptFs, Verb, Windows};

thread_local! {
    /// Set while the provider refuses every key on this thread.
    pub(crate) static REFUSES: Cell<bool> = const { Cell::new(false) };
    /// Set while the provider returns the signer of another key on this thread, without the key's
    /// name.
    pub(crate) static EXCHANGES: Cell<bool> = const { Cell::new(false) };
}

/// Returns the signers of all forms, for the provider.
pub(crate) fn signers() -> impl Iterator<Item = (PrivateKeyDer<'static>, Arc<dyn SigningKey>)> {
    let taken = forms().iter().filter_map(|form| form.key.as_ref());
    taken.map(|key| {
        let signer = ring::default_provider().key_provider.load_private_key(key.clone_key()).unwrap();
        (key.clone_key(), signer)
    })
}

/// A key that signs but does not return its public key, so that only the rehearsal notices a wrong
/// key.
#[derive(Debug)]
pub(crate) struct Unnamed(pub(crate) Arc<dyn SigningKey>);

impl SigningKey for Unnamed {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

/// Faults other than those of the files.
const NOTHING: u8 = 0;
const BUILD_PANICS: u8 = 1;
const OBSERVER_PANICS: u8 = 2;
const PUBLICATION_PANICS: u8 = 3;

type Hook = Box<dyn FnMut(Verb) -> io::Result<usize> + Send>;
type Failure = fn() -> io::Result<usize>;
type Change = Box<dyn Fn() + Send>;

/// A server whose file system calls a replaceable hook before each operation.
struct Bench<'f> {
    form: &'f Form,
    dir: tempfile::TempDir,
    reloader: Arc<Reloader<ServerTls>>,
    hook: Arc<Mutex<Hook>>,
    fault: Arc<AtomicU8>,
    /// Everything that was reported.
    reported: Arc<Mutex<Vec<String>>>,
    ways: usize,
    refused: usize,
}

/// Allows a call to return any number of bytes.
const ALL: usize = usize::MAX;

fn through() -> Hook {
    Box::new(|_| Ok(ALL))
}

/// Returns the builder of a server of the files in `dir`, with a second pair and a CRL.
fn builder(
    dir: &std::path::Path,
    fault: &Arc<AtomicU8>,
    reported: &Arc<Mutex<Vec<String>>>,
) -> ServerBuilder {
    let short = Duration::from_millis(1);
    let timing = Timing {
        settle: short,
        shrink_settle: short,
        tie_recheck: short,
        retry: short,
        min_interval: short,
        poll: Duration::from_secs(3600),
        still_changing_after: Duration::from_millis(60),
        ..Timing::default()
    };
    let (configures, observes, publishes) = (Arc::clone(fault), Arc::clone(fault), Arc::clone(fault));
    let reported = Arc::clone(reported);
    let panics = |fault: &AtomicU8, when| {
        if fault.load(Ordering::Relaxed) == when {
            resume_unwind(Box::new("by design"));
        }
    };
    server_in(dir)
        .timing(timing)
        .crl(dir.join("ca.crl"))
        .pair_for(["other.test"], dir.join("other.crt"), dir.join("other.key"))
        .configure(move |_| panics(&configures, BUILD_PANICS))
        .on_event(move |event| {
            reported.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{event} {event:?}"));
            panics(&observes, OBSERVER_PANICS);
        })
        .on_publish(move |_| panics(&publishes, PUBLICATION_PANICS))
}

impl<'f> Bench<'f> {
    fn new<F: Fs>(form: &'f Form, fs: F, authority: &Authority) -> Self
    where
        F::Dir: Send,
        F::File: Send,
    {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let hook = Arc::new(Mutex::new(through()));
        let (fault, reported) = (Arc::new(AtomicU8::new(NOTHING)), Arc::default());
        let now = SystemTime::now();
        let window = (now - Duration::from_secs(60), now + Duration::from_secs(86_400));
        fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
        fs::write(dir.path().join("ca.crl"), authority.crl(&[], window, 1).pem).unwrap();
        fs::write(dir.path().join("other.crt"), &pairs()[1].chain).unwrap();
        fs::write(dir.path().join("other.key"), &pairs()[1].key).unwrap();
        super::publish(dir.path(), &pairs()[0]);
        let asked = Arc::clone(&hook);
        let hooked = InterceptFs::new(
            fs,
            Arc::new(move |verb| (asked.lock().unwrap_or_else(PoisonError::into_inner))(verb)),
        );
        let reloader = builder(dir.path(), &fault, &reported).load_from(hooked);
        let reloader = Arc::new(reloader.unwrap());
        Self { form, dir, reloader, hook, fault, reported, ways: 0, refused: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Writes the chain and the key of the form.
    fn publish(&self) {
        self.put("tls.crt", &self.form.chain);
        self.put("tls.key", &self.form.text);
    }

    /// Takes one way: writes these files, sets this hook, and reloads once manually. Then restores
    /// everything.
    fn way(&mut self, what: &str, files: impl FnOnce(&Self), hook: Hook) -> Option<Reload> {
        self.ways += 1;
        files(self);
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
        let answer = catch_unwind(AssertUnwindSafe(|| self.reloader.reload_now())).ok();
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = through();
        self.fault.store(NOTHING, Ordering::Relaxed);
        REFUSES.set(false);
        EXCHANGES.set(false);
        self.refused += usize::from(matches!(answer, Some(Reload::Refused(_))));
        self.note(format!("{what}: {answer:?} {:?}", self.reloader));
        if let Some(Reload::Refused(error)) = &answer {
            self.note(error.to_string());
        }
        for (name, bytes) in
            [("other.crt", pairs()[1].chain.as_bytes()), ("other.key", pairs()[1].key.as_bytes())]
        {
            if fs::metadata(self.path(name)).map_or(0, |found| found.len()) != bytes.len() as u64 {
                self.put(name, bytes);
            }
        }
        super::publish(self.dir.path(), &pairs()[0]);
        let again = self.reloader.reload_now();
        assert!(
            matches!(again, Reload::Reloaded | Reload::Unchanged),
            "{}: {what}: {again:?}",
            self.form.name
        );
        answer
    }

    fn note(&self, text: String) {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Takes one way that this layer has to refuse.
    fn refused(&mut self, layer: Layer, what: &str, files: impl FnOnce(&Self), hook: Hook) {
        let answer = self.way(what, files, hook);
        let Some(Reload::Refused(error)) = &answer else { panic!("{}: {what}: {answer:?}", self.form.name) };
        assert_eq!(error.layer(), layer, "{}: {what}: {error}", self.form.name);
    }

    /// Takes the ways on which a whole key is refused or an observer panics.
    fn builds(&mut self) {
        if !self.form.is_taken {
            return;
        }
        let panics = |bench: &Self| {
            bench.publish();
            bench.fault.store(BUILD_PANICS, Ordering::Relaxed);
        };
        self.refused(Layer::Panic, "the build panics", panics, through());
        let exchanges = |bench: &Self| {
            bench.publish();
            EXCHANGES.set(true);
        };
        self.refused(Layer::Rehearsal, "the rehearsal fails", exchanges, through());
        let refuses = |bench: &Self| {
            bench.publish();
            REFUSES.set(true);
        };
        let layer = if self.form.name.contains("without") { Layer::Match } else { Layer::Key };
        self.refused(layer, "the provider refuses", refuses, through());
        for (what, fault) in
            [("an observer panics", OBSERVER_PANICS), ("another observer panics", PUBLICATION_PANICS)]
        {
            let files = |bench: &Self| {
                bench.publish();
                bench.fault.store(fault, Ordering::Relaxed);
            };
            self.way(what, files, through());
        }
    }

    /// Takes first loads that are refused, and inspections.
    fn loads(&mut self) {
        let load = |bench: &mut Self, what: &str| {
            bench.ways += 1;
            let loaded = builder(bench.dir.path(), &bench.fault, &bench.reported).load();
            bench.note(format!("{what}: {loaded:?}"));
            let found = builder(bench.dir.path(), &bench.fault, &bench.reported)
                .inspect(Duration::from_secs(1 << 30));
            bench.note(format!("{found:?}"));
            let refused = found.refused.iter().map(ToString::to_string);
            for reported in found.warnings.iter().map(ToString::to_string).chain(refused) {
                bench.note(reported);
            }
            bench.fault.store(NOTHING, Ordering::Relaxed);
            REFUSES.set(false);
            EXCHANGES.set(false);
        };
        self.publish();
        load(self, "nothing is wrong");
        self.fault.store(BUILD_PANICS, Ordering::Relaxed);
        load(self, "the first build panics");
        EXCHANGES.set(true);
        load(self, "the first rehearsal fails");
        REFUSES.set(true);
        load(self, "the provider refuses the first");
        for (what, text) in self.form.damaged.iter().step_by(12) {
            self.put("tls.key", text);
            load(self, what);
        }
        fs::remove_file(self.path("tls.crt")).unwrap();
        load(self, "no chain");
        super::publish(self.dir.path(), &pairs()[0]);
    }
}

/// Takes all ways with this form. Returns the number of ways, the number of refusals, and
/// everything reported.
fn all_ways(form: &Form, authority: &Authority) -> (usize, usize, Vec<String>) {
    let mut parsed = 0;
    let mut texts: Vec<String> = Vec::new();
    for text in form.damaged.iter().map(|(_, text)| text).chain([&form.text]) {
        parsed += 4;
        texts.push(format!("{:?}", pem::key(text)));
        texts.push(format!("{:?}", pem::chain(text).map(drop)));
        texts.push(format!("{:?}", pem::ca_bundle(text).map(drop)));
        texts.push(format!("{:?}", pem::crls(text).map(drop)));
    }
    let mut bench = Bench::new(form, NativeFs::default(), authority);
    bench.files();
    bench.builds();
    if form.is_taken || form.name.ends_with("DER") {
        bench.reads();
        bench.loads();
    }
    if matches!(form.name.as_str(), "P-256, PKCS #8" | "RSA, PKCS #8") {
        bench.calls();
    }
    let (ways, refused, reported) = bench.stops();
    texts.extend(reported);
    let mut counts = (parsed + ways, refused);
    if form.name == "P-256, PKCS #8" {
        // The port without directory handles has read code of its own.
        let mut bench = Bench::new(form, PathFs, authority);
        bench.reads();
        bench.calls();
        let (ways, refused, reported) = bench.stops();
        texts.extend(reported);
        counts = (counts.0 + ways, counts.1 + refused);
    }
    (counts.0, counts.1, texts)
}

#[test]
fn inv10_no_way_out_frees_a_block_with_key_material() {
    let _alone = alone();
    pairs();
    let authority = Authority::root("client CA");
    let before = counts().1;
    let mut outcomes = Vec::new();
    let (count, who) = found(|| {
        outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = forms()
                .iter()
                .map(|form| {
                    let named = std::thread::Builder::new().name(form.name.clone());
                    named.spawn_scoped(scope, || all_ways(form, &authority)).unwrap()
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|why| resume_unwind(why))).collect()
        });
    });
    let (windows, searched) = counts();
    let (ways, refused) = outcomes.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "{} forms, {ways} ways, {refused} refusals, {} blocks searched for {windows} windows",
        forms().len(),
        searched - before
    );
    assert_eq!(count, 0, "{}", who.join("\n\n"));
    for (form, (.., texts)) in forms().iter().zip(&outcomes) {
        // The public bytes of other forms are not known.
        let key = form.key.as_ref().filter(|_| form.name.ends_with("PKCS #8"));
        let printed = key.map(|key| Windows::of(key, std::str::from_utf8(&form.text).unwrap()));
        for text in texts {
            assert!(!holds_key(text.as_bytes()), "{}: {text}", form.name);
            let leaks = printed.as_ref().is_some_and(|windows| windows.occur_in(text.as_bytes()));
            assert!(!leaks, "{}: {text}", form.name);
        }
    }
    assert!(forms().len() >= 33 && ways > 5_000 && refused > 1_500 && windows > 10_000);
}
