//! `demo`: rotates a throw-away certificate under the server of `serve`, and compares what a client
//! is shown with what is promised.

mod client;
mod publisher;

use std::{
    fmt::Arguments,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use rustls_reload::{Event, Layer, ServerReloader, internal::der};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_rustls::rustls::pki_types::CertificateDer;

use self::{
    client::{Client, Connection},
    publisher::{Publisher, Update},
};
use crate::{Failure, log::log_line, server::Server, signals::ShutdownSignals};

/// Limit for each thing that the demo waits for. Each takes milliseconds, and at most ten seconds
/// where no event arrives.
const STEP_LIMIT: Duration = Duration::from_secs(12);
/// Pause between two rotations of `--keep`.
const KEEP_PAUSE: Duration = Duration::from_secs(3);

/// Arguments of `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Afterwards keep publishing every three seconds until ctrl-c
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn demo(args: Args) -> Result<(), Failure> {
    // A signal must not leave the directory behind.
    let mut shutdown = ShutdownSignals::new()?;
    let dir = private_dir()?;
    let mut demo = tokio::select! {
        demo = Demo::start(dir.path()) => demo?,
        () = shutdown.recv() => return Err("a signal ended the demo before its first observation".into()),
    };
    tokio::select! {
        outcome = demo.three_updates() => outcome?,
        () = shutdown.recv() => return Err("a signal ended the demo before its last observation".into()),
    }
    if args.keep {
        report(format_args!("\npublishing every {} s until ctrl-c", KEEP_PAUSE.as_secs()))?;
        tokio::select! {
            outcome = demo.keep_on() => outcome?,
            () = shutdown.recv() => {}
        }
    }
    demo.server.stop().await;
    Ok(())
}

/// Makes a temporary directory that only its owner can enter: it will hold private keys.
fn private_dir() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("rustls-reload-demo-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

struct Demo {
    server: Server,
    events: mpsc::UnboundedReceiver<Event>,
    publisher: Publisher,
    client: Client,
    /// The connection that was opened before the first update.
    before: Connection,
    /// The leaf that the server has to present.
    served: CertificateDer<'static>,
    generation: u64,
}

impl Demo {
    async fn start(root: &Path) -> Result<Self, Failure> {
        let (publisher, first) = Publisher::first(root)?;
        let dir = publisher.dir();
        let (tell, events) = mpsc::unbounded_channel();
        let builder =
            ServerReloader::builder(dir.join("tls.crt"), dir.join("tls.key")).on_event(move |event| {
                log_line(event);
                // The receiver is dropped only at the end of the demo.
                let _ = tell.send(event.clone());
            });
        report(format_args!("a throw-away CA and pair in {}, laid out as kubelet does", dir.display()))?;
        let server = Server::start(builder, "127.0.0.1:0").await?;
        let address = server.address;
        report(format_args!(
            "watching {} directories, from the files up to the root",
            server.reloader.status().watched.len()
        ))?;
        report(format_args!(
            "watch it yourself (with --keep there is time for it):\n  openssl s_client -connect {address} \
             -servername localhost -CAfile {} </dev/null | openssl x509 -noout -serial -enddate\n",
            publisher.ca_file().display(),
        ))?;
        let client = Client::new(publisher.authority(), "localhost", address)?;
        let before = client.connect().await?;
        let demo = Self { server, events, publisher, client, before, served: first.leaf, generation: 1 };
        demo.row("first load", &demo.served, None, &demo.before.leaf)?;
        expect(demo.before.leaf == demo.served, "the first leaf is served")?;
        Ok(demo)
    }

    /// Publishes a good, a broken and a good update, and checks what the client is shown of each.
    async fn three_updates(&mut self) -> Result<(), Failure> {
        self.good().await?;
        self.broken(Update::ForeignKey).await?;
        self.good().await?;
        let answer = self.before.get().await?;
        expect(
            answer.contains("generation: 1\n"),
            "the connection opened first is still served generation 1",
        )?;
        report(format_args!(
            "\n\
             ok: two good updates were served, the broken one was rejected and reported while the old pair \
             stayed served,\n\
             and the connection opened before them still answers"
        ))
    }

    /// Publishes updates until the future is dropped.
    async fn keep_on(&mut self) -> Result<(), Failure> {
        let mut pause = interval(KEEP_PAUSE);
        pause.tick().await;
        loop {
            for update in [Update::ForeignKey, Update::CutChain] {
                pause.tick().await;
                self.broken(update).await?;
                pause.tick().await;
                self.good().await?;
            }
        }
    }

    /// Publishes a good update. Each handshake must get the old leaf until one gets the new leaf;
    /// the update must be one generation.
    async fn good(&mut self) -> Result<(), Failure> {
        let (new, renamed) = self.publisher.publish(Update::Good)?;
        let seen = async {
            loop {
                let leaf = self.client.connect().await?.leaf;
                if leaf == new.leaf {
                    return Ok(leaf);
                }
                expect(leaf == self.served, "the old leaf is served until the new one is")?;
            }
        };
        let leaf = in_time("the new leaf", seen).await?;
        let after = renamed.elapsed();
        let published = self.event(|event| matches!(event, Event::Published { .. })).await?;
        self.generation += 1;
        self.served = new.leaf;
        self.row("good update", &self.served, Some(after), &leaf)?;
        let Event::Published { generation, .. } = published else { return Err("not a publication".into()) };
        expect(generation == self.generation, "one update is one generation")
    }

    /// Publishes a broken update. The server must report why it failed, and go on with the old
    /// pair.
    async fn broken(&mut self, update: Update) -> Result<(), Failure> {
        let (new, renamed) = self.publisher.publish(update)?;
        let refused = self.event(|event| matches!(event, Event::Refused { .. })).await?;
        let after = renamed.elapsed();
        let leaf = self.client.connect().await?.leaf;
        self.row(update.name(), &new.leaf, Some(after), &leaf)?;
        let Event::Refused { error, generation, .. } = refused else { return Err("not a rejection".into()) };
        let layer = match update {
            Update::ForeignKey => Layer::Match,
            _ => Layer::Pem,
        };
        expect(leaf == self.served, "the old leaf is served")?;
        expect(generation == self.generation, "the generation is unchanged")?;
        expect(error.layer() == layer, "the expected layer rejected it")?;
        expect(self.server.reloader.status().refused.is_some(), "the status has the rejection")
    }

    /// Waits for the first event that `wanted` takes.
    ///
    /// # Errors
    /// Another publication or failure came first, or nothing within [`STEP_LIMIT`].
    async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event, Failure> {
        let next = async {
            while let Some(event) = self.events.recv().await {
                if wanted(&event) {
                    return Ok(event);
                }
                let other = matches!(event, Event::Published { .. } | Event::Refused { .. });
                expect(!other, "nothing else is published or rejected")?;
            }
            Err("the events have ended".into())
        };
        in_time("an event", next).await
    }

    /// Prints one line of the report.
    fn row(
        &self,
        step: &str,
        on_disk: &CertificateDer<'_>,
        after: Option<Duration>,
        served: &CertificateDer<'_>,
    ) -> Result<(), Failure> {
        let after =
            after.map_or_else(String::new, |after| format!("  after {:5.1} ms", after.as_secs_f64() * 1e3));
        report(format_args!(
            "{step:<28} on disk: serial {}  served: serial {} (generation {}){after}",
            serial(on_disk),
            serial(served),
            self.server.reloader.status().generation,
        ))
    }
}

/// Returns the first digits of the serial number. It is random, so they identify the certificate.
fn serial(leaf: &CertificateDer<'_>) -> String {
    let serial = der::fields(leaf).map(|fields| der::serial_hex(fields.serial));
    serial.map_or_else(|| "?".to_owned(), |serial| serial.chars().take(8).collect())
}

fn expect(seen: bool, promise: &str) -> Result<(), Failure> {
    if seen { Ok(()) } else { Err(format!("a promise is broken: {promise}").into()) }
}

async fn in_time<T>(what: &str, seen: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(STEP_LIMIT, seen).await {
        Ok(seen) => seen,
        Err(_) => Err(format!("a promise is broken: {what} within {} s", STEP_LIMIT.as_secs()).into()),
    }
}

fn report(line: Arguments<'_>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}
