//! Publications that are interrupted.

use super::{LISTS, Layout as L, TRUST, row};
use crate::drill::model::{
    Ca, Change,
    Cut::{BeforeCommit, Empty, Files, FirstSection, Middle},
    Group::Torn,
    RENEW, Scenario,
    Stay::{Brief, Long},
    Step::{Abandon, Interrupt, Publish},
    Who,
};

/// A new pair, and another client CA.
const PAIR_AND_CA: Change = Change::trust(&[Ca::A, Ca::C]).renewed();

pub(super) const ROWS: &[Scenario] = &[
    row(
        Torn,
        "chain-without-key",
        "harper#2382, certinel#14: chain and key are written one after the other",
        "The new chain is there, the new key comes later.",
        L::InPlace,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "key-without-chain",
        "harper#2382",
        "The new key is there, the new chain comes later.",
        L::InPlaceKeyFirst,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "renamed-chain-without-key",
        "kroxylicious#4939: each file raises an event of its own",
        "The new chain is renamed into place, the new key later.",
        L::Rename,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "renamed-key-without-chain",
        "kroxylicious#4939",
        "The new key is renamed into place, the new chain later.",
        L::RenameKeyFirst,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "one-link-of-two",
        "certbot, storage.py: links are updated one by one",
        "The link of the chain is new, that of the key is old.",
        L::Certbot,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "key-link-of-two",
        "dehydrated: the key's link comes first",
        "The link of the key is new, that of the chain is old.",
        L::Relink,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "empty-chain",
        "open(2), O_TRUNC",
        "The chain is truncated, and written later.",
        L::InPlace,
        &[Interrupt(RENEW, Empty(0), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "half-a-chain",
        "write(2)",
        "The chain ends in the middle of a certificate.",
        L::InPlace,
        &[Interrupt(RENEW, Middle(0), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "empty-key",
        "open(2), O_TRUNC",
        "The key is truncated, and written later.",
        L::InPlace,
        &[Interrupt(RENEW, Empty(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "half-a-key",
        "write(2)",
        "The key ends in the middle.",
        L::InPlace,
        &[Interrupt(RENEW, Middle(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "leaf-without-intermediate",
        "RFC 8446 section 4.4.2; write(2)",
        "The key is new, and of the chain only the leaf is written: a valid pair that is not whole.",
        L::InPlaceKeyFirst,
        &[Interrupt(RENEW, FirstSection(1), Brief), Publish(RENEW)],
    ),
    row(
        Torn,
        "one-file-without-the-key",
        "HAProxy, crt",
        "Of chain and key in one file, half is written.",
        L::OneFileInPlace,
        &[Interrupt(RENEW, Middle(0), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "volume-before-its-rename",
        "Kubernetes, atomic_writer.go",
        "The new directory of a volume is complete, and `..data` is renamed later.",
        L::Kubelet,
        &[Interrupt(RENEW, BeforeCommit, Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "release-before-its-rename",
        "rename(2)",
        "The new release is complete, and the link is renamed later.",
        L::Release,
        &[Interrupt(RENEW, BeforeCommit, Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "volume-abandoned",
        "Kubernetes, atomic_writer.go after a crash of the kubelet",
        "An update of a volume is never finished, and the next one is.",
        L::Kubelet,
        &[Abandon(RENEW, BeforeCommit), Publish(RENEW)],
    ),
    row(
        Torn,
        "writer-dies",
        "kill(2), a full disk",
        "A writer ends in the middle of the chain; the next one writes everything.",
        L::InPlace,
        &[Abandon(RENEW, Middle(0)), Publish(RENEW), Publish(RENEW)],
    ),
    row(
        Torn,
        "writer-dies-between-files",
        "kill(2)",
        "A writer ends between chain and key; the next one writes everything.",
        L::Rename,
        &[Abandon(RENEW, Files(1)), Publish(RENEW), Publish(RENEW)],
    ),
    row(
        Torn,
        "directory-half-filled",
        "rm(1), mkdir(1), cp(1)",
        "The directory is made again, and the key comes later.",
        L::Remake,
        &[Interrupt(RENEW, Files(1), Long), Publish(RENEW)],
    ),
    row(
        Torn,
        "pair-before-its-client-ca",
        "kubewarden policy-server#1091: pair and client CA are reloaded one by one",
        "The pair of a new set is there, and its client CAs come 200 ms later.",
        L::InPlace,
        &[Interrupt(PAIR_AND_CA, Files(2), Brief), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::OfC]),
    row(
        Torn,
        "half-a-bundle",
        "write(2)",
        "Of two client CAs one is written, and the other 200 ms later.",
        L::InPlace,
        &[Interrupt(PAIR_AND_CA, FirstSection(2), Brief), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::OfC]),
    row(
        Torn,
        "half-a-list",
        "write(2)",
        "The CRL ends in the middle.",
        L::InPlace,
        &[Interrupt(Change::revoked(&[Who::Leaver]).renewed(), Middle(2), Long), Publish(RENEW)],
    )
    .start(LISTS)
    .clients(&[Who::Leaver]),
];
