//! The error of a rejection, and the warning that rejects nothing: layer, path, reason.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::report::line;

/// The stage that rejected a candidate. Tests and alerts match on it, never on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Layer {
    /// The settings contradict each other; nothing was read.
    Settings,
    /// A path could not be resolved, or a file could not be read.
    Read,
    /// The files kept changing while they were read, or did not become stable.
    Changing,
    /// A file is not PEM, or holds sections that do not belong in it.
    Pem,
    /// The private key is missing, ambiguous, malformed or not supported by the crypto provider.
    Key,
    /// A certificate of the chain does not parse.
    Chain,
    /// The private key does not belong to the leaf.
    Match,
    /// A further pair has no name that a client could ask for, or another pair holds one of its
    /// names.
    Names,
    /// A client CA does not parse as a trust anchor, or no CA of the bundle can verify a client.
    ClientCa,
    /// A root does not parse as a trust anchor, or no root of the bundle can verify a server.
    RootCa,
    /// A CRL does not parse, is signed by another key than its issuer's, has expired,
    /// or is missing.
    Crl,
    /// The leaf is outside its validity window.
    Validity,
    /// The configuration could not be assembled, or the closure for further settings changed a
    /// setting that it must not change.
    Config,
    /// The rehearsal handshake failed.
    Rehearsal,
    /// The build step panicked.
    Panic,
    /// The directories could not be watched.
    Watch,
    /// The process has reached a limit of its own, such as that of its threads.
    Process,
}

impl Layer {
    /// Returns the name used in messages: lower case, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Read => "read",
            Self::Changing => "changing",
            Self::Pem => "pem",
            Self::Key => "key",
            Self::Chain => "chain",
            Self::Match => "match",
            Self::Names => "names",
            Self::ClientCa => "client-ca",
            Self::RootCa => "root-ca",
            Self::Crl => "crl",
            Self::Validity => "validity",
            Self::Config => "config",
            Self::Rehearsal => "rehearsal",
            Self::Panic => "panic",
            Self::Watch => "watch",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Drops the payload of a panic. Its drop is the caller's code as well and may panic; the payload
/// of that panic is leaked.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

/// A rejection: the layer, the path, the line, the reason, and the system's error behind it.
///
/// Two errors are equal if the same went wrong in the same place, so that it is one rejection and is
/// reported once: layer, path, line, reason, and the kind and number of the system's error. The reason is its
/// text. Where a failure to read has figures in its text, such as a length, or words of the system,
/// they do not count.
///
/// An error never contains key material (INV-10): messages are made of paths, labels, counts and
/// names of algorithms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Error {
    layer: Layer,
    path: Option<PathBuf>,
    line: Option<usize>,
    reason: Reason,
    source: Option<SystemError>,
}

/// The reason of an error. Two are equal if they have one code, or one text where they have none.
#[derive(Clone, Debug)]
struct Reason {
    text: String,
    /// A name of the fault, and the entry on the way to the path at which it is. Set where `text` may
    /// say the fault in other words each time.
    code: Option<(&'static str, PathBuf)>,
}

impl Reason {
    /// Returns everything in which equal reasons agree.
    fn identity(&self) -> impl PartialEq + Hash {
        (&self.code, self.code.is_none().then_some(&self.text))
    }
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Reason {}

impl Hash for Reason {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// An error of the system. Two are equal if they are of one kind and have one number, where they have
/// any: many numbers have no kind of their own.
#[derive(Clone, Debug)]
pub struct SystemError(Arc<io::Error>);

impl From<io::Error> for SystemError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for SystemError {
    fn eq(&self, other: &Self) -> bool {
        (self.0.kind(), self.0.raw_os_error()) == (other.0.kind(), other.0.raw_os_error())
    }
}

impl Eq for SystemError {}

impl Hash for SystemError {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.kind(), self.0.raw_os_error()).hash(state);
    }
}

impl Error {
    /// Makes an error of `layer` without a path. `why` is lower case, cause then hint, and must
    /// hold no secret.
    pub fn new(layer: Layer, why: impl Into<String>) -> Self {
        Self { layer, path: None, line: None, reason: Reason { text: why.into(), code: None }, source: None }
    }

    /// Makes an error of `layer` about this line of a file; the reason begins with it.
    pub(crate) fn on_line(layer: Layer, line: usize, why: impl fmt::Display) -> Self {
        Self { line: Some(line), ..Self::new(layer, format!("line {line}: {why}")) }
    }

    /// Sets the file that the error is about.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the system's error that caused this one. The reason has to say it too.
    #[must_use]
    pub fn caused_by(mut self, error: io::Error) -> Self {
        self.source = Some(error.into());
        self
    }

    /// Sets the system's error behind a failure to read.
    pub(crate) fn with_source(mut self, source: Option<SystemError>) -> Self {
        self.source = source;
        self
    }

    /// Sets by what the error is known instead of by its text.
    pub(crate) fn known_by(mut self, code: Option<(&'static str, PathBuf)>) -> Self {
        self.reason.code = code;
        self
    }

    /// Returns the stage that rejected.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// Returns the file that the error is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the line of the file that the error is about, where there is one; the first is 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Returns the kind of the system's error behind this one, where there is one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source.as_ref().map(|source| source.0.kind())
    }

    /// Returns the reason without layer and path.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.reason.text
    }

    /// Renders the error in one line, without a limit on its length.
    #[cfg(feature = "ocsf")]
    pub(crate) fn whole(&self) -> String {
        self.rendered(usize::MAX, usize::MAX)
    }

    /// Renders the error in one line, with limits on the bytes of its path and of its reason.
    fn rendered(&self, path_shown: usize, why_shown: usize) -> String {
        let why = line::shortened(line::one_line(&self.reason.text), why_shown);
        match &self.path {
            Some(path) => {
                let path = line::shortened_path(line::one_line(path.display()), path_shown);
                format!("{}: {path}: {why}", self.layer)
            }
            None => format!("{}: {why}", self.layer),
        }
    }
}

/// A fact that an operator should know and that rejects nothing: the layer that it concerns, the
/// path, the reason.
///
/// As an [`Error`] it never contains key material (INV-10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning(Error);

impl Warning {
    /// Returns the same as an error.
    pub(crate) fn error(&self) -> &Error {
        &self.0
    }

    /// Makes a warning of `layer` without a path. `why` is as in [`Error::new`].
    pub fn new(layer: Layer, why: impl Into<String>) -> Self {
        Self(Error::new(layer, why))
    }

    /// Sets the file or directory that the warning is about.
    #[must_use]
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        Self(self.0.at(path))
    }

    /// Returns the layer that the warning concerns.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.0.layer()
    }

    /// Returns the file or directory that the warning is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path()
    }

    /// Returns the reason without layer and path.
    #[must_use]
    pub fn why(&self) -> &str {
        self.0.why()
    }
}

/// Makes the warning that this error is tolerated.
impl From<Error> for Warning {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered(PATH_SHOWN, WHY_SHOWN))
    }
}

/// Bytes of a path in a rendered error, and of its reason: together they leave room in the line of
/// an event.
const PATH_SHOWN: usize = 1024;
const WHY_SHOWN: usize = 2048;

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &*source.0 as _)
    }
}

/// Keeps the kind of the system's error; an error without one is of the kind `Other`.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind().unwrap_or(io::ErrorKind::Other), error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn hash(error: &Error) -> u64 {
        let mut hasher = DefaultHasher::new();
        error.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn inv11_errors_are_equal_if_the_same_went_wrong_in_the_same_place() {
        let read = |path: &str, at: &str, reason, why: &str| {
            Error::new(Layer::Read, why).at(path).known_by(Some((reason, at.into())))
        };
        let error = read("/tls/ca.crt", "/tls/ca.crt", "too large", "5000000 bytes are too many");
        let grown = read("/tls/ca.crt", "/tls/ca.crt", "too large", "5000001 bytes are too many");
        assert_eq!(error, grown);
        assert_eq!(hash(&error), hash(&grown));
        assert_ne!(error.to_string(), grown.to_string(), "the status shows the latest length");
        let denied = grown.clone().caused_by(io::ErrorKind::PermissionDenied.into());
        let others = [
            read("/tls/tls.crt", "/tls/ca.crt", "too large", "5000000 bytes are too many"),
            read("/tls/ca.crt", "/srv/ca.crt", "too large", "5000000 bytes are too many"),
            read("/tls/ca.crt", "/tls/ca.crt", "open", "5000000 bytes are too many"),
            Error::new(Layer::Read, "5000000 bytes are too many").at("/tls/ca.crt"),
            denied.clone(),
        ];
        for other in others {
            assert_ne!(error, other);
        }
        assert_ne!(denied, grown.clone().caused_by(io::ErrorKind::NotFound.into()));
        // EMFILE and EIO have no kinds of their own.
        let [full, broken] =
            [24, 5].map(|number| grown.clone().caused_by(io::Error::from_raw_os_error(number)));
        assert_ne!(full, broken);
        // Without a code, the text is the reason.
        let [one, two] = ["pair 1", "pair 2"].map(|why| Error::new(Layer::Config, why));
        assert_ne!(one, two);
        assert_eq!((&one, hash(&one)), (&one.clone(), hash(&one.clone())));
    }

    #[test]
    fn inv11_a_refusal_is_one_line_whatever_the_path() {
        let error = Error::new(Layer::Read, "cannot find (at /a\r\nCONFIG:RELOADED)")
            .at("/\nCONFIG:RELOADED [INFO]/é");
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        let expected = r"read: /\nCONFIG:RELOADED [INFO]/é: cannot find (at /a\r\nCONFIG:RELOADED)";
        assert_eq!(line, expected);
    }
}
