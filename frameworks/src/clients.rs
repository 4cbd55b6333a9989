//! The six checks of a client, with one way of publishing.

use frameworks::AnyError;
use rustls::pki_types::CertificateDer;
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    backend::{Backend, Seen},
    child::Child,
    publish::{Files, Mode},
    rows::Row,
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
pub async fn run(row: &Row, mode: Mode) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Err(error) = checks(row, mode, &mut verdicts).await {
        verdicts.resize(CHECKS.len(), Err(error.to_string()));
    }
    verdicts
}

/// A client, its files and its server.
struct World {
    child: Child,
    files: Files,
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

    /// Passes if the client is answered, and shows this certificate.
    async fn shows(&mut self, leaf: &CertificateDer<'static>) -> Verdict {
        let seen = self.ask().await?;
        if seen.leaf.as_ref() == Some(leaf) { Ok(()) } else { Err("another identity is seen".into()) }
    }

    /// Publishes, and waits until so many events of this kind were reported.
    async fn publish(
        &mut self,
        changes: &[(&'static str, &str)],
        kind: &str,
        count: usize,
    ) -> Result<(), AnyError> {
        self.files.publish(changes)?;
        Ok(self.child.reports(kind, count).await?)
    }
}

async fn checks(row: &Row, mode: Mode, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let [clients, old_root, new_root] = ["clients", "old root", "new root"].map(Authority::root);
    let identity = || clients.issue(&Subject::client("client"), &PrivateKey::p256());
    let server = |root: &Authority| root.issue(&Subject::server("localhost"), &PrivateKey::p256());
    let [first, second, third] = [identity(), identity(), identity()];
    let mut world = start(row, mode, &clients, &server(&old_root), &first, &old_root).await?;

    let hello = match world.shows(&first.leaf).await {
        Ok(()) => {
            let resumed = world.ask().await.map(|seen| seen.resumed);
            let wanted = format!("resumed: {resumed:?}, expected: {}", row.resumes);
            if resumed == Ok(row.resumes) { Ok(()) } else { Err(wanted) }
        }
        failed => failed,
    };
    verdicts.push(hello.clone());

    world.publish(&[("tls.crt", &second.chain), ("tls.key", &second.key)], RELOADED, 1).await?;
    verdicts.push(until(async || world.shows(&second.leaf).await).await);

    let torn = &third.chain[..third.chain.len() / 2];
    world.publish(&[("tls.crt", torn), ("tls.key", &third.key)], REJECTED, 1).await?;
    let kept = world.shows(&second.leaf).await;
    world.publish(&[("tls.crt", &third.chain), ("tls.key", &second.key)], REJECTED, 2).await?;
    verdicts.push(kept.and(world.shows(&second.leaf).await));

    // The client has sessions with the server, which goes on as before.
    let roots = [("tls.crt", &*second.chain), ("tls.key", &*second.key), ("ca.crt", &*new_root.pem)];
    world.publish(&roots, RELOADED, 2).await?;
    // A refusal says something only about a server that was accepted before.
    let removed = until(async || match world.ask().await {
        Ok(seen) if seen.resumed => Err("accepted by its session".into()),
        Ok(_) => Err("accepted".into()),
        Err(why) if why.contains("UnknownIssuer") => Ok(()),
        Err(why) => Err(why),
    })
    .await;
    verdicts.push(hello.and(removed));

    world.backend.serve(&clients, &server(&new_root))?;
    verdicts.push(until(async || world.shows(&second.leaf).await).await);

    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    world.publish(&[("ca.crt", broken)], REJECTED, 3).await?;
    verdicts.push(world.shows(&second.leaf).await);
    Ok(())
}

async fn start(
    row: &Row,
    mode: Mode,
    clients: &Authority,
    server: &Pair,
    identity: &Pair,
    root: &Authority,
) -> Result<World, AnyError> {
    let names = ["tls.crt", "tls.key", "ca.crt"];
    let texts = [&*identity.chain, &*identity.key, &*root.pem];
    let files = Files::new(mode, &[(names[0], texts[0]), (names[1], texts[1]), (names[2], texts[2])])?;
    let backend = Backend::start(row.wire, clients, server).await?;
    let mut args = vec![backend.address().to_string().into()];
    args.extend(names.map(|name| files.path(name).into_os_string()));
    let mut child = Child::start(row.example, row.wrong, &args)?;
    let line = child.line().await?;
    if line == "ready" { Ok(World { child, files, backend }) } else { Err(line.into()) }
}
