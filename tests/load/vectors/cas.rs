//! Bundles of client CAs. One unusable block makes the whole bundle refused, because leaving it out
//! would change the trust.

use std::time::SystemTime;

use rustls_reload::Layer;
use rustls_reload_testkit::Authority;

use super::{
    Expect::{self, Refused, Served},
    Vector,
    asn1::{self, Certificate, common_name, extension, hours, sequence, value, written},
    set::{CA, Set},
};
use crate::common::armor::block;

const NO_ANCHOR: Expect = Refused(Layer::ClientCa, CA);
const NOT_CERTIFICATES: Expect = Refused(Layer::Pem, CA);

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all: Vec<_> = bundles()
        .into_iter()
        .map(|(what, expect, make)| Vector::file(CA, what, expect, move |set| make(set).into()))
        .collect();
    for (what, expect, change) in third() {
        all.push(Vector::file(CA, &format!("behind two good ones, {what}"), expect, move |set| {
            let mut ca = Certificate::of(set);
            ca.subject.clone_from(&ca.issuer);
            ca.extensions = vec![authority()];
            change(&mut ca);
            format!("{}{}", set.ca, ca.pem()).into()
        }));
    }
    all
}

fn authority() -> Vec<u8> {
    extension(asn1::BASIC_CONSTRAINTS, true, &sequence(&[&[asn1::BOOLEAN, 1, 0xff]]))
}

/// Makes `count` CAs whose names take 520 bytes each.
fn of_long_names(set: &Set, count: usize) -> String {
    let mut ca = Certificate::of(set);
    ca.extensions = vec![authority()];
    let many = (0..count).map(|number| {
        ca.subject = common_name(asn1::UTF8, format!("{number:0497}").as_bytes());
        assert_eq!(ca.subject.len() + 2, 520);
        ca.pem()
    });
    many.collect()
}

type File = fn(&Set) -> String;

fn bundles() -> Vec<(&'static str, Expect, File)> {
    vec![
        ("each CA twice", Served, |set| set.ca.repeat(2)),
        ("one CA in the place of two", Served, |_| Authority::root("the only one").pem),
        ("a private key beside them", NOT_CERTIFICATES, |set| format!("{}{}", set.ca, set.key)),
        ("a private key alone", NOT_CERTIFICATES, |set| set.key.clone()),
        ("parameters beside them", Served, |set| set.ca.clone() + include_str!("keys/ec-parameters.pem")),
        ("a CRL beside them", NOT_CERTIFICATES, |set| set.ca.clone() + &block("X509 CRL", &[0x30, 0])),
        ("the server's chain", Served, |set| set.chain.clone()),
        ("a malformed block between two", NO_ANCHOR, |set| {
            let (one, two) = set.ca.split_at(set.ca.match_indices("-----BEGIN ").nth(1).unwrap().0);
            format!("{one}{}{two}", block("CERTIFICATE", &[0x30, 0]))
        }),
        ("as many names as a handshake can carry", Served, |set| of_long_names(set, 124)),
        ("more names than a handshake can carry", NO_ANCHOR, |set| of_long_names(set, 125)),
        ("twice as many names as a handshake can carry", NO_ANCHOR, |set| of_long_names(set, 250)),
    ]
}

type Change = fn(&mut Certificate);

/// Vectors with a third certificate after two valid ones.
fn third() -> Vec<(&'static str, Expect, Change)> {
    vec![
        ("one made by hand", Served, |_| {}),
        ("an expired one", Served, |ca| {
            let now = SystemTime::now();
            ca.valid(&written(now - hours(48)), &written(now - hours(24)));
        }),
        ("one that is not valid yet", Served, |ca| {
            let now = SystemTime::now();
            ca.valid(&written(now + hours(24)), &written(now + hours(48)));
        }),
        ("one that is no authority", Served, |ca| ca.extensions = vec![asn1::localhost()]),
        ("one of version 1", Served, |ca| (ca.version, ca.extensions) = (Vec::new(), Vec::new())),
        ("one without a name", Served, |ca| ca.subject = sequence(&[])),
        ("one of a key that nobody knows", Served, |ca| {
            ca.key = sequence(&[&sequence(&[&value(asn1::OID, &[0x2a, 3, 4])]), &value(asn1::BITS, &[0, 1])]);
        }),
        ("one for some names only", Served, |ca| {
            let permitted = value(0xa0, &sequence(&[&value(0x82, b"example.test")]));
            ca.extensions.push(extension(asn1::NAME_CONSTRAINTS, true, &sequence(&[&permitted])));
        }),
        ("one whose limits on names are malformed", NO_ANCHOR, |ca| {
            ca.extensions.push(extension(asn1::NAME_CONSTRAINTS, true, &[5, 0]));
        }),
        ("one of version 4", NO_ANCHOR, |ca| ca.version[4] = 3),
        ("one of which nobody knows a critical extension", Served, |ca| {
            ca.extensions.push(extension(&[0x2a, 3, 4], true, &[5, 0]));
        }),
        ("one with an extension twice", NO_ANCHOR, |ca| ca.extensions.push(authority())),
        ("one without a key", NO_ANCHOR, |ca| ca.key.clear()),
        ("one without a subject", NO_ANCHOR, |ca| ca.subject.clear()),
        ("one with something behind it", NO_ANCHOR, |ca| ca.behind = vec![5, 0]),
        ("one with an empty serial", Served, |ca| ca.serial = value(asn1::INTEGER, &[])),
        ("one of two algorithms", NO_ANCHOR, |ca| {
            ca.outer_algorithm = sequence(&[&value(asn1::OID, &[0x2b, 0x65, 0x70])]);
        }),
    ]
}
