//! CRLs that change while clients connect.

use super::{LISTS, Layout as L, row};
use crate::drill::model::{
    Ca, Change, Fault, Files,
    Group::Revocation,
    RENEW, Scenario, Start,
    Step::{Publish, Spoil, Watch},
    Who,
};

const REVOKED: Start = Start { revoked: &[Who::Leaver], ..LISTS };
const OF_BOTH: Start = Start { files: Files::Lists, trust: &[Ca::A, Ca::B], revoked: &[] };
const REVOKE: Change = Change::revoked(&[Who::Leaver]);
const REVOKE_TWO: Change = Change::revoked(&[Who::Leaver, Who::SecondLeaver]);

/// Returns the scenario of an invalid list, under which a revoked client stays refused.
macro_rules! fault {
    ($name:literal, $source:literal, $what:literal, $fault:ident) => {
        row(Revocation, $name, $source, $what, L::Kubelet, &[Spoil(Fault::$fault), Publish(RENEW)])
            .start(REVOKED)
            .clients(&[Who::Leaver])
    };
}

pub(super) const ROWS: &[Scenario] = &[
    row(
        Revocation,
        "revoked",
        "RFC 5280 section 6.3; emqx#9732: revoked clients are accepted until a restart",
        "A new list names a client, which is refused from then on.",
        L::Kubelet,
        &[Publish(REVOKE), Publish(RENEW)],
    )
    .start(LISTS)
    .clients(&[Who::Leaver]),
    row(
        Revocation,
        "revoked-in-place",
        "emqx#9732",
        "The same; the list alone is written in place.",
        L::InPlace,
        &[Publish(REVOKE), Publish(RENEW)],
    )
    .start(LISTS)
    .clients(&[Who::Leaver]),
    row(
        Revocation,
        "revoked-by-rename",
        "fetch-crl(8), curl(1) and mv(1)",
        "The same; the list alone is renamed into place.",
        L::Rename,
        &[Publish(REVOKE), Publish(RENEW)],
    )
    .start(LISTS)
    .clients(&[Who::Leaver]),
    row(
        Revocation,
        "revoked-with-a-renewal",
        "kubewarden policy-server#1091: one is reloaded without the other",
        "List and pair change in one set.",
        L::Kubelet,
        &[Publish(REVOKE.renewed()), Publish(REVOKE_TWO.renewed())],
    )
    .start(LISTS)
    .clients(&[Who::Leaver, Who::SecondLeaver]),
    row(
        Revocation,
        "one-after-the-other",
        "RFC 5280 section 5.2.3: each list has a number",
        "Each of two lists names one more client.",
        L::Rename,
        &[Publish(REVOKE), Publish(REVOKE_TWO)],
    )
    .start(LISTS)
    .clients(&[Who::Leaver, Who::SecondLeaver]),
    row(
        Revocation,
        "list-of-one-of-two-cas",
        "RFC 5280 section 6.3.3: the list of the certificate's issuer",
        "There are lists of two CAs; one of them names a client of its CA.",
        L::Kubelet,
        &[Publish(REVOKE), Publish(RENEW)],
    )
    .start(OF_BOTH)
    .clients(&[Who::Leaver, Who::OfB]),
    row(
        Revocation,
        "same-entries-in-a-new-list",
        "RFC 5280 section 5.1.2.5: lists are renewed before they end",
        "A new list has the entries of the old one; then the pair is renewed.",
        L::Kubelet,
        &[super::Step::Start(Change::relist()), Watch(500), Publish(RENEW)],
    )
    .start(REVOKED)
    .clients(&[Who::Leaver]),
    row(
        Revocation,
        "released",
        "RFC 5280 section 5.3.1, removeFromCRL and certificateHold",
        "A newer list names the client no more; it is accepted again.",
        L::Kubelet,
        &[Publish(Change::revoked(&[])), Publish(RENEW)],
    )
    .start(REVOKED)
    .clients(&[Who::Leaver]),
    fault!(
        "empty-list",
        "open(2), O_TRUNC; a full disk",
        "The file of the list is empty: the revoked client stays out.",
        EmptyList
    ),
    fault!("no-pem-list", "RFC 7468 section 6", "The file of the list has no PEM section.", GarbageList),
    fault!("cut-list", "write(2); a full disk", "The list ends in the middle.", CutList),
    fault!("missing-list", "rm(1)", "The list is missing.", MissingList),
    fault!(
        "list-of-another-key",
        "RFC 5280 section 6.3.3 (f) and (g): the signature is checked",
        "Another key has signed the list, which names nobody.",
        ForeignList
    ),
    fault!(
        "expired-list",
        "RFC 5280 section 5.1.2.5; icinga2#8501: a list expires",
        "The next list was due two hours ago; the served one is current.",
        ExpiredList
    )
    .advice(),
];
