//! Every way out of a read, a parse and a build, taken by every kind and form of a key file.
//! Checks: INV-10. Engine: generated.
//!
//! Each form has a server and a thread of its own, and the files of that server go through all ways
//! one after another. The search covers all threads. Everything reported on the way, in an answer,
//! an event, a status or an inspection, is kept as text and searched as well.
//!
//! Every way is a method of one `Bench`, so they stay in one file.

use std::{
    cell::Cell,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::ring,
    pki_types::PrivateKeyDer,
    sign::{Signer, SigningKey},
};
use rustls_reload::{
    Event, Layer, Reload, Reloader, ServerBuilder, ServerTls, Timing,
    fs::{Fs, NativeFs, PathFs},
    internal::pem,
};
use rustls_reload_testkit::{Authority, InterceptFs, Verb, Windows};

use super::{
    forms::{Form, forms},
    pairs,
    search::{alone, counts, found, holds_key},
    server_in,
};

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

    /// Takes the ways on which reading ends early.
    fn reads(&mut self) {
        let Form { text, secret, .. } = self.form;
        let half = usize::midpoint(secret.start, secret.end);
        let classes = [0, 1, secret.start, half, secret.end, text.len() - 1, text.len()];
        for taken in classes {
            let failing: [(&str, Failure); 3] = [
                ("fails", || Err(io::Error::other("by design"))),
                ("is not permitted", || Err(io::ErrorKind::PermissionDenied.into())),
                ("ends", || Ok(0)),
            ];
            for (how, fails) in failing {
                let (what, whole) = (format!("a read that {how} after {taken} bytes"), taken == text.len());
                let hook = key_read(taken, fails);
                // A file that was read whole is not read again.
                if whole {
                    self.way(&what, Self::publish, hook);
                } else {
                    self.refused(Layer::Read, &what, Self::publish, hook);
                }
            }
            // The file shrinks, grows or is replaced after the bytes that were read.
            let key = self.path("tls.key");
            let changes: [(&str, Change); 3] = [
                (
                    "shrinks",
                    Box::new({
                        let key = key.clone();
                        move || File::options().write(true).open(&key).unwrap().set_len(taken as u64).unwrap()
                    }),
                ),
                (
                    "grows",
                    Box::new({
                        let (key, length) = (key.clone(), text.len() as u64);
                        move || File::options().write(true).open(&key).unwrap().set_len(length + 7).unwrap()
                    }),
                ),
                (
                    "is exchanged",
                    Box::new({
                        let (key, next) = (key.clone(), self.path("next"));
                        move || {
                            fs::write(&next, &pairs()[2].key).unwrap();
                            fs::rename(&next, &key).unwrap();
                        }
                    }),
                ),
            ];
            for (how, change) in changes {
                let hook = key_read(taken, move || {
                    change();
                    Ok(ALL)
                });
                self.way(&format!("a file that {how} after {taken} bytes"), Self::publish, hook);
            }
        }
        let long = |bench: &Self| {
            bench.publish();
            File::options().write(true).open(bench.path("tls.key")).unwrap().set_len(5 << 20).unwrap();
        };
        self.refused(Layer::Read, "a file over its limit", long, through());
    }

    /// Lets each call of the file system fail once, and changes the files before each call once.
    fn calls(&mut self) {
        let count = Arc::new(Mutex::new(0));
        let counting = Arc::clone(&count);
        let counts: Hook = Box::new(move |_| {
            *counting.lock().unwrap() += 1;
            Ok(ALL)
        });
        self.way("nothing is wrong", Self::publish, counts);
        let count = *count.lock().unwrap();
        assert!(count > 20, "{count} calls");
        for number in 0..count {
            let fails = at_call(number, |_| Err(io::Error::other("by design")));
            self.way(&format!("call {number} fails"), Self::publish, fails);
            let (key, next) = (self.path("tls.key"), self.path("next"));
            let changes = at_call(number, move |_| {
                fs::write(&next, &pairs()[2].key).unwrap();
                fs::rename(&next, &key).unwrap();
                Ok(ALL)
            });
            self.way(&format!("the key changes before call {number}"), Self::publish, changes);
        }
    }

    /// Takes ways with files of the set missing, damaged or exchanged.
    fn files(&mut self) {
        let Form { damaged, is_taken, .. } = self.form;
        let whole = self.way("nothing is wrong", Self::publish, through());
        assert_eq!(matches!(whole, Some(Reload::Reloaded)), *is_taken, "{}: {whole:?}", self.form.name);
        for name in ["tls.crt", "ca.crt", "ca.crl", "other.crt", "other.key"] {
            let away = self.path("away");
            let path = self.path(name);
            let missing = |bench: &Self| {
                bench.publish();
                fs::rename(&path, &away).unwrap();
            };
            self.ways += 1;
            missing(self);
            let answer = self.reloader.reload_now();
            self.note(format!("{answer:?}"));
            assert!(matches!(answer, Reload::Refused(_)), "{}: without {name}: {answer:?}", self.form.name);
            fs::rename(&away, &path).unwrap();
            let text = &self.form.text;
            if name.starts_with("ca") {
                let was = fs::read(&path).unwrap();
                self.put(name, text);
                let answer = self.reloader.reload_now();
                self.note(format!("{answer:?}"));
                assert!(matches!(answer, Reload::Refused(_)), "{}: as {name}: {answer:?}", self.form.name);
                self.put(name, was);
            } else {
                self.way(&format!("the key as {name}"), |bench| bench.put(name, text), through());
            }
        }
        for (what, text) in damaged {
            let put = |bench: &Self| {
                bench.publish();
                bench.put("tls.key", text);
            };
            self.way(what, put, through());
        }
        // The second pair has the key of another certificate.
        self.refused(
            if self.form.is_taken && !self.form.name.contains("without") {
                Layer::Match
            } else {
                self.foreign()
            },
            "the key of another pair",
            |bench| bench.put("other.key", &bench.form.text),
            through(),
        );
    }

    /// Returns the layer that refuses the key beside a certificate of another key.
    fn foreign(&self) -> Layer {
        if self.form.name.ends_with("DER") || self.form.name == "dsa-old" {
            Layer::Pem
        } else if self.form.is_taken {
            Layer::Match
        } else {
            Layer::Key
        }
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

    /// Stops while the key is being read, from the reading thread and from another one.
    fn stops(self) -> (usize, usize, Vec<String>) {
        let Self { reloader, hook, reported, ways, refused, .. } = &self;
        self.publish();
        let stops = Arc::clone(reloader);
        *hook.lock().unwrap() = key_read(self.form.secret.end, move || {
            stops.stop().unwrap();
            Ok(ALL)
        });
        let answer = reloader.reload_now();
        assert!(matches!(answer, Reload::Stopped), "{}: {answer:?}", self.form.name);
        assert!(matches!(reloader.reload_now(), Reload::Stopped), "after a stop");
        // The driver's thread is held in a read until the stop has begun.
        let ((inside, is_inside), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        *hook.lock().unwrap() = key_read(self.form.secret.end, move || {
            inside.send(()).unwrap();
            let _ = released.recv();
            Ok(ALL)
        });
        reloader.start().unwrap();
        is_inside.recv_timeout(Duration::from_secs(20)).unwrap();
        let stopping = std::thread::spawn({
            let reloader = Arc::clone(reloader);
            move || reloader.stop()
        });
        assert!(matches!(reloader.reload_now(), Reload::Stopped), "during a stop");
        release.send(()).unwrap();
        stopping.join().unwrap().unwrap();
        *hook.lock().unwrap() = through();
        // The driver serves the form, and the reloader is dropped meanwhile.
        let mut events = reloader.events();
        reloader.start().unwrap();
        while !matches!(&*events.next_within(Duration::from_secs(20)).unwrap().event, Event::Started { .. }) {
        }
        let base = super::serial(&pairs()[0]);
        while self.form.is_taken && reloader.current().value.leaf.serial == base {
            reloader.reload_now();
        }
        let reported = std::mem::take(&mut *reported.lock().unwrap_or_else(PoisonError::into_inner));
        (ways + 4, *refused, reported)
    }
}

/// Returns a hook that lets the key be read up to `taken` bytes, and then calls `then` once.
fn key_read(taken: usize, mut then: impl FnMut() -> io::Result<usize> + Send + 'static) -> Hook {
    let mut reads = 0;
    Box::new(move |verb| {
        // The chain is read before the key. Each file takes one call unless the hook shortens it.
        reads += usize::from(verb == Verb::Read);
        match reads {
            2 if verb == Verb::Read && taken > 0 => Ok(taken),
            2 if verb == Verb::Read => {
                reads += 1;
                then()
            }
            3 if verb == Verb::Read => then(),
            _ => Ok(ALL),
        }
    })
}

/// Returns a hook that calls `then` at the call of this number.
fn at_call(number: usize, mut then: impl FnMut(Verb) -> io::Result<usize> + Send + 'static) -> Hook {
    let mut calls = 0;
    Box::new(move |verb| {
        calls += 1;
        if calls == number + 1 { then(verb) } else { Ok(ALL) }
    })
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
