//! Several callers, several reloaders, and callbacks that call back, on system threads: random
//! schedules of the whole public interface, and each call while the driver is held in each of its
//! phases.
//!
//! `CALLERS_SEED` repeats one schedule, and `CALLERS_SCHEDULES` sets the number of schedules.
//! Checks: INV-01, INV-04, INV-11, INV-13, INV-15. Engine: generated.

mod calls;
mod disk;
mod history;
mod oracle;
mod phases;
mod plan;
mod random;
mod schedule;
mod tasks;
mod world;
