//! Chains whose PEM is valid: of another key, in another order, with unusual or malformed
//! certificates. Also defects that a server does not check, because the client verifies the chain.

use rustls_reload::Layer;
use rustls_reload_testkit::{Authority, PrivateKey};

use super::{
    Expect::{self, Refused, Served},
    Vector,
    asn1::{self, Certificate, common_name, extension, localhost, sequence, value},
    set::{CA, CRT, KEY, Set, subject},
};
use crate::common::armor::block;

const NOT_OURS: Expect = Refused(Layer::Match, KEY);
const MALFORMED: Expect = Refused(Layer::Chain, CRT);

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all = orders();
    all.extend(mixtures());
    for (what, expect, change) in odd() {
        all.push(of_leaf(what, expect, change));
    }
    all.extend(outside());
    all
}

type Change = fn(&mut Certificate);

/// A chain of one certificate, which is made part by part and then changed.
fn of_leaf(what: &str, expect: Expect, change: Change) -> Vector {
    Vector::file(CRT, what, expect, move |set| {
        let mut leaf = Certificate::of(set);
        change(&mut leaf);
        leaf.pem().into()
    })
}

fn chain(what: &str, expect: Expect, make: fn(&Set) -> String) -> Vector {
    Vector::file(CRT, what, expect, move |set| make(set).into())
}

fn orders() -> Vec<Vector> {
    vec![
        chain("the leaf last", NOT_OURS, |set| {
            let (leaf, issuer) = set.blocks();
            format!("{issuer}{leaf}")
        }),
        chain("the root first", NOT_OURS, |set| set.root.pem.clone() + &set.chain),
        chain("the intermediate alone", NOT_OURS, |set| set.issuer.pem.clone()),
        chain("the leaf alone", Served, |set| set.blocks().0.to_owned()),
        chain("the root behind", Served, |set| set.chain.clone() + &set.root.pem),
        chain("the root before the intermediate", Served, |set| {
            let (leaf, issuer) = set.blocks();
            format!("{leaf}{}{issuer}", set.root.pem)
        }),
        chain("another authority behind the leaf", Served, |set| {
            set.blocks().0.to_owned() + &Authority::root("somebody").pem
        }),
        chain("the leaf twice", Served, |set| set.blocks().0.repeat(2)),
        chain("everything twice", Served, |set| set.chain.repeat(2)),
        chain("more than a handshake can carry", Refused(Layer::Rehearsal, CRT), |set| {
            set.chain.clone() + &set.issuer.pem.repeat(200)
        }),
        chain("as much as a handshake can carry", Served, |set| {
            set.chain.clone() + &set.issuer.pem.repeat(60)
        }),
    ]
}

/// Files that do not belong together, or contain more than one kind of data.
fn mixtures() -> Vec<Vector> {
    let old = |what: &str, expect, make: fn(&Set, &Set) -> Vec<(&'static str, String)>| {
        Vector::files(what, expect, move |set| {
            let files = make(set, &Set::new(9));
            files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
        })
    };
    vec![
        old("the chain of another set", NOT_OURS, |_, other| vec![(CRT, other.chain.clone())]),
        old("the key of another set", NOT_OURS, |_, other| vec![(KEY, other.key.clone())]),
        old("the same issuer's leaf of another key", NOT_OURS, |set, other| {
            vec![(CRT, set.issuer.issue_with_chain(&subject(), &other.identity).chain)]
        }),
        old("a key of another kind", NOT_OURS, |_, _| vec![(KEY, PrivateKey::ed25519().pem())]),
        old("the other set's client CAs", Served, |_, other| vec![(CA, other.ca.clone())]),
        old("chain and key in each other's place", Refused(Layer::Pem, CRT), |set, _| {
            vec![(CRT, set.key.clone()), (KEY, set.chain.clone())]
        }),
        old("the client CAs in the place of the chain", NOT_OURS, |set, _| vec![(CRT, set.ca.clone())]),
        old("the key in the chain's file and in its own", Served, |set, _| {
            vec![(CRT, format!("{}{}", set.chain, set.key))]
        }),
        old("the key before the chain, in both files", Served, |set, _| {
            let both = format!("{}{}", set.key, set.chain);
            vec![(CRT, both.clone()), (KEY, both)]
        }),
        old("another key in the chain's file", Served, |set, other| {
            vec![(CRT, format!("{}{}", set.chain, other.key))]
        }),
        old("an encrypted key in the chain's file", Served, |set, _| {
            vec![(CRT, format!("{}{}", set.chain, include_str!("keys/encrypted.pem")))]
        }),
        old("another chain in the key's file", Served, |set, other| {
            vec![(KEY, format!("{}{}", other.chain, set.key))]
        }),
        old("both files another set's", Served, |_, other| {
            vec![(CRT, other.chain.clone()), (KEY, other.key.clone())]
        }),
    ]
}

/// Replaces the sequence's length by one in a longer form than DER allows, or by none.
fn relength(der: &[u8], head: &[u8]) -> Vec<u8> {
    [&[asn1::SEQUENCE], head, asn1::open(der).0].concat()
}

/// Marks the certificate policies critical, which RFC 5280 section 4.2.1.4 allows.
pub(crate) fn critical_policies(leaf: &mut Certificate) {
    let policy = sequence(&[&value(asn1::OID, &[0x2a, 3, 4])]);
    leaf.extensions.push(extension(&[0x55, 29, 32], true, &sequence(&[&policy])));
}

/// Certificates with unusual or wrong parts.
fn odd() -> Vec<(&'static str, Expect, Change)> {
    vec![
        ("made by hand", Served, |_| {}),
        ("of version 1", MALFORMED, |leaf| {
            (leaf.version, leaf.extensions) = (Vec::new(), Vec::new());
        }),
        ("of version 2", MALFORMED, |leaf| {
            leaf.version[4] = 1;
            leaf.extensions.clear();
        }),
        ("of version 4", MALFORMED, |leaf| leaf.version[4] = 3),
        ("of version 3 without extensions", Served, |leaf| leaf.extensions.clear()),
        ("the serial negative", Served, |leaf| leaf.serial = value(asn1::INTEGER, &[0x80])),
        ("the serial zero", Served, |leaf| leaf.serial = value(asn1::INTEGER, &[0])),
        ("the serial of 20 bytes", Served, |leaf| leaf.serial = value(asn1::INTEGER, &[0x7f; 20])),
        ("the serial of 40 bytes", Served, |leaf| leaf.serial = value(asn1::INTEGER, &[0x7f; 40])),
        ("the serial with a leading zero", Served, |leaf| leaf.serial = value(asn1::INTEGER, &[0, 1])),
        ("the serial empty", MALFORMED, |leaf| leaf.serial = value(asn1::INTEGER, &[])),
        ("the serial no number", MALFORMED, |leaf| leaf.serial = value(asn1::OCTETS, &[1])),
        ("without a serial", MALFORMED, |leaf| leaf.serial.clear()),
        ("without an issuer", Served, |leaf| leaf.issuer = sequence(&[])),
        ("without a subject", Served, |leaf| leaf.subject = sequence(&[])),
        ("without any name", Served, |leaf| {
            leaf.subject = sequence(&[]);
            leaf.extensions.clear();
        }),
        ("another name", Served, |leaf| leaf.subject = common_name(asn1::UTF8, b"another.test")),
        ("the subject no text", Served, |leaf| leaf.subject = common_name(asn1::UTF8, b"\xff\n")),
        ("the subject cut off", MALFORMED, |leaf| {
            leaf.subject.pop();
        }),
        ("unique identifiers", MALFORMED, |leaf| leaf.unique = value(0x81, &[0, 1])),
        ("something behind the extensions", MALFORMED, |leaf| leaf.extra = value(0xa4, &[])),
        ("something behind the certificate", MALFORMED, |leaf| leaf.behind = vec![5, 0]),
        ("another algorithm outside than inside", MALFORMED, |leaf| {
            leaf.outer_algorithm = sequence(&[&value(asn1::OID, &[0x2b, 0x65, 0x70])]);
        }),
        ("signed with MD5", Served, |leaf| {
            let md5 = value(asn1::OID, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4]);
            leaf.algorithm = sequence(&[&md5, &[5, 0]]);
            leaf.outer_algorithm.clone_from(&leaf.algorithm);
        }),
        ("the signature empty", MALFORMED, |leaf| leaf.signature = value(asn1::BITS, &[])),
        ("the signature not of whole bytes", MALFORMED, |leaf| {
            leaf.signature = value(asn1::BITS, &[1, 0xfe])
        }),
        ("without a signature", MALFORMED, |leaf| leaf.signature.clear()),
        ("for clients", Served, |leaf| {
            let clients = value(asn1::OID, &[0x2b, 6, 1, 5, 5, 7, 3, 2]);
            leaf.extensions.push(extension(asn1::EXTENDED_KEY_USAGE, true, &sequence(&[&clients])));
        }),
        ("for signing code", Served, |leaf| {
            let code = value(asn1::OID, &[0x2b, 6, 1, 5, 5, 7, 3, 3]);
            leaf.extensions.push(extension(asn1::EXTENDED_KEY_USAGE, true, &sequence(&[&code])));
        }),
        ("for signing certificates only", Served, |leaf| {
            leaf.extensions.push(extension(asn1::KEY_USAGE, true, &value(asn1::BITS, &[2, 4])));
        }),
        ("an authority's", Served, |leaf| {
            let ca = sequence(&[&[asn1::BOOLEAN, 1, 0xff]]);
            leaf.extensions.push(extension(asn1::BASIC_CONSTRAINTS, true, &ca));
        }),
        ("a critical extension that nobody knows", MALFORMED, |leaf| {
            leaf.extensions.push(extension(&[0x2a, 3, 4], true, &[5, 0]));
        }),
        ("critical certificate policies", MALFORMED, critical_policies),
        ("an extension that nobody knows", Served, |leaf| {
            leaf.extensions.push(extension(&[0x2a, 3, 4], false, &[5, 0]));
        }),
        ("a poisoned certificate of a log", MALFORMED, |leaf| {
            let poison = [0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 3];
            leaf.extensions.push(extension(&poison, true, &[5, 0]));
        }),
        ("an extension twice", MALFORMED, |leaf| leaf.extensions.push(localhost())),
        ("the extensions empty", Served, |leaf| leaf.extensions = vec![Vec::new()]),
        ("an extension without a value", MALFORMED, |leaf| {
            leaf.extensions.push(sequence(&[&value(asn1::OID, asn1::KEY_USAGE)]));
        }),
        ("the names no sequence", MALFORMED, |leaf| {
            leaf.extensions = vec![extension(asn1::SUBJECT_ALT_NAME, false, &value(0x82, b"localhost"))];
        }),
        ("the names cut off", MALFORMED, |leaf| {
            leaf.extensions =
                vec![extension(asn1::SUBJECT_ALT_NAME, false, &sequence(&[b"\x82\x20localhost"]))];
        }),
        ("a name with a NUL", Served, |leaf| {
            let name = sequence(&[&value(0x82, b"localhost\0.test")]);
            leaf.extensions = vec![extension(asn1::SUBJECT_ALT_NAME, false, &name)];
        }),
        ("a thousand names", Served, |leaf| {
            let names: Vec<_> = (0..1000).map(|i| value(0x82, format!("{i}.test").as_bytes())).collect();
            leaf.extensions = vec![extension(asn1::SUBJECT_ALT_NAME, false, &sequence(&[&names.concat()]))];
        }),
        ("the key of another curve", NOT_OURS, |leaf| {
            // secp384r1 instead of prime256v1.
            let algorithm = sequence(&[
                asn1::parts(asn1::parts(&leaf.key)[0])[0],
                &value(asn1::OID, &[0x2b, 0x81, 4, 0, 0x22]),
            ]);
            leaf.key = sequence(&[&algorithm, asn1::parts(&leaf.key)[1]]);
        }),
        ("the key's point compressed", Refused(Layer::Chain, CRT), |leaf| {
            let [algorithm, point] = asn1::parts(&leaf.key)[..] else { panic!("a key of two parts") };
            let point = asn1::open(point).0;
            let compressed = [&[0, 2 | point[65] & 1], &point[2..34]].concat();
            leaf.key = sequence(&[algorithm, &value(asn1::BITS, &compressed)]);
        }),
        ("the key's point without its last byte", NOT_OURS, |leaf| {
            let [algorithm, point] = asn1::parts(&leaf.key)[..] else { panic!("a key of two parts") };
            let point = asn1::open(point).0;
            leaf.key = sequence(&[algorithm, &value(asn1::BITS, &point[..65])]);
        }),
        ("without a key", MALFORMED, |leaf| leaf.key.clear()),
    ]
}

/// Certificates whose outermost value is wrong, and data that is no certificate.
fn outside() -> Vec<Vector> {
    let of_der = |what: &str, expect, make: fn(&[u8]) -> Vec<u8>| {
        Vector::file(CRT, what, expect, move |set| {
            block("CERTIFICATE", &make(&Certificate::of(set).der())).into()
        })
    };
    let behind = |what: &str, expect, make: fn(&Set) -> Vec<u8>| {
        Vector::file(CRT, what, expect, move |set| {
            format!("{}{}", set.blocks().0, block("CERTIFICATE", &make(set))).into()
        })
    };
    vec![
        of_der("its length longer than it is", MALFORMED, |der| der[..der.len() - 1].into()),
        of_der("its length shorter than it is", MALFORMED, |der| [der, &[0]].concat()),
        of_der("its length in more bytes than it takes", MALFORMED, |der| {
            let length = asn1::open(der).0.len();
            relength(der, &[0x83, 0, (length >> 8) as u8, length as u8])
        }),
        of_der("its length in four bytes", MALFORMED, |der| {
            let length = asn1::open(der).0.len();
            relength(der, &[0x84, 0, 0, (length >> 8) as u8, length as u8])
        }),
        of_der("of no stated length (BER)", MALFORMED, |der| [relength(der, &[0x80]), vec![0, 0]].concat()),
        of_der("a set instead of a sequence", MALFORMED, |der| [&[asn1::SET], &der[1..]].concat()),
        of_der("an empty sequence", MALFORMED, |_| sequence(&[])),
        of_der("its signed part alone", MALFORMED, |der| asn1::parts(der)[0].into()),
        of_der("a sequence of sequences, deep", MALFORMED, |_| {
            (0..5_000).fold(Vec::new(), |inner: Vec<u8>, _| sequence(&[&inner]))
        }),
        behind("a malformed certificate behind the leaf", MALFORMED, |_| sequence(&[])),
        behind("a certificate of version 1 behind the leaf", Served, |set| {
            let mut root = Certificate::of(set);
            (root.version, root.extensions) = (Vec::new(), Vec::new());
            root.der()
        }),
        behind("a critical extension that nobody knows behind the leaf", Served, |set| {
            let mut authority = Certificate::of(set);
            authority.extensions.push(extension(&[0x2a, 3, 4], true, &[5, 0]));
            authority.der()
        }),
    ]
}
