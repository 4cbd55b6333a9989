//! Emits every event to `tracing`, so that a rejection is visible where no callback was installed.

use tracing::Level;

use crate::report::event::Event;

pub(crate) fn emit(event: &Event) {
    // The macros take a level that is known to the compiler.
    match level(event) {
        Level::WARN => tracing::warn!(target: "rustls_reload", "{event}"),
        _ => tracing::info!(target: "rustls_reload", "{event}"),
    }
}

/// Returns WARN for what needs attention, and INFO for everything else.
fn level(event: &Event) -> Level {
    match event {
        Event::Refused { .. }
        | Event::Degraded { .. }
        | Event::StillChanging { .. }
        | Event::Expiring { .. }
        | Event::Expired { .. }
        | Event::Warning { .. } => Level::WARN,
        _ => Level::INFO,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::{
        error::{Error, Layer},
        event::{CertificateValidity, Fingerprint},
    };

    /// Checks: INV-11.
    #[test]
    fn inv11_events_that_need_attention_are_warnings_and_others_are_not() {
        let error = || Error::new(Layer::Match, "why");
        let certificate =
            || CertificateValidity::new("the leaf", "/c", Fingerprint([0; 32]), Default::default());
        let warnings = [
            Event::Refused { error: error(), generation: 1, set: None },
            Event::Degraded { error: error() },
            Event::StillChanging { set: None },
            Event::Expiring { certificate: certificate(), within: Duration::ZERO },
            Event::Expired { certificate: certificate() },
            Event::Warning { warning: error().into() },
        ];
        let others = [
            Event::Published { generation: 2, old: None, new: None, recovered: true, set: None },
            Event::TrustReduced { generation: 2, epoch: 1, lost: Vec::new() },
            Event::Recovered { set: None },
            Event::Deferred { not_before: Duration::ZERO, set: None },
            Event::Restored,
            Event::Started { watched: Vec::new() },
            Event::Stopped,
        ];
        for (events, wanted) in [(&warnings[..], Level::WARN), (&others, Level::INFO)] {
            for event in events {
                assert_eq!(level(event), wanted, "{event}");
            }
        }
    }
}
