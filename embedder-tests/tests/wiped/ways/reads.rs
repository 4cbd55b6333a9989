//! Ways on which a read ends early, a file changes during it, or a call of the file system fails.

use std::{
    fs::{self, File},
    io,
    sync::{Arc, Mutex},
};

use super::{ALL, Bench, Change, Failure, Hook, through};
use crate::{forms::Form, pairs};
use rustls_reload::Layer;
use rustls_reload_testkit::Verb;

impl Bench<'_> {
    /// Takes the ways on which reading ends early.
    pub(super) fn reads(&mut self) {
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
    pub(super) fn calls(&mut self) {
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
}

/// Returns a hook that lets the key be read up to `taken` bytes, and then calls `then` once.
pub(super) fn key_read(taken: usize, mut then: impl FnMut() -> io::Result<usize> + Send + 'static) -> Hook {
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
