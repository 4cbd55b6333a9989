//! The six checks of a client.

use frameworks::AnyError;
use rustls_reload_testkit::{Authority, Pair, Volume};
use tempfile::TempDir;

use crate::{
    backend::{Backend, Seen},
    child::Child,
    rows::Case,
    verdict::{Verdict, until},
};

/// The checks, in their order.
pub const CHECKS: [&str; 6] = [
    "the server sees the identity",
    "the server sees a new identity at the next connection",
    "a torn chain, and a key of another pair, leave the last good identity",
    "a server of the removed root is refused although the client has a session",
    "a server of the new root is accepted",
    "a broken bundle of roots leaves the last good one",
];

const RELOADED: &str = "CONFIG:RELOADED";
const REJECTED: &str = "CONFIG:RELOAD_FAILED";

/// Runs the checks. A check that could not be made has failed.
pub async fn run(case: &Case) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Err(error) = checks(case, &mut verdicts).await {
        verdicts.resize(CHECKS.len(), Err(error.to_string()));
    }
    verdicts
}

/// A client, its files and its server.
struct World {
    child: Child,
    volume: Volume,
    backend: Backend,
}

impl World {
    /// Has the client make a request. Returns what the server saw.
    async fn ask(&mut self) -> Result<Seen, String> {
        self.backend.take();
        let text = |error: AnyError| error.to_string();
        self.child.enter().await.map_err(text)?;
        let line = self.child.line().await.map_err(text)?;
        if line != "answered" {
            return Err(line);
        }
        self.backend.take().ok_or_else(|| "answered by another server".to_owned())
    }

    /// Passes if the client is answered, and shows this identity.
    async fn shows(&mut self, identity: &Pair) -> Verdict {
        let seen = self.ask().await?;
        if seen.leaf.as_ref() == Some(&identity.leaf) {
            Ok(())
        } else {
            Err("another identity is seen".into())
        }
    }

    /// Publishes, and waits until so many events of this kind were reported.
    async fn publish(&mut self, pair: &Pair, roots: &str, kind: &str, count: usize) -> Result<(), AnyError> {
        self.volume.publish_with(pair, &[("ca.crt", roots.as_bytes())])?;
        Ok(self.child.reports(kind, count).await?)
    }
}

async fn checks(case: &Case, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let [clients, old_root, new_root] = ["clients", "old root", "new root"].map(Authority::root);
    let [first, second, third, fourth] = [(); 4].map(|()| clients.client("client"));
    let dir = TempDir::new()?;
    let volume = case.mode.volume(dir.path());
    volume.publish_with(&first, &[("ca.crt", old_root.pem.as_bytes())])?;
    let backend = Backend::start(case, &clients, &old_root.server("localhost")).await?;
    let mut args = vec![backend.address().to_string().into()];
    args.extend([volume.chain(), volume.key(), volume.path("ca.crt")]);
    let mut child = Child::start(case.row.example, case.row.wrong, &args)?;
    let line = child.line().await?;
    if line != "ready" {
        return Err(line.into());
    }
    let mut world = World { child, volume, backend };

    let hello = world.shows(&first).await;
    verdicts.push(match &hello {
        Ok(()) => {
            let resumed = world.ask().await.map(|seen| seen.resumed);
            let wanted = format!("resumed: {resumed:?}, expected: {}", case.row.resumes);
            if resumed == Ok(case.row.resumes) { Ok(()) } else { Err(wanted) }
        }
        failed => failed.clone(),
    });

    world.publish(&second, &old_root.pem, RELOADED, 1).await?;
    verdicts.push(until(case.patience(2), async || world.shows(&second).await).await);

    let torn = Pair { chain: third.chain[..third.chain.len() / 2].to_owned(), ..third };
    world.publish(&torn, &old_root.pem, REJECTED, 1).await?;
    let kept = world.shows(&second).await;
    // Another chain: in place, the whole third one would stand beside its key for a moment.
    world.publish(&Pair { key: second.key.clone(), ..fourth }, &old_root.pem, REJECTED, 2).await?;
    verdicts.push(kept.and(world.shows(&second).await));

    // The client has sessions with the server, which goes on as before.
    world.publish(&second, &new_root.pem, RELOADED, 2).await?;
    // A refusal says something only about a server that was accepted before.
    let removed = until(case.patience(4), async || match world.ask().await {
        Ok(seen) if seen.resumed => Err("accepted by its session".into()),
        Ok(_) => Err("accepted".into()),
        Err(why) if why.contains("UnknownIssuer") => Ok(()),
        Err(why) => Err(why),
    })
    .await;
    verdicts.push(hello.and(removed));

    world.backend.serve(&clients, &new_root.server("localhost"))?;
    verdicts.push(until(case.patience(5), async || world.shows(&second).await).await);

    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    world.publish(&second, broken, REJECTED, 3).await?;
    verdicts.push(world.shows(&second).await);
    Ok(())
}
