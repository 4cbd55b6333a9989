//! WRONG DESIGNS of trust, each with one step out of order, for the models of trust to catch.

use std::{
    future::poll_fn,
    marker::PhantomData,
    sync::Arc,
    task::{Poll, Waker},
};

use loom::sync::{Mutex, MutexGuard};
use rustls_reload::{Published, Reload, internal::Cell};

use crate::{
    Disk,
    trusting::{Cas, Shrank, Store, Trusting, Trusts, next},
};

/// The step that is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mistrust {
    /// No step. The models have to pass, which shows that they catch the fault and not the shape.
    Sound,
    /// A session goes to the storage that is served when its handshake ends. Breaks: INV-09
    StorageFollows,
    /// A client is verified against the CAs that are served when its certificate arrives.
    /// Breaks: INV-09
    VerifierFollows,
    /// A wait reads whether trust was reduced, releases the lock, and registers only then.
    /// Breaks: INV-11
    RegistersLate,
    /// A reduction of trust is reported before the pointer is swapped. Breaks: INV-11
    ReportsFirst,
    /// Any publication wakes the waiters for a reduction of trust. Breaks: INV-08
    WakesAlways,
}

/// The fault as a type parameter.
pub trait Pick: Send + Sync + 'static {
    /// The fault.
    const FAULT: Mistrust;
}

/// A reloader of trust with the fault `P`.
pub struct Mistrusts<P: Pick>(Arc<Inner>, PhantomData<P>);

struct Inner {
    disk: Disk,
    row: &'static [u8],
    cell: Cell<Published<Trusting>>,
    state: Mutex<State>,
}

struct State {
    version: u64,
    shrunk: u64,
    wakers: Vec<Waker>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl<P: Pick> Mistrusts<P> {
    fn is(fault: Mistrust) -> bool {
        P::FAULT == fault
    }
}

impl<P: Pick> Trusts for Mistrusts<P> {
    fn load(disk: &Disk, row: &'static [u8]) -> Self {
        let version = disk.snapshot();
        let (epoch, _) = next(row, version, None);
        let inner = Inner {
            disk: disk.clone(),
            row,
            cell: Cell::new(Arc::new(Published::new(1, epoch))),
            state: Mutex::new(State { version, shrunk: 0, wakers: Vec::new() }),
        };
        Self(Arc::new(inner), PhantomData)
    }

    fn current(&self) -> Arc<Published<Trusting>> {
        self.0.cell.load()
    }

    fn reload_now(&self) -> Reload {
        let version = self.0.disk.snapshot();
        let served = self.0.cell.load();
        let mut state = self.0.lock();
        if version == state.version {
            return Reload::Unchanged;
        }
        state.version = version;
        let (epoch, shrinks) = next(self.0.row, version, Some(&served.value));
        let published = Arc::new(Published::new(served.generation + 1, epoch));
        if shrinks {
            state.shrunk = published.generation;
        }
        let wakes = shrinks || Self::is(Mistrust::WakesAlways);
        let wakers = if wakes { std::mem::take(&mut state.wakers) } else { Vec::new() };
        let first = Self::is(Mistrust::ReportsFirst);
        if !first {
            drop(self.0.cell.swap(Arc::clone(&published)));
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if first {
            drop(self.0.cell.swap(published));
        }
        Reload::Reloaded
    }

    fn shrunk(&self, generation: u64) -> Shrank {
        let inner = Arc::clone(&self.0);
        Box::pin(poll_fn(move |cx| {
            let mut state = inner.lock();
            if state.shrunk > generation {
                return Poll::Ready(state.shrunk);
            }
            if Self::is(Mistrust::RegistersLate) {
                drop(state);
                state = inner.lock();
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn verifier(&self, served: &Published<Trusting>) -> Cas {
        if Self::is(Mistrust::VerifierFollows) {
            *self.current().value.trust()
        } else {
            *served.value.trust()
        }
    }

    fn storage(&self, served: &Published<Trusting>) -> Arc<Store> {
        let current = self.current();
        Arc::clone(if Self::is(Mistrust::StorageFollows) { &current.value } else { &served.value }.sessions())
    }
}

/// Defines a type for each fault.
macro_rules! picks {
    ($($name:ident),* $(,)?) => {
        $(
            #[doc = concat!("[`Mistrust::", stringify!($name), "`].")]
            pub struct $name;
            impl Pick for $name {
                const FAULT: Mistrust = Mistrust::$name;
            }
        )*
    };
}

picks!(Sound, StorageFollows, VerifierFollows, RegistersLate, ReportsFirst, WakesAlways);
