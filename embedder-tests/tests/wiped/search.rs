//! The allocator that searches every block for key material when it is freed or reallocated.
#![allow(unsafe_code)] // reason: an allocator is unsafe by its trait

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustls_reload_testkit::WINDOW;

pub(crate) type Window = [u8; WINDOW];

/// Searches each block that is freed, and then overwrites it with zeros, so that every match was
/// written by the block's last owner.
struct Searching;

#[global_allocator]
static ALLOCATOR: Searching = Searching;

static ARMED: AtomicBool = AtomicBool::new(false);
static SEARCHED: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// The first blocks with key material: bytes, place, size, thread and backtrace of each.
static WHO: Mutex<Vec<String>> = Mutex::new(Vec::new());
static WINDOWS: OnceLock<Windows> = OnceLock::new();

/// The windows to search for.
struct Windows {
    /// Sorted.
    all: Vec<Window>,
    /// Whether any of them has this hash. Nearly every window of a block has a hash that none of
    /// them has.
    hashes: Box<[bool]>,
}

const HASH_BITS: u32 = 18;

fn hash(window: &[u8]) -> usize {
    let first = window.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    (first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HASH_BITS)) as usize
}

/// Sets the windows to search for. Called once.
pub(crate) fn search_for(mut all: Vec<Window>) {
    all.sort_unstable();
    all.dedup();
    let mut hashes = vec![false; 1 << HASH_BITS].into_boxed_slice();
    all.iter().for_each(|window| hashes[hash(window)] = true);
    assert!(WINDOWS.set(Windows { all, hashes }).is_ok(), "it is set already");
}

/// Returns whether these bytes hold a window of a key.
pub(crate) fn holds_key(bytes: &[u8]) -> bool {
    first_window(bytes).is_some()
}

/// Returns where the first window of a key is in these bytes.
fn first_window(bytes: &[u8]) -> Option<usize> {
    let windows = WINDOWS.get()?;
    let secret = |window: &[u8]| {
        windows.hashes[hash(window)]
            && windows.all.binary_search_by(|known| known.as_slice().cmp(window)).is_ok()
    };
    bytes.windows(WINDOW).position(secret)
}

/// Returns the number of windows to search for, and of blocks that were searched.
pub(crate) fn counts() -> (usize, usize) {
    (WINDOWS.get().map_or(0, |windows| windows.all.len()), SEARCHED.load(Ordering::Relaxed))
}

thread_local! {
    /// Set while this thread records a match, which allocates.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

fn returned(block: &mut [u8]) {
    let writing = WRITING.try_with(Cell::get).unwrap_or(true);
    if ARMED.load(Ordering::Relaxed) && !writing && block.len() >= WINDOW {
        SEARCHED.fetch_add(1, Ordering::Relaxed);
        if let Some(at) = first_window(block)
            && FOUND.fetch_add(1, Ordering::Relaxed) < 3
        {
            WRITING.with(|writing| writing.set(true));
            let thread = std::thread::current();
            let (name, trace) = (thread.name().unwrap_or("?"), std::backtrace::Backtrace::force_capture());
            // The keys of a test are no secrets, and the bytes tell which copy this is.
            let bytes = &block[at..at + WINDOW];
            let who = format!("{bytes:02x?} at {at} of {} bytes, on {name}, by {trace}", block.len());
            WHO.lock().unwrap().push(who);
            WRITING.with(|writing| writing.set(false));
        }
    }
    block.fill(0);
}

// SAFETY: every call is passed on to the system's allocator unchanged. In between, only the block's
// own bytes are accessed, all of which were initialised when the block was allocated.
unsafe impl GlobalAlloc for Searching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up the block, which has this length and was zeroed at least.
        returned(unsafe { std::slice::from_raw_parts_mut(block, layout.size()) });
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
    // The default `realloc` is kept: it allocates another block, copies, and frees the old one as
    // above.
}

/// Admits one search at a time, because it covers blocks of the whole process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns how many blocks freed during `run` held key material, and who freed the first of them.
pub(crate) fn found(run: impl FnOnce()) -> (usize, Vec<String>) {
    let before = FOUND.load(Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
    run();
    ARMED.store(false, Ordering::SeqCst);
    let who = WHO.lock().unwrap().drain(..).collect();
    (FOUND.load(Ordering::Relaxed) - before, who)
}
