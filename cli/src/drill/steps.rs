//! The steps of a scenario.

mod connections;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use self::connections::Connections;
use super::{
    model::{Change, Cut, Expectation, RENEW, Stay, Step, Times},
    publisher::{Content, FileSet},
    stage::{Stage, Stop},
};
use crate::testkit::Op;

/// How long an invalid set, or an unchanged one, is watched.
const WATCHED: Duration = Duration::from_millis(900);
/// How long a served set is watched before the next step.
const SERVED: Duration = Duration::from_millis(100);
/// A pause of a publisher that may be taken for its end says nothing once it is this long.
const BRIEF_LIMIT: Duration = Duration::from_millis(400);

/// Carries out all steps of the scenario.
pub(super) async fn all(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let mut connections = Connections::default();
    for step in stage.scenario.steps {
        one(stage, &mut connections, step).await?;
        if let Some(ended) = stage.server.ended() {
            stage.violated(Expectation::Completed, ended);
            return Err(Stop::Judged);
        }
    }
    // Handshakes that begin after the last step are judged too.
    stage.watch(Duration::ZERO).await;
    Ok(())
}

async fn one(stage: &mut Stage<'_>, connections: &mut Connections, step: &Step) -> Result<(), Stop> {
    match step {
        Step::Publish(change) => stage.publish(change, true).await,
        Step::Start(change) => stage.publish(change, false).await,
        Step::Burst(count, pause) => {
            for left in (0..*count).rev() {
                stage.publish(&RENEW, left == 0).await?;
                sleep(Duration::from_millis(*pause)).await;
            }
            Ok(())
        }
        Step::Spoil(fault) => {
            let old = stage.sets[stage.last_valid()].clone();
            let (set, files) = stage.material.spoiled(&old, *fault)?;
            let plan = stage.begin(set, &files, false, Times::Now);
            stage.finish(plan, files).await?;
            stage.watch(WATCHED).await;
            Ok(())
        }
        Step::Interrupt(change, cut, stay) => stage.interrupt(change, *cut, *stay).await,
        Step::Abandon(change, cut) => {
            let (plan, _) = stage.prepare(change)?;
            stage.carry_out(&plan.interrupt(*cut).0)?;
            stage.watch(WATCHED).await;
            Ok(())
        }
        Step::Rewrite => {
            let (set, files) = (stage.sets[stage.last_valid()].clone(), stage.files_on_disk().clone());
            let plan = stage.begin(set, &files, true, Times::Now);
            stage.finish(plan, files).await?;
            stage.watch(WATCHED).await;
            Ok(())
        }
        Step::GoBack => stage.go_back().await,
        Step::Vanish(time) => stage.vanish(Duration::from_millis(*time)).await,
        Step::IntoLinks => {
            let set = stage.material.next(&stage.sets[stage.last_valid()].clone(), &RENEW)?;
            let files = stage.material.files(&set);
            stage.begin(set, &files, true, Times::Now);
            let plan = stage.scenario.layout.into_links(&files);
            stage.finish(plan, files).await?;
            stage.taken().await
        }
        Step::Noise(count) => stage.noise(*count).await,
        Step::Watch(time) => {
            stage.watch(Duration::from_millis(*time)).await;
            Ok(())
        }
        other => connections.step(stage, other).await,
    }
}

impl Stage<'_> {
    /// Returns the index of the set that a server has to serve now.
    fn last_valid(&self) -> usize {
        self.publications.iter().rposition(|one| one.valid && one.done.is_some()).unwrap_or_default()
    }

    /// Makes the next set and begins its publication.
    fn prepare(&mut self, change: &Change) -> Result<(super::publisher::Plan, FileSet), Stop> {
        let set = self.material.next(&self.sets[self.last_valid()].clone(), change)?;
        let files = self.material.files(&set);
        let plan = self.begin(set, &files, true, change.times);
        Ok((plan, files))
    }

    async fn publish(&mut self, change: &Change, waits: bool) -> Result<(), Stop> {
        let (plan, files) = self.prepare(change)?;
        self.finish(plan, files).await?;
        if waits {
            self.taken().await?;
            self.watch(SERVED).await;
        }
        Ok(())
    }

    async fn interrupt(&mut self, change: &Change, cut: Cut, stay: Stay) -> Result<(), Stop> {
        let (plan, files) = self.prepare(change)?;
        let (now, rest) = plan.interrupt(cut);
        self.carry_out(&now)?;
        let interrupted = Instant::now();
        if stay == Stay::Brief {
            sleep(stay.time()).await;
        } else {
            self.watch(stay.time()).await;
        }
        self.finish(rest, files).await?;
        if stay == Stay::Brief && interrupted.elapsed() > BRIEF_LIMIT {
            return Err(Stop::Slow);
        }
        self.taken().await
    }

    /// Publishes the set that was served before the last one with another chain.
    async fn go_back(&mut self) -> Result<(), Stop> {
        let served = self.last_valid();
        let chain = self.publications[served].chain;
        let is_other = |index: &usize| {
            let one = &self.publications[*index];
            one.valid && one.done.is_some() && one.chain != chain
        };
        let Some(before) = (0..served).rev().find(is_other) else {
            return Err(Stop::Broken("there is no set to go back to".into()));
        };
        let set = self.sets[before].clone();
        let files = self.material.files(&set);
        let plan = self.begin(set, &files, true, Times::Now);
        self.finish(plan, files).await?;
        self.taken().await
    }

    /// Removes all files for this time, then publishes a new set.
    async fn vanish(&mut self, time: Duration) -> Result<(), Stop> {
        let present = self.files_on_disk().iter().filter(|(_, content)| *content != Content::Missing);
        let ops: Vec<_> = present.map(|(name, _)| Op::Unlink(self.scenario.layout.path(name))).collect();
        self.carry_out(&ops)?;
        self.removed();
        self.watch(time).await;
        self.publish(&RENEW, true).await
    }

    /// Writes, renames and removes a file beside the files of the set.
    async fn noise(&mut self, count: usize) -> Result<(), Stop> {
        let path = self.scenario.layout.path("tls.crt");
        let (file, other) = (path.with_file_name("neighbour"), path.with_file_name("neighbour.old"));
        for _ in 0..count {
            self.carry_out(&[
                Op::Create(file.clone()),
                Op::Append(file.clone(), b"of nobody's concern\n".to_vec()),
                Op::Rename(file.clone(), other.clone()),
                Op::Unlink(other.clone()),
            ])?;
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}
