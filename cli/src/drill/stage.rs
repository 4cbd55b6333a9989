//! One scenario on its stage: the files, the server, the clients that connect all the while, and
//! what is known of all of them.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    task::{JoinSet, block_in_place},
    time::sleep,
};

use super::{
    client::Client,
    judge,
    material::{Material, Set},
    model::{
        Expectation, Lane, Load, Played, Publication, Record, Scenario, Times, Verdict, Version, Violation,
        Who,
    },
    publisher::{Content, FileSet, Layout, Plan},
    records::{Log, PAUSE, connect},
    target::{Process, Server, Target},
};
use crate::{
    Failure,
    testkit::{Op, wait_for_tick},
};

/// Limit for a valid set to be served: the longest time that `serve` needs where no file event
/// arrives is its poll of 10 s.
pub(super) const TAKEN_LIMIT: Duration = Duration::from_secs(12);
/// Limit for the server to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Clients of each kind under heavy load.
const HEAVY: usize = 8;
/// A publication that takes longer than this, with steps of which one may be taken for the last,
/// says nothing of the server.
const SLOW: Duration = Duration::from_millis(400);

/// Why a scenario ends before its last step.
pub(super) enum Stop {
    /// It cannot be judged on this server.
    Skip(String),
    /// What was seen is enough.
    Judged,
    /// The machine was too slow for it; another attempt may do.
    Slow,
    Broken(Failure),
}

impl From<Failure> for Stop {
    fn from(error: Failure) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

pub(super) struct Stage<'a> {
    pub(super) scenario: &'static Scenario,
    target: &'a Target,
    pub(super) server: Process,
    pub(super) material: Material,
    /// The directory of the layout.
    root: PathBuf,
    /// The sets of the publications, in their order.
    pub(super) sets: Vec<Set>,
    pub(super) publications: Vec<Publication>,
    /// The number of the last finished publication in the layout, and its files.
    on_disk: (usize, FileSet),
    attempts: usize,
    pub(super) log: Arc<Log>,
    lanes: Vec<Lane>,
    clients: JoinSet<()>,
    pub(super) versions: Vec<Version>,
    pub(super) violations: Vec<Violation>,
    /// Removed last, when nobody reads it any more.
    _dir: TempDir,
}

impl<'a> Stage<'a> {
    /// Publishes the first set and starts the server.
    pub(super) async fn set(scenario: &'static Scenario, target: &'a Target) -> Result<Self, Stop> {
        let files = target.files(scenario);
        let mut material = Material::new(files);
        let first = material.first(&scenario.start)?;
        let dir = private_dir()?;
        let (root, on_disk) = (dir.path().to_owned(), material.files(&first));
        if let Server::Running { dir: of_server, .. } = &target.server {
            // The layouts that are played there write into `tls`.
            symlink(of_server, root.join("tls"))?;
            overwrite(&root.join("tls"), &on_disk)?;
        } else {
            apply(&root, &scenario.layout.first(&on_disk))?;
        }
        let server = target.start(dir.path(), scenario.layout, files)?;
        let mut stage = Self {
            scenario,
            target,
            server,
            material,
            root,
            sets: vec![first],
            publications: Vec::new(),
            on_disk: (1, on_disk),
            attempts: 1,
            log: Arc::new(Log::new()),
            lanes: Vec::new(),
            clients: JoinSet::new(),
            versions: Vec::new(),
            violations: Vec::new(),
            _dir: dir,
        };
        let publication = stage.publication(0, true);
        stage.publications.push(Publication { done: Some(Duration::ZERO), ..publication });
        if matches!(target.server, Server::Running { .. }) {
            stage.notify()?;
        }
        stage.wait_for_start().await?;
        stage.start_clients()?;
        Ok(stage)
    }

    fn publication(&self, set: usize, valid: bool) -> Publication {
        let set = &self.sets[set];
        Publication {
            chain: set.chain,
            serial: set.serial(),
            valid,
            admits: self.material.admitted(set),
            begun: self.now(),
            done: None,
            seen: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.log.origin.elapsed()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(super) fn client(&self, who: Who, version: Version, resuming: bool) -> Result<Client, Failure> {
        let lane = Lane { who, version, resuming };
        Client::new(lane, self.material.client(who), Arc::clone(&self.material.chains))
    }

    /// Waits until the server serves the first set, and notes the TLS versions that it speaks.
    async fn wait_for_start(&mut self) -> Result<(), Stop> {
        let deadline = Instant::now() + START_LIMIT;
        let clients = [
            self.client(Who::Member, Version::Tls13, false)?,
            self.client(Who::Member, Version::Tls12, false)?,
        ];
        let mut last = String::new();
        while Instant::now() < deadline {
            let mut records = Vec::new();
            for client in &clients {
                records.push(client.handshake(self.address(), self.log.origin).await);
            }
            let serves = |record: &&Record| judge::fits(record, &self.publications[0]);
            self.versions = records.iter().filter(serves).map(|record| record.lane.version).collect();
            if !self.versions.is_empty() {
                self.publications[0].seen = Some(self.now());
                return Ok(());
            }
            if let Some(ended) = self.server.ended() {
                return Err(Stop::Broken(format!("{ended}\n{}", self.server.log()).into()));
            }
            last = format!("{:?}", records[0].outcome);
            sleep(PAUSE).await;
        }
        let limit = START_LIMIT.as_secs();
        let log = self.server.log();
        Err(Stop::Broken(
            format!("the server does not serve the first set within {limit} s: {last}\n{log}").into(),
        ))
    }

    /// Starts the clients that connect all the while.
    fn start_clients(&mut self) -> Result<(), Failure> {
        let heavy = self.scenario.load == Load::Heavy;
        for who in [Who::Member].iter().chain(self.scenario.clients) {
            for version in self.versions.clone() {
                for resuming in [false, true] {
                    for _ in 0..if heavy { HEAVY } else { 1 } {
                        let client = self.client(*who, version, resuming)?;
                        self.lanes.push(client.lane);
                        let pause = if heavy { Duration::ZERO } else { PAUSE };
                        self.clients.spawn(connect(client, self.address(), Arc::clone(&self.log), pause));
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the clients and the server, and judges what was observed.
    pub(super) async fn end(mut self) -> Played {
        self.clients.shutdown().await;
        let mut played = Played::without_run(self.scenario, Verdict::Passed);
        played.log = self.server.log();
        played.records = self.log.take();
        std::mem::swap(&mut played.publications, &mut self.publications);
        let mut violations = judge::violations(&played.records, &played.publications);
        violations.append(&mut self.violations);
        violations.sort_by_key(|violation| violation.at);
        if !violations.is_empty() {
            played.verdict = Verdict::Failed(violations);
        }
        // The server may take a moment to end.
        block_in_place(|| drop(self));
        played
    }

    /// Notes an expectation that does not hold.
    pub(super) fn violated(&mut self, expectation: Expectation, why: String) {
        self.violations.push(Violation { expectation, at: self.now(), why });
    }

    /// Begins a publication of this set. Returns its plan.
    pub(super) fn begin(&mut self, set: Set, files: &FileSet, valid: bool, times: Times) -> Plan {
        self.attempts += 1;
        self.sets.push(set);
        let publication = self.publication(self.sets.len() - 1, valid);
        self.publications.push(publication);
        let (number, old) = &self.on_disk;
        self.scenario.layout.update(self.attempts, (*number, old), files, times)
    }

    /// Carries out steps that do not finish the publication.
    pub(super) fn carry_out(&self, ops: &[Op]) -> io::Result<()> {
        apply(&self.root, ops)
    }

    /// Carries out the plan of the last publication to its end, and tells the server.
    pub(super) async fn finish(&mut self, plan: Plan, files: FileSet) -> Result<(), Stop> {
        let (layout, begun, commit) = (self.scenario.layout, Instant::now(), plan.commit());
        for (index, op) in plan.ops.iter().enumerate() {
            if index == commit {
                if layout.is_atomic() {
                    // The writes become strictly older than the rename, as with a publisher that
                    // takes longer than a tick of the file system's clock.
                    block_in_place(|| wait_for_tick(&self.root))?;
                }
                let now = self.now();
                if let Some(last) = self.publications.last_mut() {
                    last.done = Some(now);
                }
            }
            apply(&self.root, std::slice::from_ref(op))?;
            if layout.pause_ms() > 0 {
                sleep(Duration::from_millis(layout.pause_ms())).await;
            }
        }
        self.on_disk = (self.attempts, files);
        if !layout.is_atomic() && begun.elapsed() > SLOW {
            return Err(Stop::Slow);
        }
        self.notify()?;
        Ok(())
    }

    /// Notifies the server of a change, if it needs that.
    pub(super) fn notify(&self) -> Result<(), Failure> {
        match &self.target.on_change {
            None => Ok(()),
            // A command that tests the files first fails for an invalid set, as it should.
            Some(on_change) => block_in_place(|| self.server.notify(on_change)).map(drop),
        }
    }

    /// Waits until a new handshake shows the last publication.
    ///
    /// # Errors
    /// It is not served in time, which is noted. Further steps would say nothing.
    pub(super) async fn taken(&mut self) -> Result<(), Stop> {
        let last = self.publications.len() - 1;
        let seen_before = |(_, one): &(usize, &Publication)| one.seen.is_some();
        let floor = self.publications.iter().enumerate().rfind(seen_before).map_or(0, |(index, _)| index);
        let (wanted, between) = (&self.publications[last], &self.publications[floor..last]);
        let shows = |record: &&Record| {
            let is_new = !record.resumed && record.ended >= wanted.begun;
            is_new && judge::fits(record, wanted) && !between.iter().any(|one| judge::fits(record, one))
        };
        let (mut seen, log) = (None, Arc::clone(&self.log));
        log.reached(TAKEN_LIMIT, |records| {
            seen = records.iter().find(shows).map(|record| record.ended);
            seen.is_some()
        })
        .await;
        self.publications[last].seen = seen;
        if seen.is_none() {
            let why = format!("set {} is not served within {} s", last + 1, TAKEN_LIMIT.as_secs());
            self.violated(Expectation::Taken, why);
            return Err(Stop::Judged);
        }
        Ok(())
    }

    /// Watches for this time, and until each client has begun and ended another handshake.
    pub(super) async fn watch(&mut self, time: Duration) {
        sleep(time).await;
        let (since, lanes) = (self.now(), self.lanes.clone());
        let is_after = |record: &Record| record.begun >= since;
        let log = Arc::clone(&self.log);
        let all = |records: &[Record]| {
            lanes.iter().all(|lane| records.iter().rev().any(|one| one.lane == *lane && is_after(one)))
        };
        if !log.reached(2 * super::client::LIMIT, all).await {
            self.violated(Expectation::Completed, "a client gets no end of its handshake".to_owned());
        }
    }

    /// Notes that all files were removed, so that the next publication writes all of them.
    pub(super) fn removed(&mut self) {
        self.on_disk.1.iter_mut().for_each(|(_, content)| *content = Content::Missing);
    }

    pub(super) fn files_on_disk(&self) -> &FileSet {
        &self.on_disk.1
    }
}

/// Makes a temporary directory that only its owner can enter: it will hold private keys.
fn private_dir() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix("rustls-reload-drill-").tempdir()
}

/// Carries out steps. A link that an interrupted publication has left is replaced.
fn apply(root: &Path, ops: &[Op]) -> io::Result<()> {
    for op in ops {
        match op.apply(root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let Op::Symlink(_, path) = op else { return Err(error) };
                fs::remove_file(root.join(path))?;
                op.apply(root)?;
            }
            done => done?,
        }
    }
    Ok(())
}

/// Writes the first set over the files of a server that runs already.
fn overwrite(root: &Path, files: &FileSet) -> io::Result<()> {
    files.iter().try_for_each(|(name, content)| {
        let path = root.join(name);
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir(&path)?,
            // Writing to a FIFO would wait for a reader.
            Ok(found) if !found.is_file() => fs::remove_file(&path)?,
            _ => {}
        }
        fs::write(path, content.bytes())
    })
}

/// Notifies a server that runs already of its own files, once they are back.
pub(super) fn notify_of_originals(target: &Target) -> Result<(), Failure> {
    let (Server::Running { dir: of_server, files, .. }, Some(on_change)) =
        (&target.server, &target.on_change)
    else {
        return Ok(());
    };
    let dir = private_dir()?;
    symlink(of_server, dir.path().join("tls"))?;
    let server = target.start(dir.path(), Layout::InPlace, *files)?;
    let why = match block_in_place(|| server.notify(on_change)) {
        Ok(true) => return Ok(()),
        Ok(false) => "the command of --on-change failed".into(),
        Err(error) => error,
    };
    Err(format!("the server may not have taken its own files again: {why}").into())
}
