//! Sessions over changes: kept where nothing of the trust changes, ended where it shrinks.

use super::{LISTS, Layout as L, Step, TRUST, row};
use crate::drill::model::{
    Ca, Change, Fault, Files,
    Group::Sessions,
    RENEW, Scenario, Start,
    Step::{Ends, Join, Publish, Resumes, Rewrite, Spoil},
    Who::{Leaver, Member, OfB},
};

const BOTH: Start = Start { files: Files::Trust, trust: &[Ca::A, Ca::B], revoked: &[] };
const ONLY_A: Change = Change::trust(&[Ca::A]);

const OVER_REWRITES: &[Step] = &[Join(Member), Rewrite, Resumes(Member), Rewrite, Resumes(Member)];

pub(super) const ROWS: &[Scenario] = &[
    row(
        Sessions,
        "same-bytes-in-a-volume",
        "RFC 8446 section 2.2; kubelet writes what is there already",
        "The served files are published again: sessions resume.",
        L::Kubelet,
        OVER_REWRITES,
    ),
    row(
        Sessions,
        "same-bytes-in-place",
        "RFC 5077 section 3.1",
        "The same, in place.",
        L::InPlace,
        OVER_REWRITES,
    ),
    row(
        Sessions,
        "same-bytes-with-client-cas",
        "RFC 8446 section 2.2",
        "The same with clients that were verified.",
        L::Rename,
        OVER_REWRITES,
    )
    .start(TRUST),
    row(
        Sessions,
        "invalid-set",
        "RFC 8446 section 2.2",
        "An invalid set comes and goes: sessions resume.",
        L::Kubelet,
        &[Join(Member), Spoil(Fault::ForeignKey), Resumes(Member), Rewrite, Resumes(Member)],
    ),
    row(
        Sessions,
        "renewal",
        "RFC 8446 section 4.6.1: a ticket does not depend on the certificate",
        "The pair is renewed: sessions resume.",
        L::Kubelet,
        &[Join(Member), Publish(RENEW), Resumes(Member), Publish(RENEW), Resumes(Member)],
    )
    .advice(),
    row(
        Sessions,
        "renewal-with-client-cas",
        "RFC 8446 section 4.6.1",
        "The pair is renewed under the same client CAs: sessions resume.",
        L::Kubelet,
        &[Join(Member), Publish(RENEW), Resumes(Member)],
    )
    .start(TRUST)
    .advice(),
    row(
        Sessions,
        "ca-removed",
        "golang/go#77217, project-oak/oak#5167: sessions outlive the CA that they were verified by",
        "A client CA is removed: no session of its clients resumes.",
        L::Kubelet,
        &[Join(OfB), Publish(ONLY_A), Ends(OfB)],
    )
    .start(BOTH)
    .clients(&[OfB]),
    row(
        Sessions,
        "ca-removed-in-place",
        "golang/go#77217",
        "The same; the bundle alone is written in place.",
        L::InPlace,
        &[Join(OfB), Publish(ONLY_A), Ends(OfB)],
    )
    .start(BOTH)
    .clients(&[OfB]),
    row(
        Sessions,
        "ca-removed-with-a-renewal",
        "golang/go#77217",
        "Pair and client CAs change in one set.",
        L::Release,
        &[Join(OfB), Publish(ONLY_A.renewed()), Ends(OfB)],
    )
    .start(BOTH)
    .clients(&[OfB]),
    row(
        Sessions,
        "ca-replaced",
        "golang/go#77217",
        "Another client CA takes the place of the first.",
        L::Kubelet,
        &[Join(OfB), Publish(Change::trust(&[Ca::A, Ca::C])), Ends(OfB)],
    )
    .start(BOTH)
    .clients(&[OfB]),
    row(
        Sessions,
        "revoked",
        "RFC 5280 section 6.3; golang/go#77217",
        "A list names the client: its session does not resume.",
        L::Kubelet,
        &[Join(Leaver), Publish(Change::revoked(&[Leaver])), Ends(Leaver)],
    )
    .start(LISTS)
    .clients(&[Leaver]),
    row(
        Sessions,
        "revoked-in-place",
        "golang/go#77217",
        "The same; the list alone is written in place.",
        L::InPlace,
        &[Join(Leaver), Publish(Change::revoked(&[Leaver])), Ends(Leaver)],
    )
    .start(LISTS)
    .clients(&[Leaver]),
    row(
        Sessions,
        "new-list-with-the-same-entries",
        "RFC 5280 section 5.1.2.5: lists are renewed before they end",
        "A list is renewed: sessions resume.",
        L::Kubelet,
        &[Join(Member), Publish(Change::relist().renewed()), Resumes(Member)],
    )
    .start(LISTS)
    .advice(),
];
