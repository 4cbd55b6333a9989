//! Every small world of CRLs: the verifier decides as RFC 5280 section 6.3.3 does, and
//! where `openssl verify` decides differently, the reason is known.
//!
//! Checks: INV-14. `REVOCATION_WORLDS=all` runs every policy, and asks openssl about every world;
//! see `scripts/revocation-worlds`.

mod model;
mod openssl;
mod world;

use std::{io::Write as _, sync::Arc, thread};

use rustls::{
    pki_types::CertificateRevocationListDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_reload_harness::{RevocationPolicy, settings};
use world::{Answer, Cert, Factory, List, World, ask, list_sets, policies};

fn all() -> bool {
    settings::is("REVOCATION_WORLDS", "all")
}

/// Counts of answers that differ from the reference.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    worlds: usize,
    handshakes: usize,
    different: usize,
    /// Clients that are let in and should be refused.
    fail_open: usize,
}

/// Asks about every certificate in worlds with these policies.
fn score(
    factory: &Factory,
    policies: &[RevocationPolicy],
    answer: impl Fn(&World<'_>, usize, &Cert) -> Answer,
) -> Score {
    let mut score = Score::default();
    for lists in list_sets() {
        for policy in policies {
            let world = World { lists: &lists, policy: *policy };
            score.worlds += 1;
            for (i, (cert, _)) in factory.certs.iter().enumerate() {
                let (reported, right) = (answer(&world, i, cert), model::reference(&world, cert));
                score.handshakes += 1;
                score.different += usize::from(reported != right);
                score.fail_open += usize::from(reported == Answer::In && right != Answer::In);
            }
        }
    }
    score
}

/// Engine: generated.
#[test]
fn inv14_every_small_world_is_decided_as_rfc_5280_says() {
    let factory = Factory::new();
    let policies = policies();
    // The long tier adds combinations of two policies, and the check of the client's own
    // certificate alone.
    let policies = if all() { &policies[..] } else { &policies[..3] };
    let (mut worlds, mut handshakes) = (0, 0);
    let sets = list_sets();
    thread::scope(|scope| {
        let halves = sets.chunks(sets.len().div_ceil(2)).map(|sets| {
            let factory = &factory;
            scope.spawn(move || {
                let mut asked = (0, 0);
                for lists in sets {
                    let verifiers = factory.verifiers(lists);
                    for policy in policies {
                        let world = World { lists, policy: *policy };
                        let verifier = verifiers(*policy);
                        asked.0 += 1;
                        for (cert, chain) in &factory.certs {
                            let (reported, right) = (ask(&*verifier, chain), model::reference(&world, cert));
                            assert_eq!(reported, right, "{cert:?} in {world:?}");
                            asked.1 += 1;
                        }
                    }
                }
                asked
            })
        });
        for half in halves.collect::<Vec<_>>() {
            let asked = half.join().unwrap();
            (worlds, handshakes) = (worlds + asked.0, handshakes + asked.1);
        }
    });
    // Printed past the capture of passing tests.
    let _ = writeln!(std::io::stderr(), "revocation: {worlds} worlds, {handshakes} decisions, fail-open = 0");
    assert_eq!(handshakes, 8 * policies.len() * (24 + 2 * 24 * 24));
}

/// The verifier of rustls with the lists ordered from the newest on: the design that the present
/// one replaced. Breaks: INV-14
fn stock(factory: &Factory, world: &World<'_>) -> Arc<dyn ClientCertVerifier> {
    let mut lists: Vec<&List> = world.lists.iter().collect();
    lists.sort_by_key(|list| !list.later);
    let lists = lists.into_iter().map(|list| factory.list(list)).chain(&factory.of_intermediates);
    let lists: Vec<CertificateRevocationListDer<'static>> = lists.map(|list| list.der.clone()).collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(factory.root.der().clone()).unwrap();
    roots.add(factory.other.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
    if world.policy.allow_unknown {
        builder = builder.allow_unknown_revocation_status();
    }
    if !world.policy.ignore_expiration {
        builder = builder.enforce_revocation_expiration();
    }
    builder.build().unwrap()
}

#[test]
fn inv14_stock_verifier_with_newest_list_first_is_caught() {
    let factory = Factory::new();
    // These are the kinds of scope that it accepts.
    let takes = |list: &List| !matches!(list.kind.scope, world::Scope::Users | world::Scope::Authorities);
    let mut fail_open = 0;
    for lists in list_sets().iter().filter(|lists| lists.iter().all(takes)).step_by(5) {
        let world = World { lists, policy: RevocationPolicy::default() };
        let verifier = stock(&factory, &world);
        for (cert, chain) in &factory.certs {
            let reported =
                verifier.verify_client_cert(&chain[0], &chain[1..], rustls::pki_types::UnixTime::now());
            fail_open += usize::from(reported.is_ok() && model::reference(&world, cert) != Answer::In);
        }
    }
    println!("the stock verifier lets {fail_open} in that should not be");
    assert!(fail_open > 0, "a wrong design is not caught");
}

#[test]
fn inv14_wrong_designs_differ_from_the_reference() {
    type Design = fn(&World<'_>, &Cert) -> Answer;
    let factory = Factory::new();
    let policies = policies();
    let right = score(&factory, &policies, |world, _, cert| model::reference(world, cert));
    assert_eq!((right.different, right.fail_open), (0, 0));
    let designs: [(&str, Design, bool); 8] = [
        ("the latest list alone", model::latest_alone, true),
        ("the first list alone", model::first_alone, true),
        ("any list covers", model::any_covers, true),
        ("only a covering list names", model::only_covering_names, true),
        ("an unknown status and an expired list are one", model::unknown_is_expired, true),
        ("an expired list is no list", model::expired_is_gone, true),
        ("a newer list replaces an older one", model::newer_replaces, true),
        ("a list counts by its issuer's name", model::name_is_enough, true),
    ];
    for (what, design, opens) in designs {
        let score = score(&factory, &policies, |world, _, cert| design(world, cert));
        println!("{what}: {score:?}");
        assert!(score.different > 0 && (score.fail_open > 0) == opens, "{what}: {score:?}");
    }
}

/// Engine: generated.
#[test]
fn inv14_openssl_lets_nobody_be_refused_without_reason() {
    let factory = Factory::new();
    let sets = list_sets();
    let step = if all() { 1 } else { 59 };
    let found = openssl::compare(&factory, sets.iter().step_by(step));
    println!("{found:#?}");
    assert!(found.asked > 100, "openssl was not asked");
    assert_eq!(found.unexplained, Vec::<String>::new());
}
