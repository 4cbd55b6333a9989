//! Steps about connections and sessions: opened, left half-way, resumed.

use std::{
    io::{self, Read, Write},
    net,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::block_in_place, time::timeout};
use tokio_rustls::rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{
    Failure,
    drill::{
        client::{Client, LIMIT, REQUEST, answered},
        material::NAME,
        model::{Expectation, Outcome, Step, Who},
        stage::{Stage, Stop},
    },
};

/// The begin of a TLS record that carries a handshake message.
const BEGIN_OF_A_RECORD: &[u8] = &[22, 3, 1];

/// Connections and sessions that a scenario holds.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<http1::SendRequest<Empty<Bytes>>>,
    sessions: Vec<Client>,
    hellos: Vec<Hello>,
    stalled: Vec<TcpStream>,
}

impl Connections {
    pub(super) async fn step(&mut self, stage: &mut Stage<'_>, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Open(count) => self.open(stage, *count).await,
            Step::Answer => self.answer(stage).await,
            Step::Join(who) => self.join(stage, *who).await,
            Step::Resumes(who) => self.again(stage, *who, Expectation::Resumes).await,
            Step::Ends(who) => self.again(stage, *who, Expectation::Ends).await,
            Step::Hello => self.hello(stage),
            Step::Finish => self.finish(stage),
            Step::Stall(count) => self.stall(stage, *count).await,
            _ => Ok(()),
        }
    }

    async fn open(&mut self, stage: &mut Stage<'_>, count: usize) -> Result<(), Stop> {
        for index in 0..count {
            let version = stage.versions[index % stage.versions.len()];
            let client = stage.client(Who::Member, version, false)?;
            let stream = timeout(LIMIT, client.connect(stage.address())).await.map_err(Failure::from)??;
            let (requests, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(Failure::from)?;
            // The task ends when `requests` is dropped.
            tokio::spawn(connection);
            self.open.push(requests);
        }
        self.answer(stage).await
    }

    /// Asks on every open connection.
    async fn answer(&mut self, stage: &mut Stage<'_>) -> Result<(), Stop> {
        for (index, requests) in self.open.iter_mut().enumerate() {
            let asked = match timeout(LIMIT, ask(requests)).await {
                Ok(asked) => asked,
                Err(_) => Err("no answer in time".into()),
            };
            if let Err(error) = asked {
                let why = format!("open connection {} does not answer: {error}", index + 1);
                stage.violated(Expectation::Alive, why);
            }
        }
        Ok(())
    }

    /// Makes sessions of the client, and keeps those that the server resumes.
    async fn join(&mut self, stage: &mut Stage<'_>, who: Who) -> Result<(), Stop> {
        let mut kept = 0;
        for version in stage.versions.clone() {
            let client = stage.client(who, version, true)?;
            let mut resumed = false;
            for _ in 0..2 {
                let record = client.handshake(stage.address(), stage.log.origin).await;
                resumed = record.resumed && record.outcome == Outcome::Accepted;
                stage.log.add(record);
            }
            if resumed {
                self.sessions.push(client);
                kept += 1;
            }
        }
        if kept > 0 { Ok(()) } else { Err(Stop::Skip("the server resumes no session".to_owned())) }
    }

    /// Offers each session of the client once more.
    async fn again(&mut self, stage: &mut Stage<'_>, who: Who, expected: Expectation) -> Result<(), Stop> {
        for client in self.sessions.iter().filter(|client| client.lane.who == who) {
            let record = client.handshake(stage.address(), stage.log.origin).await;
            let resumed = record.resumed && record.outcome == Outcome::Accepted;
            if resumed != (expected == Expectation::Resumes) {
                let how = if resumed { "is resumed" } else { "is not resumed" };
                let why = format!("the session {how} ({}): {:?}", record.lane, record.outcome);
                stage.violated(expected, why);
            }
            stage.log.add(record);
        }
        Ok(())
    }

    fn hello(&mut self, stage: &Stage<'_>) -> Result<(), Stop> {
        for version in &stage.versions {
            let client = stage.client(Who::Member, *version, false)?;
            let begun = stage.now();
            let hello = block_in_place(|| Hello::send(client, stage.address(), begun))?;
            self.hellos.push(hello);
        }
        Ok(())
    }

    fn finish(&mut self, stage: &Stage<'_>) -> Result<(), Stop> {
        for mut hello in self.hellos.drain(..) {
            let outcome = block_in_place(|| hello.finish());
            let record = hello.client.record((hello.begun, stage.now()), false, outcome);
            stage.log.add(record);
        }
        Ok(())
    }

    async fn stall(&mut self, stage: &Stage<'_>, count: usize) -> Result<(), Stop> {
        for _ in 0..count {
            let mut stream = TcpStream::connect(stage.address()).await?;
            stream.write_all(BEGIN_OF_A_RECORD).await?;
            self.stalled.push(stream);
        }
        Ok(())
    }
}

async fn ask(requests: &mut http1::SendRequest<Empty<Bytes>>) -> Result<(), Failure> {
    requests.ready().await?;
    let request = Request::get("/").header(HOST, NAME).body(Empty::new())?;
    let response = requests.send_request(request).await?;
    response.into_body().collect().await?;
    Ok(())
}

/// A handshake whose first message alone was sent.
struct Hello {
    client: Client,
    stream: StreamOwned<ClientConnection, net::TcpStream>,
    begun: Duration,
}

impl Hello {
    fn send(client: Client, address: net::SocketAddr, begun: Duration) -> Result<Self, Failure> {
        let mut connection = ClientConnection::new(client.config.clone(), ServerName::try_from(NAME)?)?;
        let mut socket = net::TcpStream::connect(address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        while connection.wants_write() {
            connection.write_tls(&mut socket)?;
        }
        Ok(Self { client, stream: StreamOwned::new(connection, socket), begun })
    }

    fn finish(&mut self) -> Outcome {
        while self.stream.conn.is_handshaking() {
            if let Err(error) = self.stream.conn.complete_io(&mut self.stream.sock) {
                return self.client.failure(&error);
            }
        }
        self.request().unwrap_or_else(|error| self.client.after(&error))
    }

    fn request(&mut self) -> io::Result<Outcome> {
        self.stream.write_all(REQUEST)?;
        let mut answer = [0; 12];
        self.stream.read_exact(&mut answer)?;
        Ok(answered(&answer))
    }
}
