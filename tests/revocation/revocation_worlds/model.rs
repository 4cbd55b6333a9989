//! The reference: RFC 5280 section 6.3.3 as a table of lists, without DER, and wrong designs.

use super::world::{Answer, Cert, Kind, List, Names, Scope, World};

/// Returns whether a list covers a certificate: section 6.3.3 (b)(2). A certificate without
/// distribution points counts as having one of its issuer's name, which none of these lists has.
pub(crate) fn covers(list: &Kind, cert: &Cert) -> bool {
    match list.scope {
        Scope::All => true,
        Scope::Users => !cert.authority,
        Scope::Authorities => cert.authority,
        Scope::At(point) => cert.points.contains(&point),
    }
}

/// Returns whether a list revokes the certificates. An entry on hold counts until a later valid
/// list of the same scope and key omits it (section 5.3.1); any other entry counts for ever.
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

/// Decides about a client by all lists that its issuer's key has signed: section 6.3.3 (f) and (g).
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

/// Asks only the latest list of the issuer, as a verifier that takes the first of a sorted row.
/// Breaks: INV-14
pub(crate) fn latest_alone(world: &World<'_>, cert: &Cert) -> Answer {
    let latest: Vec<_> = world.lists.iter().max_by_key(|list| list.later).copied().into_iter().collect();
    reference(&World { lists: &latest, ..*world }, cert)
}

/// Asks only the first loaded list. Breaks: INV-14
pub(crate) fn first_alone(world: &World<'_>, cert: &Cert) -> Answer {
    reference(&World { lists: &world.lists[..1.min(world.lists.len())], ..*world }, cert)
}

/// Accepts any list of the issuer as one that covers the certificate. Breaks: INV-14
pub(crate) fn any_covers(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world
        .lists
        .iter()
        .map(|list| List { kind: Kind { scope: Scope::All, ..list.kind }, ..*list })
        .collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// Lets only a list that covers a certificate revoke it. Breaks: INV-14
pub(crate) fn only_covering_names(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world.lists.iter().filter(|list| covers(&list.kind, cert)).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// Allows an expired list where an unknown status is allowed. Breaks: INV-14
pub(crate) fn unknown_is_expired(world: &World<'_>, cert: &Cert) -> Answer {
    match reference(world, cert) {
        Answer::Expired if world.policy.allow_unknown => Answer::In,
        answer => answer,
    }
}

/// Ignores an expired list. Breaks: INV-14
pub(crate) fn expired_is_gone(world: &World<'_>, cert: &Cert) -> Answer {
    let gone = |list: &&List| !list.kind.expired || world.policy.ignore_expiration;
    let lists: Vec<_> = world.lists.iter().filter(gone).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// Ignores an older list of the same scope beside a newer one. Breaks: INV-14
pub(crate) fn newer_replaces(world: &World<'_>, cert: &Cert) -> Answer {
    let replaced = |list: &List| {
        world.lists.iter().any(|other| other.later && !list.later && other.kind.like(&list.kind))
    };
    let lists: Vec<_> = world.lists.iter().filter(|list| !replaced(list)).copied().collect();
    reference(&World { lists: &lists, ..*world }, cert)
}

/// Accepts a list by its issuer's name, whichever key signed it. Breaks: INV-14
pub(crate) fn name_is_enough(world: &World<'_>, cert: &Cert) -> Answer {
    let lists: Vec<_> = world
        .lists
        .iter()
        .map(|list| List { kind: Kind { other_key: false, ..list.kind }, ..*list })
        .collect();
    reference(&World { lists: &lists, ..*world }, cert)
}
