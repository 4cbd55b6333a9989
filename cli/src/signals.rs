//! Signals that end the server, and the one that asks for a reload.

/// Makes the error of a system call that fails.
#[cfg(unix)]
fn failed(error: impl std::fmt::Display) -> String {
    format!("cannot wait for signals: {error}")
}

/// Unblocks the signals that are waited for here. A parent may have blocked them, and a process
/// inherits that.
///
/// Called before any other thread starts, since threads inherit the mask too.
#[cfg(unix)]
pub(crate) fn unblock() -> Result<(), String> {
    use nix::sys::signal::{SigSet, Signal};
    let waited_for: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    waited_for.thread_unblock().map_err(failed)
}

#[cfg(not(unix))]
pub(crate) fn unblock() -> Result<(), String> {
    Ok(())
}

/// Signals that end the process: SIGTERM and SIGINT on Unix, ctrl-c elsewhere.
pub(crate) struct ShutdownSignals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

/// The signal that asks for a reload: SIGHUP on Unix, none elsewhere.
pub(crate) struct ReloadSignals {
    #[cfg(unix)]
    hup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl ShutdownSignals {
    pub(crate) fn new() -> Result<Self, String> {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = |kind| signal(kind).map_err(failed);
        // A write to stderr raises SIGXFSZ where stderr is a file at its size limit (RLIMIT_FSIZE).
        // Unhandled, the signal would end the process; handled, a line is lost.
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
impl ShutdownSignals {
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {})
    }

    pub(crate) async fn recv(&mut self) {
        // Without ctrl-c, the system's own way to end a process is left.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
impl ReloadSignals {
    pub(crate) fn new() -> Result<Self, String> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hup: signal(SignalKind::hangup()).map_err(failed)? })
    }

    pub(crate) async fn recv(&mut self) {
        if self.hup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
impl ReloadSignals {
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {})
    }

    pub(crate) async fn recv(&mut self) {
        std::future::pending().await
    }
}
