//! One case: an entry point is polled while the driver is held, an action follows, and the future
//! ends.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use rustls_reload::{Reload, Reloader, StartError};
use tokio::sync::watch;

use super::{
    case::{Case, Driver, Entry, Fate, Meanwhile, Wanted},
    executor::{Output, Ticks, Tried},
    world::{Stage, World},
};

/// The entry point under test: the shipped one or a wrong design.
pub(crate) type Reloads = fn(Reloader<u64>) -> Pin<Box<dyn Future<Output = Reload>>>;

impl Case {
    /// Runs the case. The error describes a violation.
    pub(crate) fn run(self, reloads: Reloads, patience: Duration) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(self.on_executor(reloads, patience))
    }

    async fn on_executor(self, reloads: Reloads, patience: Duration) -> Result<(), String> {
        let ticks = Ticks::start();
        let world = World::new(patience);
        let mut threads = Vec::new();
        let (shutdown, receiver) = watch::channel(false);
        let mut shutdown = Some(shutdown);
        let task = self.set_up(&world, &ticks, &receiver, &mut threads).await?;
        let generation = world.reloader.status().generation;
        let snapshots = world.reloader.status().snapshots;
        let (held_wanted, wanted) = self.wanted();

        // Makes the future and polls it once.
        let mut task = Some(task);
        let mut expected_warnings = 0;
        let future: Pin<Box<dyn Future<Output = Output>>> = match self.entry {
            Entry::Reload => {
                let reload = reloads(Reloader::clone(&world.reloader));
                Box::pin(async { Output::Answer(reload.await) })
            }
            Entry::Published => {
                let published = world.reloader.published(generation);
                Box::pin(async { Output::Generation(published.await.generation) })
            }
            Entry::TrustReduced => {
                let shrunk = world.reloader.trust_reduced(generation);
                Box::pin(async { Output::Generation(shrunk.await) })
            }
            Entry::Spawn => match (world.reloader.spawn_worker(receiver.clone()), self.may_start()) {
                (Ok(task), true) => Box::pin(ended(task)),
                (Err(StartError::AlreadyRunning), false) => {
                    expected_warnings += 1;
                    Box::pin(std::future::pending())
                }
                (other, _) => return Err(format!("spawn_worker: {other:?}")),
            },
            Entry::Task | Entry::Orphan | Entry::Shutdown => {
                if self.entry == Entry::Shutdown {
                    let _ = shutdown.as_ref().unwrap().send(true);
                } else if self.entry == Entry::Orphan {
                    shutdown = None;
                    expected_warnings +=
                        usize::from(!matches!(self.driver, Driver::Ending | Driver::Stopping(_)));
                }
                Box::pin(ended(task.take().flatten().unwrap()))
            }
        };
        let refused = self.entry == Entry::Spawn && !self.may_start();
        let (held_wanted, wanted) =
            if refused { (Wanted::Pending, Wanted::Pending) } else { (held_wanted, wanted) };
        let mut future = if self.fate == Fate::TimedOut {
            let limited = tokio::time::timeout(Duration::from_secs(3600), future);
            Tried::new(Box::pin(async { limited.await.unwrap_or(Output::TimedOut) }))
        } else {
            Tried::new(future)
        };
        if self.fate == Fate::DroppedUnpolled {
            drop(future);
            ticks.some().await;
            if self.entry == Entry::Reload && world.reloader.status().snapshots != snapshots {
                return Err("a reload that was never polled has happened".to_owned());
            }
            world.gate.open();
            return self.tear_down(world, shutdown, task.flatten(), threads, expected_warnings, &ticks).await;
        }
        future.poll();
        let asked_with = world.on_disk();
        if self.is_held_by_this() {
            let held = || world.gate.holds() || world.gate.was_forced();
            ticks.until(held).await.map_err(|()| "what it drives is not held".to_owned())?;
        }
        future.run_for(&ticks).await;
        if self.entry == Entry::Shutdown && matches!(self.driver, Driver::Idle(_)) {
            // A write before the stop would have the driver held, and the stop wait for it.
            self.refuses_reloads(&world, &ticks).await?;
        }
        self.is_held(&world)?;

        // Takes the action while the driver is held.
        match self.meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Write | Meanwhile::Shrink => {
                world.write(self.meanwhile == Meanwhile::Shrink);
                world.hint();
            }
            Meanwhile::Stop => self.stop(&world, &mut threads, &ticks).await?,
        }
        let is_stopped = self.is_over() || self.meanwhile == Meanwhile::Stop;
        if held_wanted == Wanted::Pending {
            future.run_for(&ticks).await;
        } else {
            let done = ticks.until(|| future.poll_if_woken()).await;
            done.map_err(|()| format!("not woken while the driver is held; wanted {held_wanted:?}"))?;
        }
        self.is_held(&world)?;
        self.evaluate(&future, held_wanted, asked_with, &world)?;
        if self.fate == Fate::TimedOut && future.output.is_none() {
            tokio::time::advance(Duration::from_secs(7200)).await;
            ticks.until(|| future.poll_if_woken()).await.map_err(|()| "no timeout".to_owned())?;
            if future.output != Some(Output::TimedOut) {
                return Err(format!("not timed out: {:?}", future.output));
            }
        }
        let frozen = world.reloader.status().generation;
        // A registered shutdown prevents publications too.
        let is_stopped = is_stopped || self.shut_down(&world, &ticks, &threads).await?;
        let dropped = matches!(self.fate, Fate::DroppedWhileHeld | Fate::TimedOut);
        let mut future = Some(future);
        if dropped {
            future = None;
        }

        // Lets the driver go on.
        world.gate.open();
        if let (Some(future), Fate::Awaited) = (&mut future, self.fate) {
            if wanted == Wanted::Pending {
                self.settled(&world, &ticks).await?;
                future.poll_if_woken();
                let lone = self.entry == Entry::TrustReduced && future.wakes.0.load(Ordering::SeqCst) > 0;
                if lone {
                    return Err("woken though no trust has shrunk".to_owned());
                }
            } else {
                let done = ticks.until(|| future.poll_if_woken()).await;
                done.map_err(|()| format!("not woken once the driver has gone on; wanted {wanted:?}"))?;
            }
            self.evaluate(future, wanted, asked_with, &world)?;
            if future.polls > 12 {
                return Err(format!("polled {} times: it wakes itself", future.polls));
            }
        } else {
            self.settled(&world, &ticks).await?;
        }
        drop(future);
        if self.worker_goes_on() && matches!(self.meanwhile, Meanwhile::Write | Meanwhile::Shrink) {
            let served = || world.reloader.current().value == world.on_disk();
            ticks.until(served).await.map_err(|()| "the last write is not served".to_owned())?;
        }
        if is_stopped && !self.starts_again() && world.reloader.status().generation != frozen {
            return Err("published after a stop".to_owned());
        }
        self.tear_down(world, shutdown, task.flatten(), threads, expected_warnings, &ticks).await
    }

    /// Returns whether a start after the stop may publish again.
    fn starts_again(self) -> bool {
        self.entry == Entry::Spawn && self.driver == Driver::Stopped
    }

    /// Brings the driver into its state. Returns the task of the worker, if there is one.
    async fn set_up(
        self,
        world: &World,
        ticks: &Ticks,
        receiver: &watch::Receiver<bool>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, String> {
        let has_worker = !matches!(self.driver, Driver::Loaded(_) | Driver::ByHand(_));
        let task = has_worker.then(|| world.reloader.spawn_worker(receiver.clone()).unwrap());
        if has_worker {
            // The snapshot of the start has ended, too.
            let running = || world.reloader.status().running && world.reloader.status().snapshots > 1;
            ticks.until(running).await.map_err(|()| "no start".to_owned())?;
        }
        let held = async || {
            ticks.until(|| world.gate.holds()).await.map_err(|()| "the driver is not held".to_owned())
        };
        match self.driver {
            Driver::Loaded(stage) | Driver::Idle(stage) => {
                world.gate.arm(stage, false);
                if matches!(self.entry, Entry::Reload | Entry::Spawn) {
                    world.write(false);
                }
            }
            Driver::Held(stage) | Driver::Stopping(stage) => {
                world.gate.arm(stage, matches!(self.driver, Driver::Stopping(_)));
                world.write(false);
                world.hint();
                held().await?;
            }
            Driver::ByHand(stage) => {
                world.gate.arm(stage, false);
                world.write(false);
                let handle = Reloader::clone(&world.reloader);
                threads.push(std::thread::spawn(move || drop(handle.reload_now())));
                held().await?;
            }
            Driver::Ending => {
                world.gate.arm(Stage::Stopped, false);
                let reloader = Arc::clone(&world.reloader);
                threads.push(std::thread::spawn(move || reloader.stop().unwrap()));
                held().await?;
            }
            Driver::Stopped => {
                let reloader = Arc::clone(&world.reloader);
                let stop = std::thread::spawn(move || reloader.stop().unwrap());
                ticks.until(|| stop.is_finished()).await.map_err(|()| "the stop hangs".to_owned())?;
            }
        }
        Ok(task)
    }

    /// Checks that the gate was not opened by its timeout, so that the driver was held until now.
    fn is_held(self, world: &World) -> Result<(), String> {
        if world.gate.was_forced() {
            return Err("the executor was blocked for as long as the driver was held".to_owned());
        }
        Ok(())
    }

    /// Stops from another thread. Returns once the stop is registered.
    async fn stop(
        self,
        world: &World,
        threads: &mut Vec<JoinHandle<()>>,
        ticks: &Ticks,
    ) -> Result<(), String> {
        let reloader = Arc::clone(&world.reloader);
        threads.push(std::thread::spawn(move || reloader.stop().unwrap()));
        self.registered(world, threads, ticks).await
    }

    /// Waits until a stop is registered: from then on reloads are answered although the driver is
    /// held.
    async fn registered(
        self,
        world: &World,
        threads: &[JoinHandle<()>],
        ticks: &Ticks,
    ) -> Result<(), String> {
        let is_held = world.gate.holds();
        if is_held {
            self.refuses_reloads(world, ticks).await?;
        } else {
            let last = threads.last().unwrap();
            ticks.until(|| last.is_finished()).await.map_err(|()| "the stop hangs".to_owned())?;
        }
        Ok(())
    }

    /// Waits until reloads are answered by the stop.
    async fn refuses_reloads(self, world: &World, ticks: &Ticks) -> Result<(), String> {
        let reloader = Reloader::clone(&world.reloader);
        let probe = std::thread::spawn(move || while reloader.reload_now() != Reload::Stopped {});
        ticks.until(|| probe.is_finished()).await.map_err(|()| "no stop is registered".to_owned())
    }

    /// Waits for a shutdown to be registered.
    async fn shut_down(
        self,
        world: &World,
        ticks: &Ticks,
        threads: &[JoinHandle<()>],
    ) -> Result<bool, String> {
        let registers = self.entry == Entry::Shutdown && world.gate.holds();
        if registers {
            self.registered(world, threads, ticks).await?;
        }
        Ok(registers)
    }

    /// Waits until the driver has no more work.
    async fn settled(self, world: &World, ticks: &Ticks) -> Result<(), String> {
        let (worker, over) = (self.worker_goes_on(), self.is_over() || self.entry == Entry::Shutdown);
        if worker {
            let handle = Reloader::clone(&world.reloader);
            let probe = std::thread::spawn(move || drop(handle.reload_now()));
            ticks.until(|| probe.is_finished()).await.map_err(|()| "a reload hangs".to_owned())?;
        } else if over || self.meanwhile == Meanwhile::Stop {
            let ended = || !world.reloader.status().running;
            ticks.until(ended).await.map_err(|()| "the driver does not end".to_owned())?;
        }
        ticks.some().await;
        Ok(())
    }

    fn evaluate(self, future: &Tried, wanted: Wanted, asked_with: u64, world: &World) -> Result<(), String> {
        let fits = match (&future.output, wanted) {
            (Some(Output::TimedOut), _) => self.fate == Fate::TimedOut,
            (None, Wanted::Pending) => true,
            (Some(Output::Answer(Reload::Reloaded | Reload::Unchanged)), Wanted::Done) => {
                // The snapshot has to begin after the request.
                world.reloader.current().value >= asked_with
            }
            (Some(Output::Answer(answer)), Wanted::Stopped) => *answer == Reload::Stopped,
            (Some(Output::Generation(generation)), Wanted::Done) => {
                // Handshakes get the generation by then.
                *generation <= world.reloader.current().generation
            }
            (Some(Output::TaskEnded), Wanted::Done) => !world.reloader.status().running,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{:?}, wanted {wanted:?}", future.output)) }
    }

    /// Ends everything. Checks that nothing is left behind and that no event was false.
    async fn tear_down(
        self,
        world: World,
        shutdown: Option<watch::Sender<bool>>,
        task: Option<tokio::task::JoinHandle<()>>,
        threads: Vec<JoinHandle<()>>,
        warnings: usize,
        ticks: &Ticks,
    ) -> Result<(), String> {
        let reloader = Arc::clone(&world.reloader);
        let stop = std::thread::spawn(move || reloader.stop());
        let left = threads.into_iter();
        let left =
            left.chain([std::thread::spawn(move || stop.join().unwrap().unwrap())]).collect::<Vec<_>>();
        ticks
            .until(|| left.iter().all(JoinHandle::is_finished))
            .await
            .map_err(|()| "a caller is not answered".to_owned())?;
        left.into_iter().for_each(|thread| thread.join().unwrap());
        if let Some(task) = task {
            ticks.until(|| task.is_finished()).await.map_err(|()| "the task does not end".to_owned())?;
            task.await.map_err(|error| error.to_string())?;
        }
        drop(shutdown);
        self.is_held(&world)?;
        let reported = world.warnings.lock().unwrap().clone();
        if reported.len() != warnings {
            return Err(format!("warnings: {reported:?}, wanted {warnings}"));
        }
        let token = world.token();
        drop(world);
        // A reload whose caller was dropped may still be ending on its thread.
        let freed = ticks.until(|| Arc::strong_count(&token) == 1).await;
        freed.map_err(|()| "something keeps the driver".to_owned())
    }
}

async fn ended(task: tokio::task::JoinHandle<()>) -> Output {
    task.await.unwrap();
    Output::TaskEnded
}
