//! CRLs that cannot be used: rejected as a whole, and never replaced by no list.

use std::{fs, path::Path, sync::Arc};

use super::{HOUR, World, list, over, server};
use crate::common::{
    self, InvalidUpdate, Volume,
    invalid_update::{instead, invalidate, link},
    refused,
};
use rustls_reload::{Event, Layer, Reload};
use rustls_reload_testkit::{Authority, CrlVariant};

/// Returns the ways to break a valid file of lists.
fn broken(world: &World) -> Vec<InvalidUpdate> {
    let put = |what, layer, bytes: Vec<u8>| {
        invalidate(what, layer, "ca.crl", move |path| fs::write(path, &bytes).unwrap())
    };
    let other =
        |what, make: fn(&Path)| invalidate(what, Layer::Read, "ca.crl", move |path| instead(path, make));
    let good = world.lists(&[&world.bad], 9);
    let malformed = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    let of = |name| list(&Authority::root(name), &[], 9).pem.into_bytes();
    let mut all = vec![
        other("missing", |_| {}),
        other("a directory", |path| fs::create_dir(path).unwrap()),
        other("a link to nothing", |path| link("nowhere", path)),
        other("a device", |path| link("/dev/null", path)),
        put("empty", Layer::Pem, Vec::new()),
        put("text", Layer::Pem, b"nobody is revoked\n".to_vec()),
        put("cut", Layer::Pem, good.as_bytes()[..good.len() / 2].to_vec()),
        put("a certificate", Layer::Pem, world.of.ca.pem.clone().into()),
        put("no base64", Layer::Pem, good.replacen("MI", "*I", 1).into()),
        put("malformed", Layer::Crl, malformed.into()),
        put("one malformed of two", Layer::Crl, format!("{good}{malformed}").into()),
        put("cut DER", Layer::Crl, list(&world.of.ca, &[], 9).der[..100].to_vec()),
        put("signed by another key of that name", Layer::Crl, of("CA 0")),
        put("of a stranger alone", Layer::Crl, of("stranger")),
        put("expired", Layer::Crl, world.of.ca.crl(&[], over(), 9).pem.into()),
    ];
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0 {
        println!("not done: a file that may not be read, since root may");
    } else {
        let nobody = || std::os::unix::fs::PermissionsExt::from_mode(0o000);
        let shut = move |path: &Path| fs::set_permissions(path, nobody()).unwrap();
        all.push(invalidate("unreadable", Layer::Read, "ca.crl", shut));
    }
    all
}

#[test]
fn inv03_a_list_that_cannot_be_used_is_a_refusal_and_never_no_list() {
    let world = World::new();
    let good = world.lists(&[&world.bad], 1);
    let mut volume = Volume::new(&world.files(&good));
    let reloader =
        server(&volume).timing(rustls_reload::Timing { poll: HOUR, ..common::quick() }).load().unwrap();
    let mut events = reloader.events();
    reloader.start().unwrap();
    common::started(&mut events);
    let before = reloader.current();
    for InvalidUpdate { what, layer, invalidate, .. } in broken(&world) {
        volume.publish_invalid(&world.files(&world.lists(&[], 2)), |payload| invalidate(payload));
        let error = refused(&mut events);
        assert_eq!(
            (error.layer(), error.path()),
            (layer, Some(volume.path("ca.crl").as_path())),
            "{what}: {error}"
        );
        assert!(Arc::ptr_eq(&before, &reloader.current()), "{what}");
        assert_eq!(world.let_in(&reloader, [&world.bad, &world.good]), [false, true], "{what}");
        assert_eq!(reloader.status().refused.unwrap().error, error, "{what}");
        // A first load is as strict, except about dates and about lists that were served before.
        let first = server(&volume).load().map(|server| world.let_in(&server, [&world.bad, &world.good]));
        match (what, first) {
            ("expired" | "of a stranger alone", first) => {
                assert_eq!(first.unwrap(), [false, false], "{what}")
            }
            (_, first) => assert_eq!(first.unwrap_err(), error, "{what}"),
        }
        volume.publish(&world.files(&good));
        common::expect(&mut events, "recovery", |event| {
            matches!(event, Event::Recovered { .. }).then_some(())
        });
    }
}

/// Returns the words of the rejection of a CRL of this kind; `None` if it is accepted.
fn says(odd: CrlVariant) -> Option<&'static str> {
    Some(match odd {
        CrlVariant::Delta => "is a delta CRL",
        CrlVariant::Indirect => "is an indirect CRL",
        CrlVariant::SomeReasons => "is for some reasons of revocation only",
        CrlVariant::CriticalExtension | CrlVariant::CriticalEntry => "has a critical extension",
        CrlVariant::Version1 => "is of version 1",
        CrlVariant::NoNextUpdate => "has no nextUpdate",
        CrlVariant::LongNumber => "has a CRL number that is negative, longer than 20 bytes or malformed",
        CrlVariant::NoExtensions => "has no extensions",
        CrlVariant::AttributeCertificates => "is for attribute certificates only",
        CrlVariant::RelativeName => "names its distribution point relative to its issuer",
        _ => return None,
    })
}

#[test]
fn inv02_crl_of_unusable_scope_is_rejected_and_others_keep_to_it() {
    let world = World::new();
    let mut volume = Volume::new(&world.files(&world.lists(&[], 1)));
    let reloader = server(&volume).load().unwrap();
    let usual = list(&world.of.ca, &[&world.bad], 5);
    for odd in CrlVariant::ALL {
        let before = reloader.current();
        // A rejected CRL is the second of its file.
        let (says, made) = (says(odd), world.of.ca.odd_crl(&usual, odd).pem);
        let (first, line) =
            says.map_or((String::new(), 1), |_| (usual.pem.clone(), usual.pem.lines().count() + 1));
        volume.publish_in_one_tick(&world.files(&(first + &made)));
        let answer = reloader.reload_now();
        match odd {
            CrlVariant::NoNumber => {
                assert_eq!(answer, Reload::Reloaded, "{odd:?}");
                assert_eq!(world.let_in(&reloader, [&world.bad, &world.good]), [false, true], "{odd:?}");
            }
            // Neither list covers the clients, whose certificates name no distribution point, so
            // that their status is unknown.
            CrlVariant::EndEntities | CrlVariant::Authorities => {
                assert_eq!(answer, Reload::Reloaded, "{odd:?}");
                assert_eq!(world.let_in(&reloader, [&world.bad, &world.good]), [false, false], "{odd:?}");
            }
            _ => {
                let Reload::Refused(error) = answer else { panic!("{odd:?}: {answer:?}") };
                let says = format!("line {line}: CRL 2 of 2 {}", says.unwrap_or("is accepted"));
                assert!(error.why().starts_with(&says), "{odd:?}: {error}");
                assert_eq!(
                    (error.layer(), error.path()),
                    (Layer::Crl, Some(volume.path("ca.crl").as_path()))
                );
                assert!(Arc::ptr_eq(&before, &reloader.current()), "{odd:?}");
            }
        }
    }
}

#[test]
fn a_list_without_client_cas_is_an_error_at_the_start() {
    let world = World::new();
    let volume = Volume::new(&world.files(&world.lists(&[], 1)));
    let error = volume.server().crl(volume.path("ca.crl")).load().unwrap_err();
    assert_eq!((error.layer(), error.path()), (Layer::Settings, Some(volume.path("ca.crl").as_path())));
}
