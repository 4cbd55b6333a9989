//! Roots of several bundles, and roots that are given as values: rustls gets all of them as one
//! store.
//!
//! Checks: INV-14, INV-16.

use std::fs;

use rustls::RootCertStore;
use rustls_reload::{ClientReloader, Event, Layer, Reload, Warning, internal::pem};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use crate::{
    common::{Generation, drain},
    root_cas::{
        Accepted, DIRECTORY, EMAIL, Ignored, Outcome, Warned, accepts, issued, issued_with, permitted, row,
        warned,
    },
    x509::{self, basic, der},
};

fn store<'a>(bundles: impl IntoIterator<Item = &'a String>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    for bundle in bundles {
        for root in pem::ca_bundle(bundle.as_bytes()).unwrap() {
            store.add(root).unwrap();
        }
    }
    store
}

/// Returns the number of roots that a warning of one name counts.
fn counted(warnings: &[Warning]) -> Vec<usize> {
    let count = |warning: &Warning| {
        let (before, _) = warning.why().split_once(" CAs with the subject CN=servers: ")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    warnings.iter().map(|warning| count(warning).unwrap_or_else(|| panic!("{warning}"))).collect()
}

/// rustls-webpki gives up after 100 signatures, wherever the roots come from.
#[test]
fn inv14_roots_of_one_name_are_counted_over_all_bundles() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| {
        fs::create_dir(dir.path().join(name)).unwrap();
        dir.path().join(name).join("ca.crt")
    });
    let beside = dir.path().join("one/more.crt");
    let roots: Vec<_> = (0..101).map(|_| Authority::root("servers")).collect();
    let last = roots[100].issue(&Subject::server("localhost"), &PrivateKey::p256());
    for (count, accepted, reported) in
        [(90, true, &[0_usize; 0][..]), (100, true, &[100]), (101, false, &[101])]
    {
        let roots: Vec<_> = roots[101 - count..].iter().map(|root| root.pem.clone()).collect();
        let (half, rest) = roots.split_at(45);
        fs::write(&one, half.concat()).unwrap();
        fs::write(&other, rest.concat()).unwrap();
        fs::write(&beside, rest.concat()).unwrap();
        for (how, client) in [
            ("two files of one set", ClientReloader::builder().roots(&one).roots(&beside)),
            ("two sets", ClientReloader::builder().roots(&one).roots(&other)),
            ("a value and a file", ClientReloader::builder().root_store(store(half)).roots(&other)),
        ] {
            let (client, warnings) = warned(client).unwrap();
            assert_eq!(accepts(&client.config(), &last), accepted, "{how}, {count}");
            assert_eq!(counted(&warnings), reported, "{how}: {warnings:?}");
            let first = if how == "a value and a file" { &other } else { &one };
            for warning in &warnings {
                assert_eq!((warning.layer(), warning.path()), (Layer::RootCa, Some(&**first)), "{warning}");
                assert!(warning.why().contains(" together have "), "{warning}");
            }
        }
    }
    // A value alone, beside a file of another name.
    let single = Generation::new(0);
    fs::write(&one, &single.ca.pem).unwrap();
    let all: Vec<_> = roots.iter().map(|root| root.pem.clone()).collect();
    let client = ClientReloader::builder().root_store(store(&all)).roots(&one);
    let (client, warnings) = warned(client).unwrap();
    assert!(!accepts(&client.config(), &last) && accepts(&client.config(), &single.server));
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.why().starts_with("`root_store` has 101 CAs with the subject CN=servers: "), "{warning}");
    assert_eq!(warning.path(), None);
}

#[test]
fn inv14_a_set_that_grows_is_counted_with_the_sets_that_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| {
        fs::create_dir(dir.path().join(name)).unwrap();
        dir.path().join(name).join("ca.crt")
    });
    let roots: Vec<_> = (0..101).map(|_| Authority::root("servers")).collect();
    let last = roots[100].issue(&Subject::server("localhost"), &PrivateKey::p256());
    let bundle = |roots: &[Authority]| roots.iter().map(|root| root.pem.as_str()).collect::<String>();
    fs::write(&one, bundle(&roots[..45])).unwrap();
    fs::write(&other, bundle(&roots[56..])).unwrap();
    let client = ClientReloader::builder().roots(&one).roots(&other);
    let (client, warnings) = warned(client).unwrap();
    assert_eq!(warnings, []);
    let mut events = client.events();
    let mut reported = || -> Vec<Warning> {
        let warning = |event: &Event| match event {
            Event::Warning { warning } => Some(warning.clone()),
            _ => None,
        };
        drain(&mut events).iter().filter_map(|event| warning(event)).collect()
    };
    for (from, accepted, wanted) in [(45, false, &[101_usize][..]), (46, true, &[100]), (56, true, &[])] {
        fs::write(&other, bundle(&roots[from..])).unwrap();
        assert_eq!(client.reload_now(), Reload::Reloaded);
        assert_eq!(accepts(&client.config(), &last), accepted, "{from}");
        assert_eq!(counted(&reported()), wanted, "{from}");
    }
    // What is served together stays as it is, so that another text of one bundle is no news.
    fs::write(&other, bundle(&roots[46..])).unwrap();
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert_eq!(counted(&reported()), [100]);
    fs::write(&one, format!("a comment\n{}", bundle(&roots[..45]))).unwrap();
    assert_eq!(client.reload_now(), Reload::Reloaded);
    assert_eq!(reported(), []);
}

/// A root with a server that it issued, and the outcome.
struct Case {
    name: &'static str,
    root: String,
    pair: Pair,
    here: Outcome,
}

fn cases() -> Vec<Case> {
    let ca = || row("values", [basic(true, None)], true, Accepted);
    let of = |name, (root, pair), here| Case { name, root, pair, here };
    let constrained = |base: &[u8]| row("values", permitted(base), true, Accepted);
    let directory = der(DIRECTORY, &[&x509::name("localhost")]);
    vec![
        of("usable", issued(&ca()), Accepted),
        of("a compressed point", issued_with(&ca(), &[], |key| key.reshaped(2)), Ignored("compressed point")),
        of(
            "a point beside the curve",
            issued_with(&ca(), &[], |key| key.reshaped(4)),
            Ignored("no point on the curve"),
        ),
        of("directory names", issued(&constrained(&directory)), Ignored("directory names")),
        of(
            "e-mail addresses",
            issued(&constrained(&der(EMAIL, &[b"example.com"]))),
            Warned("e-mail addresses"),
        ),
    ]
}

#[test]
fn inv14_inv16_roots_given_as_values_are_evaluated_as_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let [beside, spare] = [0, 1].map(Generation::new);
    let (path, file) = (dir.path().join("ca.crt"), dir.path().join("both.crt"));
    fs::write(&path, &spare.ca.pem).unwrap();
    let of_values = |bundles: &[&String]| {
        ClientReloader::builder().roots(&path).root_store(store(bundles.iter().copied()))
    };
    for Case { name, root, pair, here } in cases() {
        fs::write(&file, beside.ca.pem.clone() + &root).unwrap();
        let (_, in_file) = warned(ClientReloader::builder().roots(&file)).unwrap();
        let (client, warnings) = warned(of_values(&[&beside.ca.pem, &root])).unwrap();
        let accepted = !matches!(here, Ignored(_));
        assert_eq!(accepts(&client.config(), &pair), accepted, "{name}");
        for server in [&beside.server, &spare.server] {
            assert!(accepts(&client.config(), server), "{name}: the roots beside it");
        }
        // The reasons are those of the file, word for word.
        let reported: Vec<_> = warnings.iter().map(|warning| warning.why().to_owned()).collect();
        let wanted: Vec<_> =
            in_file.iter().map(|warning| format!("`root_store`: {}", warning.why())).collect();
        assert_eq!(reported, wanted, "{name}");
        assert!(warnings.iter().all(|warning| warning.layer() == Layer::RootCa && warning.path().is_none()));
        // They are reported once, and not at each reload.
        let mut events = client.events();
        fs::write(&path, format!("a comment\n{}", spare.ca.pem)).unwrap();
        assert_eq!(client.reload_now(), Reload::Reloaded);
        let again = drain(&mut events);
        assert!(again.iter().all(|event| !matches!(**event, Event::Warning { .. })), "{name}: {again:?}");
        fs::write(&path, &spare.ca.pem).unwrap();
        // Alone it is no store.
        match (here, warned(of_values(&[&root]))) {
            (Accepted, Ok(_)) => assert_eq!(reported.len(), 0, "{name}"),
            (Warned(words), Ok(_)) => assert!(reported[0].contains(words), "{name}: {reported:?}"),
            (Ignored(words), Err(error)) => {
                assert!(reported[0].contains(words), "{name}: {reported:?}");
                assert_eq!((error.layer(), error.path()), (Layer::RootCa, None), "{name}");
                let why = "no CA of `root_store` can be used, so no server certificate would be accepted: CA 1 of 1 ";
                assert!(error.why().starts_with(why) && error.why().contains(words), "{name}: {error}");
            }
            (_, loaded) => panic!("{name}: {here:?}, {:?}", loaded.map(drop)),
        }
    }
}

/// A value has no basic constraints and no key usage any more.
#[test]
fn inv14_a_value_that_is_no_ca_is_trusted_as_rustls_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.crt");
    fs::write(&path, &Generation::new(0).ca.pem).unwrap();
    let (root, pair) = issued(&row("no CA", [basic(false, None)], false, Ignored("CA:FALSE")));
    let client = ClientReloader::builder().roots(&path).root_store(store([&root]));
    let (client, warnings) = warned(client).unwrap();
    assert_eq!(warnings, []);
    assert!(accepts(&client.config(), &pair));
}
