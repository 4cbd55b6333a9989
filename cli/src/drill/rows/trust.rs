//! Client CAs that change while clients connect.

use super::{Layout as L, TRUST, row};
use crate::drill::model::{
    Ca, Change, Fault, Files,
    Group::Trust,
    RENEW, Scenario, Start,
    Step::{Publish, Rewrite, Spoil},
    Who,
};

const BOTH: Start = Start { files: Files::Trust, trust: &[Ca::A, Ca::B], revoked: &[] };
const ADD_B: Change = Change::trust(&[Ca::A, Ca::B]);
const ONLY_A: Change = Change::trust(&[Ca::A]);
const B_BECOMES_C: Change = Change::trust(&[Ca::A, Ca::C]);

pub(super) const ROWS: &[Scenario] = &[
    row(
        Trust,
        "strangers-stay-out",
        "RFC 8446 section 4.4.2.4",
        "The pair is renewed; clients of a foreign CA and without a certificate are refused throughout.",
        L::Kubelet,
        &[Publish(RENEW), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::Foreign, Who::Anonymous]),
    row(
        Trust,
        "ca-added",
        "RFC 4210 section 4.4: a new CA is added before it is used",
        "A client CA is added; its clients are accepted from then on.",
        L::Kubelet,
        &[Publish(ADD_B), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::OfB]),
    row(
        Trust,
        "ca-added-in-place",
        "devsisters/checkpoint#58: the CA bundle is not reloaded at all",
        "The same; the bundle alone is written in place.",
        L::InPlace,
        &[Publish(ADD_B), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::OfB]),
    row(
        Trust,
        "ca-removed",
        "RFC 5280 section 6.1: the trust anchors are an input",
        "A client CA is removed; its clients are refused from then on.",
        L::Kubelet,
        &[Publish(ONLY_A), Publish(RENEW)],
    )
    .start(BOTH)
    .clients(&[Who::OfB]),
    row(
        Trust,
        "ca-removed-by-rename",
        "update-ca-certificates(8) writes a bundle and renames it",
        "The same; the bundle alone is renamed into place.",
        L::Rename,
        &[Publish(ONLY_A), Publish(RENEW)],
    )
    .start(BOTH)
    .clients(&[Who::OfB]),
    row(
        Trust,
        "pair-and-ca-together",
        "kubewarden policy-server#1091: one is reloaded without the other",
        "Pair and client CAs change in one set: no handshake shows the new leaf under the old CAs.",
        L::Kubelet,
        &[Publish(B_BECOMES_C.renewed()), Publish(ADD_B.renewed()), Publish(B_BECOMES_C.renewed())],
    )
    .start(BOTH)
    .clients(&[Who::OfB, Who::OfC]),
    row(
        Trust,
        "pair-and-ca-by-release",
        "kubewarden policy-server#1091",
        "The same with a release link.",
        L::Release,
        &[Publish(B_BECOMES_C.renewed()), Publish(ADD_B.renewed())],
    )
    .start(BOTH)
    .clients(&[Who::OfB, Who::OfC]),
    row(
        Trust,
        "ca-back-again",
        "RFC 5280 section 6.1",
        "A client CA is removed and comes back.",
        L::Kubelet,
        &[Publish(ONLY_A), Publish(ADD_B), Publish(ONLY_A)],
    )
    .start(BOTH)
    .clients(&[Who::OfB]),
    row(
        Trust,
        "empty-bundle",
        "open(2), O_TRUNC; a ConfigMap that is not filled yet",
        "The bundle is empty: nobody else is accepted, and nobody is locked out.",
        L::Kubelet,
        &[Spoil(Fault::EmptyBundle), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::Foreign, Who::Anonymous]),
    row(
        Trust,
        "no-pem-bundle",
        "RFC 7468 section 2",
        "The bundle has no PEM section.",
        L::Kubelet,
        &[Spoil(Fault::GarbageBundle), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::Foreign, Who::Anonymous]),
    row(
        Trust,
        "cut-bundle",
        "write(2); a full disk",
        "The bundle ends in the middle of its second certificate.",
        L::Kubelet,
        &[Spoil(Fault::CutBundle), Publish(RENEW)],
    )
    .start(BOTH)
    .clients(&[Who::OfB, Who::Anonymous]),
    row(
        Trust,
        "missing-bundle",
        "Kubernetes, a projected volume with an optional source",
        "The bundle is missing.",
        L::Kubelet,
        &[Spoil(Fault::MissingBundle), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::Foreign, Who::Anonymous]),
    row(
        Trust,
        "same-bundle-again",
        "kubelet writes what is there already",
        "The same files are published again.",
        L::Kubelet,
        &[Rewrite, Publish(RENEW)],
    )
    .start(BOTH)
    .clients(&[Who::OfB, Who::Foreign]),
];
