//! The signals that end the server, and the one that reloads by hand.

use std::io;

/// Lets the signals in that are waited for here, also where the parent has blocked them: that is
/// inherited.
///
/// Called before any other thread starts, since threads inherit it too.
#[cfg(unix)]
pub(crate) fn unblock() -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let waited_for: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    Ok(waited_for.thread_unblock()?)
}

#[cfg(not(unix))]
pub(crate) fn unblock() -> io::Result<()> {
    Ok(())
}

/// What ends the process: SIGTERM and SIGINT, ctrl-c elsewhere.
pub(crate) struct Ends {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

/// What asks for a reload: SIGHUP; elsewhere there is nothing like it.
pub(crate) struct Reloads {
    #[cfg(unix)]
    hup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Ends {
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        // Where stderr is a file that may grow no further (RLIMIT_FSIZE), a line is lost.
        // Unhandled, this signal would end the process.
        let _ = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?;
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Ends {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub(crate) async fn recv(&mut self) {
        // Where ctrl-c cannot be waited for, the system's own way to end a process is left.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
impl Reloads {
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hup: signal(SignalKind::hangup())? })
    }

    pub(crate) async fn recv(&mut self) {
        if self.hup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
impl Reloads {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub(crate) async fn recv(&mut self) {
        std::future::pending().await
    }
}
