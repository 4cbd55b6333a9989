//! Texts about the CAs of a bundle, which depend on the peers that these verify.

use crate::report::error::Layer;

/// The peers that the CAs of a bundle verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    /// The clients of a server.
    Clients,
    /// The servers of a client.
    Servers,
}

impl Peers {
    /// Returns the layer that rejects such a bundle.
    pub(crate) fn layer(self) -> Layer {
        match self {
            Self::Clients => Layer::ClientCa,
            Self::Servers => Layer::RootCa,
        }
    }

    fn choose<T>(self, clients: T, servers: T) -> T {
        match self {
            Self::Clients => clients,
            Self::Servers => servers,
        }
    }

    /// Formats the error that no CA of this origin is usable.
    pub(super) fn none_usable(self, origin: &str) -> String {
        match self {
            Self::Clients => {
                format!("no CA of {origin} can be used, so no client certificate would be accepted")
            }
            Self::Servers => {
                format!("no CA of {origin} can be used, so no server certificate would be accepted")
            }
        }
    }

    /// Formats the warning that a certificate of a CA is ignored. `used` says whether another
    /// certificate of that CA is not.
    pub(super) fn ignored(self, used: bool) -> &'static str {
        if used {
            return "is ignored, while another certificate of this name and key is not";
        }
        self.choose(
            "is ignored, so no client is accepted by it",
            "is ignored, so no server certificate is accepted by it",
        )
    }

    /// Formats the warning that `count` CAs share a name, of which rustls tries `limit` reliably.
    /// `have` is the beginning of the sentence: their origin and the verb.
    pub(super) fn crowded(self, have: &str, count: usize, subject: &str, limit: usize) -> String {
        match self {
            Self::Clients => format!(
                "{have} {count} CAs with the subject {subject}: rustls gives up on a client after \
                 100 signatures, and tries them in their order. A client of a later one may be rejected, \
                 so keep {limit} of a name at most"
            ),
            Self::Servers => format!(
                "{have} {count} CAs with the subject {subject}: rustls gives up on a server after \
                 100 signatures, and tries them in their order. A server certificate of a later one may \
                 be rejected, so keep {limit} of a name at most"
            ),
        }
    }

    /// Formats the warning about name constraints of these kinds. `used` says whether there is
    /// another certificate of that CA, with other constraints.
    pub(super) fn limited(self, kinds: &str, used: bool) -> String {
        let effect = if used {
            "another certificate of this name and key has other constraints, or none, and may accept such a chain"
        } else {
            self.choose(
            "by this CA it accepts no client whose chain has a name of that kind, whatever the name",
            "by this CA it accepts no server certificate whose chain has a name of that kind, whatever the name",
        )
        };
        format!("has name constraints that rustls cannot apply, on {kinds}: {effect}")
    }

    /// Formats the warning about a critical extension.
    pub(super) fn extension(self, id: &str) -> String {
        let effect = self.choose(
            "which rustls ignores in a client CA: no client is rejected for it",
            "which rustls ignores in a root: no server certificate is rejected for it",
        );
        format!("has the critical extension {id}, {effect}")
    }

    pub(super) fn malformed_constraints(self) -> &'static str {
        self.choose(
            "its name constraints are malformed: rustls accepts no client by such a CA",
            "its name constraints are malformed: rustls accepts no server certificate by such a CA",
        )
    }

    pub(super) fn constrained_directories(self) -> &'static str {
        self.choose(
            "it has name constraints on directory names, which rustls cannot apply: it accepts no client by \
             such a CA",
            "it has name constraints on directory names, which rustls cannot apply: it accepts no server \
             certificate by such a CA",
        )
    }
}
