//! Calls of the public interface. Each is recorded at its begin and its end, and checked by itself
//! where that is possible.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use rustls_reload::Reloader;

use super::{
    history::{Outcome, Record},
    plan::{Content, Kind},
    world::{Subscriber, Task, Value, World, calling, drives, flag, lock, poll},
};

/// A wait of which no check depends on the length.
const SHORT: Duration = Duration::from_micros(200);

pub fn call(world: &Arc<World>, reloader: usize, kind: Kind) {
    let site = &world.sites[reloader];
    let Some(owned) = site.owned() else { return };
    match kind {
        Kind::Start => noted(world, reloader, kind, |_| Outcome::Start(owned.start())),
        Kind::Stop => noted(world, reloader, kind, |_| Outcome::Stop(owned.stop())),
        Kind::Drop => drop(lock(&site.reloader).take()),
        _ => noted(world, reloader, kind, |call| by_handle(world, reloader, kind, &owned, call)),
    }
    // The caller that gives up the last reference drops the reloader.
    if let Some(last) = Arc::into_inner(owned) {
        noted(world, reloader, Kind::Drop, |_| {
            drop(last);
            Outcome::Done
        });
    }
}

fn noted(world: &Arc<World>, reloader: usize, kind: Kind, act: impl FnOnce(usize) -> Outcome) {
    let call = world.calls.fetch_add(1, Ordering::SeqCst);
    let (driver, phase) = (drives(reloader), world.sites[reloader].phase());
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    lock(&world.going_on).push((call, format!("{name}: {kind:?} of {reloader}, begun in {phase:?}")));
    let going_on = GoingOn(world, call);
    world.history.note(Record::Began { call, reloader, kind, driver, phase });
    // Read between the two records, as everything that the call does.
    let before = world.sites[reloader].status().generation;
    if let Some(caller) = caller_here(world, &name) {
        caller(world, true);
    }
    let outcome = {
        let _frame = calling(reloader, kind == Kind::Reload);
        act(call)
    };
    if let Some(caller) = caller_here(world, &name) {
        caller(world, false);
    }
    drop(going_on);
    let generations = [before, world.sites[reloader].status().generation];
    world.history.note(Record::Ended { call, outcome, generations });
}

/// Returns the function by which the thread that calls while a driver is held records its progress.
fn caller_here(world: &World, name: &str) -> Option<fn(&World, bool)> {
    let calls = name == "caller" && lock(&world.hold).caller.is_some();
    calls.then_some(|world, begins| {
        if let Some(caller) = &mut lock(&world.hold).caller {
            caller.is_calling = begins;
            caller.left = caller.left.saturating_sub(usize::from(!begins));
        }
    })
}

struct GoingOn<'a>(&'a World, usize);

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        lock(&self.0.going_on).retain(|(call, _)| *call != self.1);
    }
}

fn by_handle(
    world: &Arc<World>,
    reloader: usize,
    kind: Kind,
    handle: &Reloader<Value>,
    call: usize,
) -> Outcome {
    let site = &world.sites[reloader];
    let violation = |what: String| world.violation(format!("call {call}, {kind:?} of {reloader}: {what}"));
    let before = handle.current().generation;
    match kind {
        Kind::Reload => return Outcome::Reload(handle.clone().reload_now()),
        Kind::Status => {
            let status = handle.status();
            let after = handle.current().generation;
            if !(before <= status.generation && status.generation <= after) {
                violation(format!("status says {}, and {before}, then {after} is served", status.generation));
            }
            if status.sets[0].generation != status.generation
                || status.trust_reduced > Some(status.generation)
            {
                violation(format!("the status contradicts itself: {status:?}"));
            }
            if status.stalled_since.is_some() {
                violation("stalled within seconds, of a poll of an hour".to_owned());
            }
        }
        Kind::Events => {
            let mut subscribers = lock(&site.subscribers);
            subscribers.iter_mut().for_each(|subscriber| _ = subscriber.read());
            subscribers.push(Subscriber { events: handle.events(), reported: Vec::new() });
        }
        Kind::Current => {
            let [one, other] = [handle.current().generation, handle.with_current(|value| value.generation)];
            if one < before || other < one {
                violation(format!("generations {before}, {one}, {other} in this order"));
            }
        }
        Kind::Wait => {
            let from = before.saturating_sub(u64::try_from(call % 2).unwrap());
            match handle.wait_published(from, SHORT) {
                Some(published) if published.generation <= from => {
                    violation(format!("waited for more than {from}, got {}", published.generation));
                }
                None if before > from => violation(format!("{before} is served, and not {from}")),
                _ => {}
            }
        }
        Kind::Published | Kind::Shrunk => {
            let task = lock(&site.tasks).pop().filter(|_| call.is_multiple_of(2));
            let task = task.unwrap_or_else(|| waits(world, reloader, handle, kind == Kind::Shrunk));
            let (from, shrunk) = (task.generation, task.shrunk);
            match poll(world, reloader, call, task) {
                Poll::Ready(generation) if generation <= from => {
                    violation(format!("a future of what comes after {from} is ready with {generation}"));
                }
                Poll::Ready(_) if shrunk && !handle.trust_reduced_since(from) => {
                    violation(format!("ready, and nothing shrank after {from}"));
                }
                Poll::Pending if !shrunk && before > from => {
                    violation(format!("{before} is served, and what comes after {from} is pending"));
                }
                _ => {}
            }
        }
        Kind::Forget => {
            // Dropped outside of the locks, because their drops may call anything.
            let tasks = std::mem::take(&mut *lock(&site.tasks));
            drop(tasks);
            lock(&site.subscribers).truncate(1);
        }
        Kind::Write(content, in_place) => write(world, reloader, content, in_place),
        Kind::Start | Kind::Stop | Kind::Drop => {}
    }
    Outcome::Done
}

/// Returns a future of the next publication, or reduction of trust, after the present generation.
fn waits(world: &Arc<World>, reloader: usize, handle: &Reloader<Value>, shrunk: bool) -> Task {
    let generation = handle.current().generation;
    let (later, loss) = (handle.published(generation), handle.trust_reduced(generation));
    let future: super::world::Waited =
        if shrunk { Box::pin(loss) } else { Box::pin(async move { later.await.generation }) };
    Task { future, shrunk, generation, flag: flag(world, reloader), wakes: 0, call: 0 }
}

/// Writes both files in two steps, and gives way in between.
pub fn write(world: &Arc<World>, reloader: usize, content: Content, in_place: bool) {
    let site = &world.sites[reloader];
    let number = site.numbers.fetch_add(1, Ordering::SeqCst) + 1;
    let text = match content {
        Content::Good | Content::Half => format!("good {number}"),
        Content::Bad => format!("bad {number}"),
        Content::Shrinks => format!("shrinks {number}"),
        Content::Later => format!("later {number}"),
    };
    site.disk.write(0, &text, in_place);
    if content != Content::Half {
        std::thread::yield_now();
        site.disk.write(1, &text, in_place);
    }
}
