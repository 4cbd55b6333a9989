//! Keys: encrypted, several in a file, of kinds that the provider lacks, malformed, mislabelled.

use rustls_reload::Layer;

use super::{
    Expect::{self, Refused, Served},
    Vector,
    asn1::{self, open, parts, sequence, value},
    set::{KEY, Set},
};
use crate::common::armor::block;

const UNUSABLE: Expect = Refused(Layer::Key, KEY);
const NOT_OURS: Expect = Refused(Layer::Match, KEY);

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all: Vec<_> = kinds()
        .into_iter()
        .map(|(what, expect, text)| {
            Vector::file(KEY, &format!("of the kind {what}"), expect, |_| text.into())
        })
        .collect();
    for (what, expect, make) in files() {
        all.push(Vector::file(KEY, what, expect, move |set| make(set).into()));
    }
    for (what, expect, make) in contents() {
        all.push(Vector::file(KEY, what, expect, move |set| {
            block("PRIVATE KEY", &make(set.key_der().secret_der())).into()
        }));
    }
    all
}

/// Valid keys. The provider loads some of them, and none belongs to the leaf.
fn kinds() -> Vec<(&'static str, Expect, &'static str)> {
    macro_rules! kinds {
        ($($name:literal: $expect:ident),* $(,)?) => {
            vec![$(($name, $expect, include_str!(concat!("keys/", $name, ".pem")))),*]
        };
    }
    kinds! {
        "rsa-512": UNUSABLE,
        "rsa-1024": UNUSABLE,
        "rsa-2048": NOT_OURS,
        "rsa-3000": UNUSABLE,
        "rsa-5120": UNUSABLE,
        "rsa-exponent-3": UNUSABLE,
        "rsa-three-primes": UNUSABLE,
        "rsa-pss": UNUSABLE,
        "rsa-pkcs1": NOT_OURS,
        "ec-p-224": UNUSABLE,
        "ec-p-256": NOT_OURS,
        "ec-p-384": NOT_OURS,
        "ec-p-521": UNUSABLE,
        "ec-prime192v1": UNUSABLE,
        "ec-secp256k1": UNUSABLE,
        "ec-brainpoolp256r1": UNUSABLE,
        "ec-explicit": UNUSABLE,
        "ec-compressed": NOT_OURS,
        "ec-no-public": NOT_OURS,
        "ec-sec1": NOT_OURS,
        "sm2": UNUSABLE,
        "ed25519": NOT_OURS,
        "ed448": UNUSABLE,
        "x25519": UNUSABLE,
        "x448": UNUSABLE,
        "dsa": UNUSABLE,
        "dh": UNUSABLE,
        "encrypted": UNUSABLE,
        "encrypted-old": UNUSABLE,
    }
}

fn relabelled(set: &Set, label: &str) -> String {
    set.key.replace("PRIVATE KEY", label)
}

/// Returns the key in the form that `openssl ec` writes: the structure within PKCS #8.
fn sec1(set: &Set) -> Vec<u8> {
    open(parts(set.key_der().secret_der())[2]).0.to_vec()
}

type File = fn(&Set) -> String;

/// Files with several sections, or with a section under another label.
fn files() -> Vec<(&'static str, Expect, File)> {
    const PARAMETERS: &str = include_str!("keys/ec-parameters.pem");
    const DH: &str = include_str!("keys/dh-parameters.pem");
    const OTHER: &str = include_str!("keys/ec-p-256.pem");
    let other_format = Refused(Layer::Pem, KEY);
    vec![
        ("the same key twice", UNUSABLE, |set| set.key.repeat(2)),
        ("another key behind it", UNUSABLE, |set| format!("{}{OTHER}", set.key)),
        ("another key before it", UNUSABLE, |set| format!("{OTHER}{}", set.key)),
        ("an encrypted key behind it", UNUSABLE, |set| set.key.clone() + include_str!("keys/encrypted.pem")),
        ("the chain alone", UNUSABLE, |set| set.chain.clone()),
        ("the client CAs", UNUSABLE, |set| set.ca.clone()),
        ("parameters alone", UNUSABLE, |_| PARAMETERS.to_owned()),
        ("parameters before it", Served, |set| format!("{PARAMETERS}{}", set.key)),
        ("parameters behind it", Served, |set| format!("{}{PARAMETERS}", set.key)),
        ("parameters of Diffie and Hellman behind it", Served, |set| format!("{}{DH}", set.key)),
        ("the chain behind it", Served, |set| format!("{}{}", set.key, set.chain)),
        ("a certification request behind it", Served, |set| {
            format!("{}{}", set.key, include_str!("keys/request.pem"))
        }),
        ("an OpenSSH key behind it", other_format, |set| set.key.clone() + include_str!("keys/openssh.pem")),
        ("of the kind dsa-old", other_format, |_| include_str!("keys/dsa-old.pem").to_owned()),
        ("PKCS #8 labelled as RSA", UNUSABLE, |set| relabelled(set, "RSA PRIVATE KEY")),
        ("PKCS #8 labelled as EC", UNUSABLE, |set| relabelled(set, "EC PRIVATE KEY")),
        ("PKCS #8 labelled as encrypted", UNUSABLE, |set| relabelled(set, "ENCRYPTED PRIVATE KEY")),
        ("PKCS #8 labelled as any key", other_format, |set| relabelled(set, "ANY PRIVATE KEY")),
        ("PKCS #8 labelled as public", UNUSABLE, |set| relabelled(set, "PUBLIC KEY")),
        ("SEC 1 without its curve", Served, |set| block("EC PRIVATE KEY", &sec1(set))),
        ("SEC 1 without curve and public half", Served, |set| {
            let parts = asn1::parts(&sec1(set))[..2].concat();
            block("EC PRIVATE KEY", &sequence(&[&parts]))
        }),
        ("SEC 1 labelled as PKCS #8", UNUSABLE, |set| block("PRIVATE KEY", &sec1(set))),
        ("PKCS #1 labelled as PKCS #8", UNUSABLE, |_| {
            include_str!("keys/rsa-pkcs1.pem").replace("RSA PRIVATE KEY", "PRIVATE KEY")
        }),
        ("PKCS #1 labelled as EC", UNUSABLE, |_| {
            include_str!("keys/rsa-pkcs1.pem").replace("RSA PRIVATE KEY", "EC PRIVATE KEY")
        }),
        ("headers of an encryption that took none", UNUSABLE, |set| {
            set.key.replacen('\n', "\nProc-Type: 4,CLEAR\n\n", 1)
        }),
        ("padding that is missing", Served, |set| set.key.replace('=', "")),
        ("a JSON web key", other_format, |_| "{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"AA\"}\n".to_owned()),
        ("a link to it, as text", other_format, |_| "/etc/ssl/private/tls.key\n".to_owned()),
    ]
}

type Content = fn(&[u8]) -> Vec<u8>;

/// PKCS #8 that is malformed, or whose parts do not match.
fn contents() -> Vec<(&'static str, Expect, Content)> {
    /// Changes the parts of PKCS #8: version, algorithm, and the parts of the key itself.
    fn inner(key: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        let [version, algorithm, private] = parts(key)[..3] else { panic!("PKCS #8 has three parts") };
        let mut own: Vec<_> = parts(open(private).0).into_iter().map(<[u8]>::to_vec).collect();
        change(&mut own);
        sequence(&[version, algorithm, &value(asn1::OCTETS, &sequence(&[&own.concat()]))])
    }
    vec![
        ("written again", Served, |key| inner(key, |_| {})),
        ("something behind it", UNUSABLE, |key| [key, &[5, 0]].concat()),
        ("cut off within", UNUSABLE, |key| key[..key.len() - 1].into()),
        ("of no stated length (BER)", UNUSABLE, |key| {
            [&[asn1::SEQUENCE, 0x80], open(key).0, &[0, 0]].concat()
        }),
        ("of version 7", UNUSABLE, |key| {
            let rest = parts(key)[1..].concat();
            sequence(&[&value(asn1::INTEGER, &[7]), &rest])
        }),
        ("without an algorithm", UNUSABLE, |key| sequence(&[parts(key)[0], parts(key)[2]])),
        ("an algorithm that nobody knows", UNUSABLE, |key| {
            sequence(&[parts(key)[0], &sequence(&[&value(asn1::OID, &[0x2a, 3, 4])]), parts(key)[2]])
        }),
        ("the number zero", UNUSABLE, |key| inner(key, |own| own[1] = value(asn1::OCTETS, &[0; 32]))),
        ("the number larger than the curve's order", UNUSABLE, |key| {
            inner(key, |own| own[1] = value(asn1::OCTETS, &[0xff; 32]))
        }),
        ("the number of 31 bytes", UNUSABLE, |key| inner(key, |own| own[1] = value(asn1::OCTETS, &[1; 31]))),
        ("the number of 33 bytes", UNUSABLE, |key| inner(key, |own| own[1] = value(asn1::OCTETS, &[1; 33]))),
        ("another public half", UNUSABLE, |key| {
            inner(key, |own| {
                let last = own.len() - 1;
                let byte = own[last].len() - 1;
                own[last][byte] ^= 1;
            })
        }),
        ("without its public half", Served, |key| inner(key, |own| own.truncate(2))),
        ("without its public half, another number", NOT_OURS, |key| {
            inner(key, |own| {
                own.truncate(2);
                own[1] = value(asn1::OCTETS, &[1; 32]);
            })
        }),
        ("without its public half, a zero before the number", Served, |key| {
            inner(key, |own| {
                own.truncate(2);
                own[1] = value(asn1::OCTETS, &[&[0], open(&own[1]).0].concat());
            })
        }),
        ("with a zero before the number", Served, |key| {
            inner(key, |own| own[1] = value(asn1::OCTETS, &[&[0], open(&own[1]).0].concat()))
        }),
        ("with a compressed public half", Served, |key| {
            inner(key, |own| {
                let point = &open(open(&own[2]).0).0[1..];
                let form = 2 + (point[64] & 1);
                let bits = value(asn1::BITS, &[&[0, form], &point[1..33]].concat());
                own[2] = value(0xa1, &bits);
            })
        }),
        ("with another's compressed public half", NOT_OURS, |key| {
            inner(key, |own| {
                let point = &open(open(&own[2]).0).0[1..];
                let form = 3 - (point[64] & 1);
                let bits = value(asn1::BITS, &[&[0, form], &point[1..33]].concat());
                own[2] = value(0xa1, &bits);
            })
        }),
        ("attributes behind it", Served, |key| sequence(&[open(key).0, &value(0xa0, &[])])),
        ("a public key", UNUSABLE, |key| {
            let algorithm = parts(key)[1];
            sequence(&[algorithm, &value(asn1::BITS, &[0, 4, 1])])
        }),
        ("a certificate", UNUSABLE, |_| {
            sequence(&[&sequence(&[]), &sequence(&[]), &value(asn1::BITS, &[0])])
        }),
    ]
}
