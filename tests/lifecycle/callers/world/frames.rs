//! The calls that are under way on a thread, and the phase of a reloader during them.

use std::{
    cell::RefCell,
    thread::{self, ThreadId},
};

use super::Site;
use crate::callers::history::Phase;

enum Frame {
    /// This thread is in a call of this reloader; true if that is a reload.
    Call(usize, bool),
    /// This thread is in code that this reloader calls.
    Inside(usize),
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

pub struct Framed(());

impl Drop for Framed {
    fn drop(&mut self) {
        FRAMES.with_borrow_mut(Vec::pop);
    }
}

/// Marks that this thread is in a call of this reloader, until the mark is dropped.
pub fn calling(reloader: usize, reloads: bool) -> Framed {
    FRAMES.with_borrow_mut(|frames| frames.push(Frame::Call(reloader, reloads)));
    Framed(())
}

/// Marks that this thread is in code that this reloader calls, until the mark is dropped.
pub(super) fn called_by(reloader: usize) -> Framed {
    FRAMES.with_borrow_mut(|frames| frames.push(Frame::Inside(reloader)));
    Framed(())
}

/// Returns whether this thread is in a manual reload of this reloader, and in no other call.
pub(super) fn reloads_by_hand(reloader: usize) -> bool {
    FRAMES.with_borrow(|frames| matches!(frames.last(), Some(Frame::Call(of, true)) if *of == reloader))
}

/// Returns whether this thread drives this reloader: the calling code runs in its worker or in a
/// manual reload. A thread of the schedule itself is in a call whenever it is called back.
pub fn drives(reloader: usize) -> bool {
    FRAMES.with_borrow(|frames| {
        frames.iter().enumerate().any(|(place, frame)| match (frame, place.checked_sub(1)) {
            (Frame::Inside(inside), None) => *inside == reloader,
            (Frame::Inside(inside), Some(below)) => {
                *inside == reloader && matches!(frames[below], Frame::Call(of, true) if of == reloader)
            }
            (Frame::Call(..), _) => false,
        })
    })
}

/// Sets the phase of a driver until it is dropped.
pub(super) struct InPhase<'a> {
    site: &'a Site,
    old: Option<(Phase, Option<ThreadId>)>,
}

impl<'a> InPhase<'a> {
    pub(super) fn new(site: &'a Site, reloader: usize, phase: Phase) -> Self {
        // A callback on a thread that does not drive shows nothing about the driver.
        let new = (phase, Some(thread::current().id()));
        let old = drives(reloader).then(|| std::mem::replace(&mut *site.phase.lock().unwrap(), new));
        Self { site, old }
    }
}

impl Drop for InPhase<'_> {
    fn drop(&mut self) {
        if let Some(old) = self.old {
            *self.site.phase.lock().unwrap() = old;
        }
    }
}
