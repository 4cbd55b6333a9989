//! Invalid sets, each between two valid ones.

use super::{Layout as L, Step, row};
use crate::drill::model::{
    Fault,
    Group::Invalid,
    RENEW, Scenario,
    Step::{Answer, Burst, Open, Publish, Rewrite, Spoil},
};

/// Returns the scenario of one fault in a volume.
const fn fault(
    name: &'static str,
    source: &'static str,
    what: &'static str,
    steps: &'static [Step],
) -> Scenario {
    row(Invalid, name, source, what, L::Kubelet, steps)
}

/// The steps with one fault.
macro_rules! once {
    ($fault:ident) => {
        &[Open(1), Publish(RENEW), Spoil(Fault::$fault), Answer, Publish(RENEW)]
    };
}

pub(super) const ROWS: &[Scenario] = &[
    fault(
        "foreign-key",
        "SSL_CTX_check_private_key(3)",
        "The key is of another certificate.",
        once!(ForeignKey),
    ),
    fault("empty-chain", "open(2), O_TRUNC; a full disk", "The chain's file is empty.", once!(EmptyChain)),
    fault("empty-key", "open(2), O_TRUNC; a full disk", "The key's file is empty.", once!(EmptyKey)),
    fault("no-pem-chain", "RFC 7468 section 2", "The chain's file has no PEM section.", once!(GarbageChain)),
    fault("no-pem-key", "RFC 7468 section 2", "The key's file has no PEM section.", once!(GarbageKey)),
    fault("cut-chain", "write(2); a full disk", "The chain's file ends in the leaf.", once!(CutChain)),
    fault("cut-key", "write(2); a full disk", "The key's file ends in the key.", once!(CutKey)),
    fault("no-end-line", "RFC 7468 section 3", "The leaf's END line is missing.", once!(NoEnd)),
    fault(
        "der-chain",
        "RFC 7468 section 1; openssl-x509(1) -outform",
        "The chain is DER and not PEM.",
        once!(DerChain),
    ),
    fault(
        "swapped-files",
        "SSL_CTX_use_PrivateKey_file(3)",
        "Chain and key are in each other's file.",
        once!(Swapped),
    ),
    fault(
        "intermediate-first",
        "RFC 8446 section 4.4.2: the leaf comes first",
        "The intermediate stands before the leaf.",
        once!(IssuerFirst),
    ),
    fault("encrypted-key", "RFC 7468 section 11", "The key is encrypted.", once!(EncryptedKey)),
    fault(
        "expired-leaf",
        "RFC 5280 section 4.1.2.5",
        "The new leaf has expired, the served one has not.",
        once!(Expired),
    )
    .advice(),
    fault(
        "leaf-of-tomorrow",
        "RFC 5280 section 4.1.2.5",
        "The new leaf is valid from tomorrow on, the served one is valid.",
        once!(NotYetValid),
    )
    .advice(),
    fault(
        "missing-key",
        "Kubernetes, a Secret without tls.key",
        "The new volume has no key.",
        once!(MissingKey),
    ),
    fault(
        "missing-chain",
        "Kubernetes, a Secret without tls.crt",
        "The new volume has no chain.",
        once!(MissingChain),
    ),
    fault(
        "directory-in-the-place-of-the-key",
        "a bind mount whose source is missing is made as a directory",
        "The key's name is a directory.",
        once!(DirectoryKey),
    ),
    fault("fifo-in-the-place-of-the-key", "fifo(7): open(2) blocks", "The key is a FIFO.", once!(FifoKey)),
    row(
        Invalid,
        "foreign-key-in-place",
        "SSL_CTX_check_private_key(3)",
        "The key is of another certificate, and both are written in place.",
        L::InPlace,
        &[Open(1), Publish(RENEW), Spoil(Fault::ForeignKey), Answer, Publish(RENEW)],
    ),
    row(
        Invalid,
        "missing-key-renamed",
        "mv(1)",
        "The chain is renamed into place, and the key is not a file.",
        L::Release,
        &[Open(1), Publish(RENEW), Spoil(Fault::MissingKey), Answer, Publish(RENEW)],
    ),
    row(
        Invalid,
        "invalid-at-first",
        "harper#2382: a failed pass is never tried again",
        "The first update is invalid, the second is valid.",
        L::Kubelet,
        &[Spoil(Fault::ForeignKey), Publish(RENEW)],
    ),
    row(
        Invalid,
        "one-after-the-other",
        "harper#2382: a failed pass is never tried again",
        "Five invalid sets come one after the other.",
        L::Kubelet,
        &[
            Spoil(Fault::ForeignKey),
            Spoil(Fault::EmptyChain),
            Spoil(Fault::CutKey),
            Spoil(Fault::MissingKey),
            Spoil(Fault::GarbageChain),
            Publish(RENEW),
        ],
    ),
    row(
        Invalid,
        "taken-back",
        "harper#2382",
        "An invalid set is taken back: the served one is published once more.",
        L::Kubelet,
        &[Publish(RENEW), Spoil(Fault::ForeignKey), Rewrite, Publish(RENEW)],
    ),
    row(
        Invalid,
        "taken-back-in-place",
        "harper#2382",
        "The same, in place.",
        L::InPlace,
        &[Publish(RENEW), Spoil(Fault::CutChain), Rewrite, Publish(RENEW)],
    ),
    row(
        Invalid,
        "between-quick-updates",
        "inotify(7)",
        "Invalid sets come between bursts of valid ones.",
        L::Release,
        &[Burst(3, 30), Spoil(Fault::ForeignKey), Burst(3, 30), Spoil(Fault::EmptyKey), Burst(3, 30)],
    ),
];
