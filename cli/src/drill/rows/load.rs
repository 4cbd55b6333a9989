//! Changes under load, and clients that are in the way.

use super::{Layout as L, TRUST, row};
use crate::drill::model::{
    Change, Fault,
    Group::Load,
    RENEW, Scenario,
    Step::{Answer, Burst, Finish, Hello, Open, Publish, Spoil, Stall},
    Who,
};

pub(super) const ROWS: &[Scenario] = &[
    row(
        Load,
        "many-clients",
        "RFC 8446 section 4.4.2",
        "Clients connect without a pause while a volume is updated five times.",
        L::Kubelet,
        &[Publish(RENEW), Publish(RENEW), Publish(RENEW), Publish(RENEW), Publish(RENEW)],
    )
    .heavy(),
    row(
        Load,
        "many-clients-in-place",
        "RFC 8446 section 4.4.2",
        "The same, in place.",
        L::InPlace,
        &[Publish(RENEW), Publish(RENEW), Publish(RENEW)],
    )
    .heavy(),
    row(
        Load,
        "many-clients-with-client-cas",
        "RFC 8446 section 4.4.2",
        "The same with client certificates, some of them of a foreign CA.",
        L::Kubelet,
        &[Publish(RENEW), Publish(Change::trust(&[super::Ca::A]).renewed()), Publish(RENEW)],
    )
    .start(TRUST)
    .clients(&[Who::Foreign])
    .heavy(),
    row(
        Load,
        "rotation-every-50-ms",
        "inotify(7)",
        "A release link is re-pointed 30 times, 50 ms apart.",
        L::Release,
        &[Burst(30, 50)],
    ),
    row(
        Load,
        "invalid-under-load",
        "harper#2382",
        "Invalid sets come while clients connect without a pause.",
        L::Kubelet,
        &[Publish(RENEW), Spoil(Fault::ForeignKey), Spoil(Fault::CutChain), Publish(RENEW)],
    )
    .heavy(),
    row(
        Load,
        "handshake-over-a-change",
        "RFC 8446 section 2: a handshake is several messages",
        "Handshakes begin before an update and end after it.",
        L::Kubelet,
        &[Hello, Publish(RENEW), Finish, Hello, Publish(RENEW), Finish],
    ),
    row(
        Load,
        "handshake-over-an-invalid-set",
        "RFC 8446 section 2",
        "Handshakes begin before an invalid set and end after it.",
        L::Kubelet,
        &[Hello, Spoil(Fault::ForeignKey), Finish, Publish(RENEW)],
    ),
    row(
        Load,
        "stalled-clients",
        "RFC 8446 section 5.1; slow clients in general",
        "Twenty clients never send more than three bytes while the pair is renewed.",
        L::Kubelet,
        &[Stall(20), Publish(RENEW), Publish(RENEW)],
    ),
    row(
        Load,
        "open-connections",
        "nginx, HAProxy: a reload that starts new processes",
        "Thirty open connections go on over three updates.",
        L::Kubelet,
        &[Open(30), Publish(RENEW), Answer, Publish(RENEW), Answer, Publish(RENEW), Answer],
    ),
    row(
        Load,
        "open-connections-in-place",
        "nginx, HAProxy: a reload that starts new processes",
        "The same, in place.",
        L::InPlace,
        &[Open(10), Publish(RENEW), Answer, Publish(RENEW), Answer],
    ),
];
