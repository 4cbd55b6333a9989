//! The ten checks of a server, with one way of publishing.

use frameworks::AnyError;
use rustls_reload_testkit::{Authority, ListSpec, Pair, PrivateKey, Subject};

use crate::{
    child::Child,
    peer::{Client, Failure, Open},
    publish::{Files, Mode},
    rows::Row,
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
pub async fn run(row: &Row, mode: Mode) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Err(error) = renewal(row, mode, &mut verdicts).await {
        verdicts.resize(3, Err(error.to_string()));
    }
    if let Err(error) = trust(row, mode, &mut verdicts).await {
        verdicts.resize(CHECKS.len(), Err(error.to_string()));
    }
    verdicts
}

/// Starts a server of these files. Returns it and its address.
async fn start(row: &Row, files: &Files, names: &[&str]) -> Result<(Child, std::net::SocketAddr), AnyError> {
    let paths: Vec<_> = names.iter().map(|name| files.path(name)).collect();
    let mut child = Child::start(row.example, row.wrong, &paths)?;
    let line = child.line().await?;
    let address = line.strip_prefix("listening at ").ok_or_else(|| format!("no address: {line}"))?;
    let address = address.parse()?;
    Ok((child, address))
}

/// Waits until the server has reported so many reloads. Whether clients see them is another
/// question, and a server without a reloader reports none.
async fn reloaded(row: &Row, child: &mut Child, count: usize) -> Result<(), AnyError> {
    if row.example == "tonic_pem" {
        return Ok(());
    }
    Ok(child.reports("CONFIG:RELOADED", count).await?)
}

/// Checks 1 to 3: a server that asks for no client certificate.
async fn renewal(row: &Row, mode: Mode, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let root = Authority::root("servers");
    let [first, second] = [(); 2].map(|()| root.issue(&Subject::server("localhost"), &PrivateKey::p256()));
    let mut files = Files::new(mode, &[("tls.crt", &first.chain), ("tls.key", &first.key)])?;
    let (mut child, address) = start(row, &files, &["tls.crt", "tls.key"]).await?;
    let client = || Client::new(row.wire, address, &root, None);
    let mut open = client()?.connect().await;
    verdicts.push(shows(&open, &first));
    files.publish(&[("tls.crt", &second.chain), ("tls.key", &second.key)])?;
    reloaded(row, &mut child, 1).await?;
    let renewed = until(async || {
        let client = client().map_err(|error| error.to_string())?;
        shows(&client.connect().await, &second)
    });
    verdicts.push(renewed.await);
    verdicts.push(answers(&mut open).await);
    Ok(())
}

/// The certificates of checks 4 to 10.
struct World {
    root: Authority,
    server: Pair,
    old_ca: Authority,
    new_ca: Authority,
    /// A client of the old CA.
    alice: Pair,
    /// A client of the new CA, which is revoked at the end.
    bob: Pair,
    /// Another client of the new CA.
    carol: Pair,
    stranger: Pair,
}

impl World {
    fn new() -> Self {
        let [root, old_ca, new_ca, other] = ["servers", "old CA", "new CA", "other CA"].map(Authority::root);
        let client = |ca: &Authority, name| ca.issue(&Subject::client(name), &PrivateKey::p256());
        Self {
            server: root.issue(&Subject::server("localhost"), &PrivateKey::p256()),
            alice: client(&old_ca, "alice"),
            bob: client(&new_ca, "bob"),
            carol: client(&new_ca, "carol"),
            stranger: client(&other, "stranger"),
            root,
            old_ca,
            new_ca,
        }
    }

    /// Returns the files of the first publication.
    fn files<'a>(&'a self, list: &'a str) -> [(&'static str, &'a str); 4] {
        [
            ("tls.crt", &self.server.chain),
            ("tls.key", &self.server.key),
            ("ca.crt", &self.old_ca.pem),
            ("ca.crl", list),
        ]
    }
}

/// Checks 4 to 10: a server that requires client certificates.
async fn trust(row: &Row, mode: Mode, verdicts: &mut Vec<Verdict>) -> Result<(), AnyError> {
    let world = World::new();
    let [old_list, new_list] = [&world.old_ca, &world.new_ca].map(|ca| ca.list(&ListSpec::new(1)).pem);
    let first = world.files(&old_list);
    let mut files = Files::new(mode, &first)?;
    let (mut child, address) = start(row, &files, &first.map(|(name, _)| name)).await?;
    let client = |identity| Client::new(row.wire, address, &world.root, identity);
    let [alice, bob, carol] = [&world.alice, &world.bob, &world.carol].map(|pair| client(Some(pair)));
    let (alice, bob, carol) = (alice?, bob?, carol?);

    let mut open = alice.connect().await;
    let let_in = match shows(&open, &world.server) {
        Ok(()) => resumes(&alice.connect().await, row.resumes),
        failed => failed,
    };
    verdicts.push(let_in.clone());
    let mut outsiders = let_in.clone();
    for identity in [Some(&world.stranger), None] {
        outsiders = outsiders.and(refused(&client(identity)?).await);
    }
    verdicts.push(outsiders);

    files.publish(&[("ca.crt", &world.new_ca.pem), ("ca.crl", &new_list)])?;
    reloaded(row, &mut child, 1).await?;
    let new_let_in = until(async || answered(&bob.connect().await)).await;
    verdicts.push(new_let_in.clone());
    // A refusal says something only about a client that was let in before.
    verdicts.push(let_in.and(refused(&alice).await));
    verdicts.push(match row.drains {
        true => until(async || ended(&mut open).await).await,
        false => answers(&mut open).await,
    });

    let revoking = world.new_ca.list(&ListSpec::new(2).naming(&world.bob.leaf)).pem;
    files.publish(&[("ca.crl", &revoking)])?;
    verdicts.push(match new_let_in {
        // A server without the list has nothing to report.
        Ok(()) if row.wrong != Some("no-list") => {
            reloaded(row, &mut child, 2).await?;
            until(async || refused(&bob).await).await
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
