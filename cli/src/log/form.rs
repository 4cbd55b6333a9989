//! The form of a log line: text, JSON, or an event of OCSF.

use std::{sync::OnceLock, time::SystemTime};

use rustls_reload::{
    Event, Ocsf, Severity, Timestamp,
    internal::{LINE_LIMIT, json, one_line, shortened},
};

/// The values of `--log`.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// The time in UTC, and a text
    Text,
    /// A JSON object with time, severity and message; that of an event has its name and its fields
    Json,
    /// A JSON object of OCSF 1.8.0: class 5019 for an event, a Base Event for any other line
    Ocsf,
}

/// The form of all lines.
#[derive(Debug)]
pub(super) enum Form {
    /// The text alone, for people at a terminal.
    Plain,
    Text,
    Json,
    Ocsf(Ocsf),
}

static PLAIN: Form = Form::Plain;
static CHOSEN: OnceLock<Form> = OnceLock::new();

/// Sets the form of all lines from here on. Until then, lines are plain text. Later calls change
/// nothing.
pub(crate) fn set_form(form: LogForm) {
    let form = match form {
        LogForm::Text => Form::Text,
        LogForm::Json => Form::Json,
        LogForm::Ocsf => Form::Ocsf(Ocsf::new(hostname())),
    };
    let _ = CHOSEN.set(form);
}

/// Returns the form of all lines.
pub(super) fn get() -> &'static Form {
    CHOSEN.get().unwrap_or(&PLAIN)
}

impl Form {
    /// Renders an event as a line, with its line break.
    pub(super) fn event(&self, event: &Event, at: SystemTime) -> String {
        let line = match self {
            Self::Plain | Self::Text => return self.note(event.severity(), &event.to_string(), at),
            Self::Json => json::event_line(event, at.into()),
            Self::Ocsf(ocsf) => ocsf.line(event, at),
        };
        line + "\n"
    }

    /// Renders any other text as a line, with its line break.
    pub(super) fn note(&self, severity: Severity, text: &str, at: SystemTime) -> String {
        let at = Timestamp::from(at);
        let line = match self {
            Self::Plain => bounded(one_line(text)),
            Self::Text => bounded(format!("{at:.3} {}", one_line(text))),
            Self::Json => json::note_line(severity, text, at),
            Self::Ocsf(_) => json::ocsf_note_line(severity, text, at),
        };
        line + "\n"
    }
}

/// Cuts a line that would be too long with its line break.
fn bounded(line: String) -> String {
    shortened(line, LINE_LIMIT - 1)
}

/// Returns the name of this machine.
#[cfg(unix)]
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn hostname() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}
