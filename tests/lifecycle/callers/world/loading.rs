//! The load of a reloader, with its clock and its build step, which call the embedder's code.

use std::{sync::Arc, thread, time::Duration};

use super::{Subscriber, Value, World, lock};
use crate::callers::{
    disk::{self, NAMES, Port},
    history::{Phase, Record, Verdict},
    plan::Hook,
};
use rustls_reload::{
    Build, Builder, Built, Clock, Context, Error, Event, Files, Layer, Now, SystemClock, Timing,
    TrustReduction,
};

/// Loads a reloader with callbacks, a build, files, a watcher and a clock of this world.
pub(super) fn load(world: &Arc<World>, reloader: usize) {
    // Files settle at once, and every snapshot has a cause that the schedule knows.
    let (none, never) = (Duration::ZERO, Duration::from_secs(3600));
    let timing = Timing {
        settle: none,
        shrink_settle: none,
        tie_recheck: none,
        retry: never,
        poll: never,
        degraded_poll: never,
        min_interval: Duration::from_micros(50),
        still_changing_after: Duration::from_secs(60),
    };
    let [events, publications, second] = [(); 3].map(|()| Arc::clone(world));
    let maker = Maker { world: Arc::clone(world), reloader };
    let loaded = Builder::new(NAMES.map(|name| std::path::Path::new("/").join(name)), maker)
        .timing(timing)
        .clock(Arc::new(HookedClock { world: Arc::clone(world), reloader, clock: SystemClock::new() }))
        .watcher(Some(Box::new(disk::watch(world, reloader))))
        .on_event(move |event| {
            events.history.note(Record::Reported { reloader, event: event.clone() });
            events.hook(reloader, if *event == Event::Stopped { Hook::Stopped } else { Hook::Event });
        })
        .on_publish(move |published| {
            let (generation, number) = (published.generation, published.value.number);
            publications.history.note(Record::Published { reloader, generation, number });
            publications.hook(reloader, Hook::Publish);
        })
        .on_publish(move |_| second.hook(reloader, Hook::Publish))
        .load_from(Port { world: Arc::clone(world), reloader })
        .unwrap();
    let site = &world.sites[reloader];
    let first = Subscriber { events: loaded.events(), reported: Vec::new() };
    lock(&site.subscribers).push(first);
    *lock(&site.shared) = Some(Arc::clone(rustls_reload::internal::shared(&loaded)));
    *lock(&site.reloader) = Some(Arc::new(loaded));
}

/// The system's clock, which the driver reads at the end of each snapshot.
struct HookedClock {
    world: Arc<World>,
    reloader: usize,
    clock: SystemClock,
}

impl Clock for HookedClock {
    fn now(&self) -> Now {
        let mut phase = lock(&self.world.sites[self.reloader].phase);
        if *phase == (Phase::Snapshot, Some(thread::current().id())) {
            *phase = (Phase::Idle, None);
        }
        drop(phase);
        self.clock.now()
    }

    fn sleep(&self, pause: Duration) {
        self.clock.sleep(pause);
    }
}

/// A build step that makes a value of both files. Each file has a number, and both have to agree.
struct Maker {
    world: Arc<World>,
    reloader: usize,
}

impl Build for Maker {
    type Value = Value;

    fn build(&mut self, files: &Files, context: &Context<'_, Value>) -> Result<Built<Value>, Error> {
        let (world, reloader) = (&self.world, self.reloader);
        world.hook(reloader, Hook::Build);
        let text = |file: usize| String::from_utf8(files.get(file).unwrap().1.to_vec()).unwrap();
        let texts = [text(0), text(1)];
        let attempt = world.sites[reloader].last_attempt();
        let verdict = evaluate(&texts);
        let kind = texts[0].split(' ').next().unwrap_or_default().to_owned();
        world.history.note(Record::Built { reloader, attempt, texts, verdict: verdict.clone() });
        let value = |number| Built::new(Value { number, reloader, world: Arc::clone(world) });
        match verdict {
            Verdict::Refused(why) => Err(Error::new(Layer::Config, why)),
            Verdict::Held => {
                let mut built = value(0);
                built.not_before = Some(context.wall + Duration::from_secs(86_400));
                Ok(built)
            }
            Verdict::Valid(number) => {
                let mut built = value(number);
                built.reduced_trust =
                    (kind == "shrinks").then(|| TrustReduction { epoch: number, removed: Vec::new() });
                Ok(built)
            }
        }
    }
}

fn evaluate(texts: &[String; 2]) -> Verdict {
    let [one, other] = texts;
    if one != other {
        return Verdict::Refused(format!("mixed: {one} / {other}"));
    }
    match one.split_once(' ') {
        Some(("good" | "shrinks", number)) => Verdict::Valid(number.parse().unwrap()),
        Some(("later", _)) => Verdict::Held,
        _ => Verdict::Refused(format!("refused: {one}.")),
    }
}
