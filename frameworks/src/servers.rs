//! The ten checks of a server.

use std::{net::SocketAddr, path::PathBuf};

use frameworks::AnyError;
use rustls_reload_testkit::{Authority, ListSpec, Pair};
use tempfile::TempDir;

use crate::{
    child::Child,
    peer::{Client, Failure, Open},
    rows::{Case, PATIENCE},
    verdict::{Verdict, until},
};

/// The checks, in their order.
pub const CHECKS: [&str; 10] = [
    "a client is answered",
    "a new client sees a renewal",
    "a connection from before the renewal is answered",
    "a client with a certificate is let in",
    "a client of another CA is refused, and one without a certificate",
    "a client of a new CA is let in",
    "a client of the removed CA is refused although it has a session",
    "a connection from before the change of CA is answered, or ends where the server drains",
    "a client that was let in is refused once it is revoked, although it has a session",
    "a client of the same CA that is not revoked is let in",
];

/// Runs the checks. A check that could not be made has failed.
pub async fn run(case: &Case) -> Vec<Verdict> {
    let (mut verdicts, mut further) = (Vec::new(), Vec::new());
    let (renewed, trusted) = tokio::join!(renewal(case, &mut verdicts), trust(case, &mut further));
    if let Err(error) = renewed {
        verdicts.resize(3, Err(error.to_string()));
    }
    verdicts.append(&mut further);
    if let Err(error) = trusted {
        verdicts.resize(CHECKS.len(), Err(error.to_string()));
    }
    verdicts
}

/// Starts a server of these files. Returns it and its address.
async fn start(case: &Case, files: &[PathBuf]) -> Result<(Child, SocketAddr), AnyError> {
    let mut child = Child::start(case.row.example, case.row.wrong, files)?;
    let line = child.line().await?;
    let address = line.strip_prefix("listening at ").ok_or_else(|| format!("no address: {line}"))?;
    let address = address.parse()?;
    Ok((child, address))
}

/// Waits until the server has reported so many reloads, if it reports them. Whether clients see
/// them is another question.
async fn reloaded(case: &Case, child: &mut Child, count: usize) -> Result<(), AnyError> {
    if !case.row.reports {
        return Ok(());
    }
    Ok(child.reports("CONFIG:RELOADED", count).await?)
}

/// Checks 1 to 3: a server that asks for no client certificate.
async fn renewal(case: &Case, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let root = Authority::root("servers");
    let [first, second] = [(); 2].map(|()| root.server("localhost"));
    let dir = TempDir::new()?;
    let volume = case.mode.volume(dir.path());
    volume.publish(&first)?;
    let (mut child, address) = start(case, &[volume.chain(), volume.key()]).await?;
    let client = || Client::new(case, address, &root, None);
    let mut open = client()?.connect().await;
    verdicts.push(shows(&open, &first));
    volume.publish(&second)?;
    reloaded(case, &mut child, 1).await?;
    let renewed = until(case.patience(2), async || {
        let client = client().map_err(|error| error.to_string())?;
        shows(&client.connect().await, &second)
    });
    verdicts.push(renewed.await);
    verdicts.push(answers(&mut open).await);
    Ok(())
}

/// Checks 4 to 10: a server that requires client certificates.
async fn trust(case: &Case, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let [root, old_ca, new_ca, other] = ["servers", "old CA", "new CA", "other CA"].map(Authority::root);
    let (server, stranger) = (root.server("localhost"), other.client("stranger"));
    let dir = TempDir::new()?;
    let volume = case.mode.volume(dir.path());
    let publish = |ca: &Authority, list: &ListSpec| {
        let list = ca.list(list).pem;
        volume.publish_with(&server, &[("ca.crt", ca.pem.as_bytes()), ("ca.crl", list.as_bytes())])
    };
    publish(&old_ca, &ListSpec::new(1))?;
    let files = [volume.chain(), volume.key(), volume.path("ca.crt"), volume.path("ca.crl")];
    let (mut child, address) = start(case, &files).await?;
    let client = |identity| Client::new(case, address, &root, identity);
    let [alice, bob, carol] =
        [(&old_ca, "alice"), (&new_ca, "bob"), (&new_ca, "carol")].map(|(ca, name)| ca.client(name));
    let revoked = &bob.leaf;
    let (alice, bob, carol) = (client(Some(&alice))?, client(Some(&bob))?, client(Some(&carol))?);

    let mut open = alice.connect().await;
    let let_in = shows(&open, &server);
    verdicts.push(match &let_in {
        Ok(()) => resumes(&alice.connect().await, case.row.resumes),
        failed => failed.clone(),
    });
    let mut outsiders = let_in.clone();
    for identity in [Some(&stranger), None] {
        outsiders = outsiders.and(refused(&client(identity)?).await);
    }
    verdicts.push(outsiders);

    publish(&new_ca, &ListSpec::new(1))?;
    reloaded(case, &mut child, 1).await?;
    let new_let_in = until(case.patience(6), async || answered(&bob.connect().await)).await;
    verdicts.push(new_let_in.clone());
    // A refusal says something only about a client that was let in before.
    verdicts.push(let_in.and(refused(&alice).await));
    verdicts.push(match case.row.drains {
        true => until(PATIENCE, async || ended(&mut open).await).await,
        false => answers(&mut open).await,
    });

    publish(&new_ca, &ListSpec::new(2).naming(revoked))?;
    verdicts.push(match new_let_in {
        // A server without the list has nothing to report.
        Ok(()) if case.row.wrong != Some("no-list") => {
            reloaded(case, &mut child, 2).await?;
            until(case.patience(9), async || refused(&bob).await).await
        }
        Ok(()) => refused(&bob).await,
        failed => failed,
    });
    verdicts.push(answered(&carol.connect().await));
    Ok(())
}

type Connected = Result<Open, Failure>;

fn answered(connected: &Connected) -> Verdict {
    connected.as_ref().map(|_| ()).map_err(|failure| failure.to_string())
}

/// Passes if this certificate was shown in a full handshake.
fn shows(connected: &Connected, pair: &Pair) -> Verdict {
    answered(connected)?;
    match connected.as_ref().ok().and_then(|open| open.leaf.as_ref()) {
        Some(leaf) if *leaf == pair.leaf => Ok(()),
        Some(_) => Err("another certificate is shown".into()),
        None => Err("no certificate is shown".into()),
    }
}

fn resumes(connected: &Connected, wanted: bool) -> Verdict {
    answered(connected)?;
    let resumed = connected.as_ref().is_ok_and(|open| open.leaf.is_none());
    if resumed == wanted { Ok(()) } else { Err(format!("resumed: {resumed}, expected: {wanted}")) }
}

/// Passes if the server refuses the client by an alert.
async fn refused(client: &Client) -> Verdict {
    let failure = match client.connect().await {
        Ok(open) if open.leaf.is_none() => return Err("let in by its session".into()),
        Ok(_) => return Err("let in".into()),
        Err(Failure::Closed(_)) => client.end_without_a_request().await,
        Err(failure) => failure,
    };
    if matches!(failure, Failure::Refused(_)) { Ok(()) } else { Err(failure.to_string()) }
}

async fn answers(connected: &mut Connected) -> Verdict {
    answered(connected)?;
    let Ok(open) = connected else { return Ok(()) };
    open.ask().await.map_err(|failure| failure.to_string())
}

async fn ended(connected: &mut Connected) -> Verdict {
    answered(connected)?;
    let Ok(open) = connected else { return Ok(()) };
    match open.ask().await {
        Ok(()) => Err("it goes on".into()),
        Err(Failure::Closed(_)) => Ok(()),
        Err(failure) => Err(failure.to_string()),
    }
}
