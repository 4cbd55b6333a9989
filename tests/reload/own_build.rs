//! A build step of an embedder, which has no type of rustls: certificates in DER, and their
//! descriptions.
//!
//! Checks: INV-08, INV-11.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use rustls_reload::{Build, Builder, Built, Context, Error, Event, Files, Layer, Leaf, Reload};
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

use crate::common::{drain, quick};

const DAY: Duration = Duration::from_secs(86_400);

/// Publishes the bytes of one certificate in DER.
struct OwnBuild;

impl Build for OwnBuild {
    type Value = Vec<u8>;

    fn build(&mut self, files: &Files, _: &Context<'_, Vec<u8>>) -> Result<Built<Vec<u8>>, Error> {
        let (path, der) = files.iter().next().unwrap();
        let leaf = Leaf::from_der(der).map_err(|error| error.at(path))?;
        let mut built = Built::new(der.to_vec());
        built.leaf = Some(leaf);
        Ok(built)
    }
}

#[test]
fn inv08_a_build_step_of_an_embedder_describes_its_leaf() {
    let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
    let path = dir.path().join("leaf.der");
    let ca = Authority::root("CA");
    let issue = |name, days| {
        let subject = Subject::server(name).valid(now - DAY, now + days * DAY + DAY / 2);
        ca.issue(&subject, &PrivateKey::p256()).leaf
    };
    let (first, next) = (issue("first.example", 90), issue("next.example", 3));
    fs::write(&path, &first).unwrap();
    let reloader = Builder::new([&path], OwnBuild).timing(quick()).expiry_warnings([7 * DAY]).load().unwrap();
    let mut events = reloader.events();
    let described = |der: &[u8]| Leaf::from_der(der).unwrap();
    assert_eq!(described(&first).fingerprint.0, rustls_reload::internal::sha256(&first));
    assert_eq!(reloader.status().leaf, Some(described(&first)));
    assert_eq!(described(&first).names, ["first.example"]);
    let whole = Duration::from_secs(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    assert!(described(&first).not_after.abs_diff(whole + 90 * DAY + DAY / 2) <= Duration::from_secs(1));
    assert!(described(&first).not_before.abs_diff(whole - DAY) <= Duration::from_secs(1));

    fs::write(&path, &next).unwrap();
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    let reported = drain(&mut events);
    let published = reported.iter().any(|event| {
        matches!(&**event, Event::Published { old, new, .. }
            if *old == Some(described(&first)) && *new == Some(described(&next)))
    });
    assert!(published, "{reported:?}");
    // The dates are those of the description, so that the end is warned of.
    let expiring = reloader.status().expiring.unwrap();
    assert_eq!(expiring.certificate.not_after, described(&next).not_after);
}

#[test]
fn inv11_only_one_certificate_in_der_has_a_description() {
    let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
    let der = pair.leaf.as_ref();
    assert!(Leaf::from_der(der).is_ok());
    let doubled = [der, der].concat();
    for wrong in [&[][..], &der[..der.len() - 1], &doubled, pair.chain.as_bytes(), &pair.leaf[4..]] {
        let error = Leaf::from_der(wrong).unwrap_err();
        assert_eq!((error.layer(), error.path()), (Layer::Chain, None));
        assert_eq!(error.why(), "the leaf is not a well-formed certificate in DER");
    }
}
