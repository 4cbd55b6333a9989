//! An HTTPS server over a reloader. `serve` runs it, and `demo` connects to it.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, ToSocketAddrs},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls_reload::{Accepted, Acceptor, Event, HandshakeFailure, ServerBuilder, ServerReloader};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    Failure,
    counters::Counters,
    http, limits,
    log::{log_line, log_problem},
    metrics::METRICS,
};

/// Protocols offered by ALPN.
pub(crate) const ALPN: [&str; 2] = ["h2", "http/1.1"];
/// Time limit for the head of an HTTP/1.1 request, and so for the pause before the next request on
/// a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the body of a request. It is read and ignored: no answer depends on it.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Time in which the system takes no byte of an answer, after which the connection is cut.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for an h2 client to answer a ping.
const PING_LIMIT: Duration = Duration::from_secs(10);
/// Limit on the h2 streams open at a time on one connection.
const STREAM_LIMIT: u32 = 64;
/// Time limit for the request in progress once trust was reduced or the server ends; then the
/// connection is cut.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for all requests in progress once the server ends.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(5);
/// The first and the longest pause between two attempts to accept while `accept` fails; each pause
/// is twice as long as the one before.
const ACCEPT_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// A running server and the reloader that it serves from.
pub(crate) struct Server {
    /// The address that the server listens on.
    pub(crate) address: SocketAddr,
    /// The reloader that connections are served from.
    pub(crate) reloader: ServerReloader,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Loads the files and listens. Returns once the files are watched and the server accepts.
    pub(crate) async fn start(builder: ServerBuilder, listen: &str) -> Result<Self, Failure> {
        let started = Arc::new(Notify::new());
        let builder = builder.alpn(ALPN).on_event({
            let started = Arc::clone(&started);
            move |event| {
                if matches!(event, Event::Started { .. }) {
                    started.notify_one();
                }
            }
        });
        METRICS.install();
        // The first load blocks: it may wait until the files are stable.
        let reloader = on_thread(move || builder.load()).await??;
        // Resolving a name blocks too.
        let (name, failed) = (listen.to_owned(), |error| format!("cannot listen on {listen}: {error}"));
        let resolved = on_thread(move || Ok::<Vec<_>, io::Error>(name.to_socket_addrs()?.collect())).await?;
        let listener = TcpListener::bind(&resolved.map_err(failed)?[..]).await.map_err(failed)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let worker = reloader.spawn_worker(stopped.clone())?;
        started.notified().await;
        let limit = limits::connections(reloader.status().directories);
        let counters = Arc::new(Counters::new(limit));
        let clients = Clients {
            acceptor: reloader.acceptor(),
            reloader: reloader.clone(),
            counters: Arc::clone(&counters),
        };
        let accepting = tokio::spawn(accept(listener, clients, stopped));
        Ok(Self { address, reloader, counters, stop, worker, accepting })
    }

    /// Returns the limit on open connections. Further ones wait in the system's queue.
    pub(crate) fn limit(&self) -> usize {
        self.counters.limit
    }

    /// Returns if the server ends by itself, which is a bug.
    pub(crate) async fn ended(&mut self) -> Failure {
        match (&mut self.accepting).await {
            Ok(()) => "the server ended without a signal".into(),
            Err(error) => error.into(),
        }
    }

    /// Ends the server: answers requests in progress, for at most [`END_LIMIT`], and stops
    /// watching.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // The panic of a task was logged by the panic hook.
        let _ = tokio::join!(self.worker, self.accepting);
    }
}

/// Runs `work` on a thread of its own.
///
/// # Errors
/// The system has no thread left. `spawn_blocking` would panic then.
pub(crate) async fn on_thread<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Failure> {
    let (sender, receiver) = oneshot::channel();
    let spawned = thread::Builder::new().name("start".to_owned()).spawn(move || drop(sender.send(work())));
    spawned.map_err(|error| format!("cannot start the thread of the first load: {error}"))?;
    Ok(receiver.await?)
}

/// The acceptor and the counters of all connections.
#[derive(Clone)]
struct Clients {
    acceptor: Acceptor,
    reloader: ServerReloader,
    counters: Arc<Counters>,
}

/// Accepts connections until `stop`, then waits for the open ones to end.
async fn accept(listener: TcpListener, clients: Clients, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(clients.counters.limit));
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            () = stopped(&mut stop) => break,
            next = next(&listener, &permits, &clients.counters) => next,
        };
        let Some((stream, permit)) = next else { break };
        // Without this the results of all connections would pile up.
        while connections.try_join_next().is_some() {}
        let connection = connection(stream, clients.clone(), stop.clone());
        let open = clients.counters.opened();
        connections.spawn(async move {
            connection.await;
            drop((permit, open));
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(END_LIMIT, all).await.is_err() {
        log_problem(format_args!("{} connections did not end in time and are closed", connections.len()));
        connections.shutdown().await;
    }
}

/// Waits for a free place and returns the next connection with it; `None` only if the semaphore was
/// closed.
///
/// A period of failures to accept is logged when it begins and when it ends, and not in between.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    counters: &Counters,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    let (mut failures, mut pause, mut start) = (0_u64, ACCEPT_PAUSES[0], Instant::now());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if failures > 0 {
                    let seconds = start.elapsed().as_secs_f32();
                    log_line(format_args!(
                        "accepting connections again, after {failures} failures in {seconds:.1} s"
                    ));
                }
                return Some((stream, permit));
            }
            // These are about one client, which has disconnected.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                if failures == 0 {
                    start = Instant::now();
                    log_problem(format_args!(
                        "cannot accept connections: {error}; retrying until it works, open connections stay \
                         served"
                    ));
                }
                failures += 1;
                counters.accept_failures.fetch_add(1, Ordering::Relaxed);
                sleep(pause).await;
                pause = (2 * pause).min(ACCEPT_PAUSES[1]);
            }
        }
    }
}

/// Serves one connection: the handshake, and requests until the client or the server ends it.
///
/// A handshake that fails is counted by its reason. Later failures are not: the client sees them.
async fn connection(stream: TcpStream, clients: Clients, mut stop: watch::Receiver<bool>) {
    let Clients { acceptor, reloader, counters } = clients;
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_LIMIT));
    let accepted = tokio::select! {
        () = stopped(&mut stop) => return,
        accepted = acceptor.accept(Box::pin(stream)) => accepted,
    };
    let failure = match &accepted {
        Ok(_) => None,
        Err(error) => Some(HandshakeFailure::of_io(error)),
    };
    failure.map_or_else(|| counters.completed(), |failure| counters.failed(failure));
    let Ok(Accepted { stream, served, trust_reduced, .. }) = accepted else { return };
    // Without a client certificate, a connection depends on no client CA.
    let known = stream.get_ref().1.peer_certificates().is_some();
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_LIMIT)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(STREAM_LIMIT);
    // The protocol is the one that ALPN settled. Reading it from the first bytes has no time limit,
    // so that a silent client would hold its place for ever.
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http.http2_only(),
        _ => http.http1_only(),
    };
    let has_request = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        has_request.store(true, Ordering::Relaxed);
        // An h2 client may open streams until it has answered a ping (RFC 9113 section 6.8), and a
        // handshake may have begun before the reload.
        let outdated = known && reloader.trust_reduced_since(served.generation);
        let answer = http::answer(&request, &served, outdated, &reloader, &counters);
        async {
            let _ = timeout(BODY_LIMIT, pass_over(request.into_body())).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = silence(&has_request) => return,
        () = stopped(&mut stop) => {}
        // A client that is still trusted connects again.
        _ = trust_reduced, if known => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(DRAIN_LIMIT, serving).await;
}

/// Reads a body to its end. Left unread, it would have its h2 stream reset, and the client would
/// lose the answer.
async fn pass_over(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Returns if no request comes within [`HEAD_LIMIT`]: hyper pings an h2 client only after its first
/// bytes.
async fn silence(has_request: &AtomicBool) {
    sleep(HEAD_LIMIT).await;
    if has_request.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Returns once `stop` is set or its sender is dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests;
