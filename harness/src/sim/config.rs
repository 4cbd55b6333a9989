//! The properties of a world.

use std::time::Duration;

/// The treatment of file events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Events {
    /// Each event arrives at once.
    Delivered,
    /// No event arrives, without notice.
    Lost,
    /// Each event arrives twice.
    Doubled,
    /// Each event arrives 20 ms late.
    Late,
    /// The watcher reports lost events in place of each event.
    Overflowed,
}

impl Events {
    /// All variants.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Lost, Self::Doubled, Self::Late, Self::Overflowed];
}

/// The properties of a world apart from its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorldConfig {
    /// Timestamps of the disk are multiples of this.
    pub tick: Duration,
    /// Whether inode numbers are reused.
    pub reuse: bool,
    /// The treatment of events.
    pub events: Events,
    /// The publisher's pause before each step.
    pub pause: Duration,
    /// The duration of each call of the reader.
    pub verb: Duration,
    /// While the publisher has steps left, the reader goes on waiting only if the last step is less
    /// than this ago.
    pub max_quiet_wait: Duration,
    /// The number of such waits, at most.
    pub waits: usize,
    /// How long the world goes on after the last step.
    pub rest: Duration,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(4),
            reuse: false,
            events: Events::Delivered,
            pause: Duration::ZERO,
            verb: Duration::ZERO,
            max_quiet_wait: Duration::from_millis(600),
            waits: 2,
            rest: Duration::from_secs(26),
        }
    }
}
