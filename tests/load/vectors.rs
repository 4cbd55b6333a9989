//! Files that are wrong in some way, each as the next update of a running server. A refused file is
//! refused by the expected layer with the expected file, the served object stays, and a valid
//! update afterwards is served. Files that are in fact acceptable are listed as served, so that a
//! stricter check is noticed.
//!
//! The recipes are applied to sets that are made by the test, so that nothing expires. Only the
//! keys are stored, in `keys`, made once by `openssl genpkey` and `ssh-keygen`.
//!
//! Checks: INV-02, INV-03, INV-05, INV-10, INV-11

use std::{collections::BTreeMap, fmt::Debug, io::Write, path::Path, sync::Arc, time::Instant};

use rustls_reload::{
    Build, ClientAuth, Event, Events, Layer, Reload, Reloader, ServerTls, Timing,
    internal::{self, ServerBuild, pem},
};
use rustls_reload_testkit::Windows;

mod asn1;
mod cas;
mod chains;
mod dates;
mod disk;
mod keys;
mod lenient;
mod messages;
mod mistaken_keys;
mod mistakes;
mod set;
mod text;

use crate::common::{DEADLINE, Volume, by_events_only, drain, presented_by, server_in, started};
use set::{CA, CRT, Set};

/// The expected result of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// This layer refuses it, and the error names this file.
    Refused(Layer, &'static str),
    /// The update is served.
    Served,
    /// The update is valid and deferred to its date.
    Held,
}

/// Makes the files of an update from a valid set.
type Make = Box<dyn Fn(&Set) -> Vec<(&'static str, Vec<u8>)> + Sync>;

/// The way in which a vector gets into the next update.
pub(crate) enum Put {
    /// These files replace the valid ones of the set.
    Files(Make),
    /// This function changes the new directory before it is moved into place.
    Dir(Box<dyn Fn(&Path) + Sync>),
    /// This function changes the volume in place of an update.
    Volume(Box<dyn Fn(&Path) + Sync>),
}

/// An update that is wrong, or seems wrong.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) put: Put,
    pub(crate) expect: Expect,
}

impl Vector {
    /// Makes a vector that replaces one file of the set.
    pub(crate) fn file(
        file: &'static str,
        what: &str,
        expect: Expect,
        make: impl Fn(&Set) -> Vec<u8> + Sync + 'static,
    ) -> Self {
        Self::files(&format!("{file}: {what}"), expect, move |set| vec![(file, make(set))])
    }

    pub(crate) fn files(
        name: &str,
        expect: Expect,
        make: impl Fn(&Set) -> Vec<(&'static str, Vec<u8>)> + Sync + 'static,
    ) -> Self {
        Self { name: name.to_owned(), put: Put::Files(Box::new(make)), expect }
    }
}

/// Returns all vectors.
fn vectors() -> Vec<Vector> {
    let mut all = text::vectors();
    all.extend(chains::vectors());
    all.extend(dates::vectors());
    all.extend(keys::vectors());
    all.extend(cas::vectors());
    all.extend(disk::vectors());
    all
}

/// The way in which a server notices an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    ByEvents,
    ByHand,
}

/// A running server, and the sets that are published to it in turn.
struct Server {
    volume: Volume,
    reloader: Reloader<ServerTls>,
    events: Events<ServerTls>,
    trigger: Trigger,
    /// The first set is served, the second is the next one.
    sets: [Set; 2],
    secrets: Vec<Windows>,
}

impl Server {
    /// Loads and starts a server whose build step is wrapped by `around`.
    fn run<B: Build<Value = ServerTls>>(trigger: Trigger, around: impl FnOnce(ServerBuild) -> B) -> Self {
        let sets = [Set::new(0), Set::new(1)];
        let volume = Volume::in_memory(&sets[0].files());
        let server = server_in(&volume.dir())
            .client_ca(volume.path(CA), ClientAuth::Required)
            .provider(Arc::new(rustls::crypto::ring::default_provider()));
        let server = match trigger {
            Trigger::ByEvents => server.timing(by_events_only()),
            // Only a manual reload takes snapshots.
            Trigger::ByHand => {
                server.timing(Timing { retry: by_events_only().poll, ..by_events_only() }).watcher(None)
            }
        };
        let reloader = internal::around(internal::generic(server).unwrap(), around).load().unwrap();
        let mut events = reloader.events();
        reloader.start().unwrap();
        started(&mut events);
        drain(&mut events);
        let secrets = sets.iter().map(|set| Windows::of(&set.key_der(), &set.key)).collect();
        Self { volume, reloader, events, trigger, sets, secrets }
    }

    /// Applies a vector, and then a valid set.
    fn apply(&mut self, vector: &Vector) -> Result<(), String> {
        let before = self.reloader.current();
        let wanted = self.put(vector);
        let (came, reported) = self.outcome()?;
        let after = self.reloader.current();
        let same = Arc::ptr_eq(&before, &after);
        let presented = presented_by(&after.value.config);
        let status = self.reloader.status();
        let kept = |what: &str| {
            check(same, || format!("{what}, and something else is served"))?;
            check(presented == pem::chain(self.sets[0].chain.as_bytes()).unwrap(), || {
                format!("{what}, and a handshake gets another chain")
            })
        };
        match (vector.expect, &came) {
            (Expect::Refused(layer, file), Reload::Refused(error)) => {
                kept("refused")?;
                let blamed = self.volume.path(file);
                check(error.layer() == layer && error.path() == Some(&blamed), || {
                    format!("{layer} should have refused {file}, but {error}")
                })?;
                check(status.refused.map(|refused| refused.error).as_ref() == Some(error), || {
                    format!("the status does not report {error}")
                })?;
            }
            (Expect::Held, Reload::Deferred(_)) => {
                kept("held")?;
                check(status.deferred_until.is_some() && status.refused.is_none(), || format!("{status:?}"))?;
            }
            (Expect::Served, Reload::Reloaded) => {
                let text = wanted.ok_or("served, though nothing was put there")?;
                check(!same && Ok(&presented) == pem::chain(&text).as_ref(), || {
                    "taken up, and a handshake does not get it".to_owned()
                })?;
            }
            (expect, came) => return Err(format!("{expect:?} was expected, and {came:?} came")),
        }
        let outcomes = reported.iter().filter(|event| came_of(event).is_some()).count();
        check(outcomes == 1, || format!("reported {reported:?}"))?;
        let reported = format!("{reported:?} {:?} {came:?}", self.reloader.status());
        check(!self.secrets.iter().any(|windows| windows.occur_in(reported.as_bytes())), || {
            format!("a part of the key is reported: {reported}")
        })?;
        self.recover(came == Reload::Reloaded)
    }

    /// Publishes the next set with the vector in it. Returns the chain to be served if the vector
    /// is valid.
    fn put(&mut self, vector: &Vector) -> Option<Vec<u8>> {
        let next = &self.sets[1];
        let mut files: BTreeMap<_, _> =
            next.files().map(|(name, bytes)| (name, bytes.to_vec())).into_iter().collect();
        if let Put::Files(make) = &vector.put {
            files.extend(make(next));
        }
        let keyed: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        match &vector.put {
            Put::Files(_) => drop(self.volume.publish(&keyed)),
            Put::Dir(invalidate) => drop(self.volume.publish_invalid(&keyed, |dir| invalidate(dir))),
            Put::Volume(invalidate) => {
                invalidate(&self.volume.dir());
                return None;
            }
        }
        files.remove(CRT)
    }

    /// Publishes a valid set: the next one, or the first again if the next was changed and served.
    fn recover(&mut self, invalid: bool) -> Result<(), String> {
        let before = self.reloader.current();
        if !invalid {
            self.sets.swap(0, 1);
        }
        let Self { volume, sets, .. } = self;
        volume.publish(&sets[0].files());
        let (came, _) = self.outcome()?;
        let after = self.reloader.current();
        let good = pem::chain(self.sets[0].chain.as_bytes()).unwrap();
        check(came == Reload::Reloaded && !Arc::ptr_eq(&before, &after), || {
            format!("the good set is not taken up: {came:?}")
        })?;
        check(presented_by(&after.value.config) == good, || "another chain than the good one".to_owned())?;
        let status = self.reloader.status();
        check(status.refused.is_none() && status.deferred_until.is_none(), || format!("{status:?}"))
    }

    /// Returns the result for the files on disk, and the events.
    fn outcome(&mut self) -> Result<(Reload, Vec<Arc<Event>>), String> {
        let by_hand = (self.trigger == Trigger::ByHand).then(|| self.reloader.reload_now());
        let deadline = Instant::now() + DEADLINE;
        let mut reported = drain(&mut self.events);
        loop {
            let cause = reported.iter().find_map(|event| came_of(event));
            match (&by_hand, cause) {
                // The driver may have taken a snapshot just before the reload. Its event then has
                // the result.
                (Some(Reload::Unchanged) | None, Some(came)) => return Ok((came, reported)),
                (Some(came), _) => return Ok((came.clone(), reported)),
                (None, None) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let next =
                self.events.next_within(left).ok_or_else(|| format!("nothing came of it: {reported:?}"))?;
            reported.push(next.event);
            reported.extend(drain(&mut self.events));
        }
    }
}

/// Returns the answer to a manual reload that would cause this event.
fn came_of(event: &Event) -> Option<Reload> {
    match event {
        Event::Published { .. } => Some(Reload::Reloaded),
        Event::Refused { error, .. } => Some(Reload::Refused(error.clone())),
        Event::Deferred { not_before, .. } => Some(Reload::Deferred(*not_before)),
        _ => None,
    }
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Number of servers that run at the same time. They mostly wait for settling.
const SERVERS: usize = 8;

/// Applies the vectors that `picks` selects, in turn to servers that notice them by events and to
/// servers that are reloaded manually. Returns their number, and the failures.
fn apply<B: Build<Value = ServerTls>>(
    picks: impl Fn(&Vector) -> bool,
    around: impl Fn(ServerBuild) -> B + Sync,
) -> (usize, Vec<String>) {
    let vectors: Vec<_> = vectors().into_iter().filter(picks).collect();
    let (vectors, around) = (&vectors, &around);
    let share = |number: usize| {
        let trigger = if number.is_multiple_of(2) { Trigger::ByEvents } else { Trigger::ByHand };
        let mut server = Server::run(trigger, around);
        let mut failed = Vec::new();
        for vector in vectors.iter().skip(number).step_by(SERVERS) {
            if let Err(why) = server.apply(vector) {
                failed.push(format!("{} ({trigger:?}): {why}", vector.name));
                server = Server::run(trigger, around);
            }
        }
        failed
    };
    std::thread::scope(|scope| {
        let share = &share;
        let servers: Vec<_> =
            (0..SERVERS.min(vectors.len())).map(|number| scope.spawn(move || share(number))).collect();
        (vectors.len(), servers.into_iter().flat_map(|server| server.join().unwrap()).collect())
    })
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Checks: INV-02, INV-03, INV-05, INV-11.
#[test]
fn each_bad_file_is_rejected_by_its_layer_and_the_next_good_served() {
    let begin = Instant::now();
    let mut counts = BTreeMap::new();
    for vector in vectors() {
        let by = match vector.expect {
            Expect::Refused(layer, _) => format!("refused by {layer}"),
            other => format!("{other:?}").to_lowercase(),
        };
        *counts.entry(by).or_insert(0) += 1;
    }
    let total: usize = counts.values().sum();
    let (_, failed) = apply(|_| true, |build| build);
    say(&format!("vectors: {total}: {counts:?}, in {:.1} s", begin.elapsed().as_secs_f64()));
    assert!(failed.is_empty(), "{} of {total}: {failed:#?}", failed.len());
    assert!(total >= 120, "{total} vectors");
}
