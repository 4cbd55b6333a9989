//! Emits every event to `tracing`, so that a rejection is visible where no callback was installed.

use crate::report::event::Event;

pub(crate) fn emit(event: &Event) {
    match event {
        Event::Refused { .. }
        | Event::Degraded { .. }
        | Event::StillChanging { .. }
        | Event::Expiring { .. }
        | Event::Expired { .. }
        | Event::Warning { .. } => {
            tracing::warn!(target: "rustls_reload", "{event}");
        }
        _ => tracing::info!(target: "rustls_reload", "{event}"),
    }
}
