//! The reference: RFC 5280 section 6.3.3 as a table of lists, without a byte of DER, and wrong designs beside it.

use super::world::{Answer, Cert, Kind, List, Names, Scope, World};

/// Whether a list is about a certificate: section 6.3.3 (b)(2). A certificate without distribution points is taken to have
/// one of its issuer's name, which none of these lists has.
pub(crate) fn covers(list: &Kind, cert: &Cert) -> bool {
    match list.scope {
        Scope::All => true,
        Scope::Users => !cert.authority,
        Scope::Authorities => cert.authority,
        Scope::At(point) => cert.points.contains(&point),
    }
}

/// Whether a list names the certificates: an entry on hold counts until a later valid list of the same scope and key is
/// without it (section 5.3.1), any other for ever.
fn names(list: &List, world: &World<'_>) -> bool {
    let later = |other: &&List| other.later && !list.later && other.kind.like(&list.kind);
    let releases = |other: &List| {
        other.kind.names == Names::Nobody && (!other.kind.expired || world.policy.ignore_expiration)
    };
    match list.kind.names {
        Names::Nobody => false,
        Names::Revoked => true,
        Names::Held => !world.lists.iter().filter(later).any(releases),
    }
}

/// What becomes of a client by all lists that its issuer's key has signed: section 6.3.3 (f) and (g).
pub(crate) fn reference(world: &World<'_>, cert: &Cert) -> Answer {
    let of_issuer = || world.lists.iter().filter(|list| !list.kind.other_key);
    if !cert.authority || !world.policy.end_entity_only {
        if of_issuer().any(|list| names(list, world)) {
            return Answer::Revoked;
        }
        let covering = || of_issuer().filter(|list| covers(&list.kind, cert));
        let valid = covering().any(|list| !list.kind.expired || world.policy.ignore_expiration);
        return match covering().count() {
            _ if valid => Answer::In,
            0 if world.policy.allow_unknown => Answer::In,
            0 => Answer::Unknown,
            _ => Answer::Expired,
        };
    }
    Answer::In
}

/// The latest list of the issuer alone is asked, as where the first of a sorted row is taken. Breaks: INV-14
pub(crate) fn latest_alone(world: &World<'_>, cert: &Cert) -> Answer {
    let latest: Vec<_> = world.lists.iter().max_by_key(|list| list.later).copied().into_iter().collect();
    reference(&World { lists: &latest, ..*world }, cert)
}

/// The first list that is loaded is asked. Breaks: INV-14
pub(crate) fn first_alone(world: &World<'_>, cert: &Cert) -> Answer {
    reference(&World { lists: &world.lists[..1.min(world.lists.len())], ..*world }, cert)
}

/// Any list of the issuer stands in for one that covers the certificate. Breaks: INV-14
pub(crate) fn any_covers(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world
        .lists
        .iter()
        .map(|list| List { kind: Kind { scope: Scope::All, ..list.kind }, ..*list })
        .collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// Only a list that covers a certificate can name it. Breaks: INV-14
pub(crate) fn only_covering_names(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world.lists.iter().filter(|list| covers(&list.kind, cert)).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// What is allowed for an unknown status is allowed for an expired list. Breaks: INV-14
pub(crate) fn unknown_is_expired(world: &World<'_>, cert: &Cert) -> Answer {
    match reference(world, cert) {
        Answer::Expired if world.policy.allow_unknown => Answer::In,
        answer => answer,
    }
}

/// An expired list is no list. Breaks: INV-14
pub(crate) fn expired_is_gone(world: &World<'_>, cert: &Cert) -> Answer {
    let gone = |list: &&List| !list.kind.expired || world.policy.ignore_expiration;
    let lists: Vec<_> = world.lists.iter().filter(gone).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// An older list of the same scope does not count beside a newer one, whatever it says. Breaks: INV-14
pub(crate) fn newer_replaces(world: &World<'_>, cert: &Cert) -> Answer {
    let replaced = |list: &List| {
        world.lists.iter().any(|other| other.later && !list.later && other.kind.like(&list.kind))
    };
    let lists: Vec<_> = world.lists.iter().filter(|list| !replaced(list)).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// A list counts by its issuer's name, whoever signed it. Breaks: INV-14
pub(crate) fn name_is_enough(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world
        .lists
        .iter()
        .map(|list| List { kind: Kind { other_key: false, ..list.kind }, ..*list })
        .collect();
    reference(&World { lists: &lists, ..*world }, cert)
}
