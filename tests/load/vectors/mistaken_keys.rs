//! Keys that are encrypted, doubled, mislabelled, of another certificate, or of a kind that no
//! provider loads.

use rustls_reload::Layer;

use super::{
    messages::{Mend, Mistake, openssl},
    mistakes::{digits, mended, mistake},
    set::{CRT, KEY},
};
use crate::common::armor::block;

pub(crate) fn all() -> Vec<Mistake> {
    let mut all = encoded_keys();
    all.extend(kinds_of_keys());
    all
}

/// Keys that are encrypted, doubled, mislabelled or of another program.
fn encoded_keys() -> Vec<Mistake> {
    let key = Layer::Key;
    vec![
        mended("a second key", KEY, key, &["line 6", "second private key", "line 1"], |set| {
            format!("{}{}", set.key, include_str!("keys/ec-p-256.pem")).into()
        }),
        mended("an encrypted key", KEY, key, &["line 1", "is encrypted", "openssl pkey"], |set| {
            openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], set.key.as_bytes())
        }),
        mended("an encrypted key of the old kind", KEY, key, &["line 1", "is encrypted"], |set| {
            openssl(&["ec", "-aes128", "-passout", "pass:secret"], set.key.as_bytes())
        }),
        mistake(
            "headers of an encryption that took none",
            KEY,
            key,
            &["line 1", "is not encrypted"],
            |set| set.key.replacen('\n', "\nProc-Type: 4,CLEAR\n\n", 1).into(),
        ),
        mended(
            "PKCS #8 labelled as RSA",
            KEY,
            key,
            &["line 1", "\"RSA PRIVATE KEY\" looks like", "PKCS #8"],
            |set| set.key.replace("PRIVATE KEY", "RSA PRIVATE KEY").into(),
        ),
        mended("SEC 1 labelled as PKCS #8", KEY, key, &["\"PRIVATE KEY\" looks like", "SEC 1"], |set| {
            let text = openssl(&["ec"], set.key.as_bytes());
            String::from_utf8(text).unwrap().replace("EC PRIVATE KEY", "PRIVATE KEY").into()
        }),
        mistake("a certificate labelled as a key", KEY, key, &["looks like a certificate"], |set| {
            set.blocks().0.replace("CERTIFICATE", "PRIVATE KEY").into()
        }),
        mistake(
            "a key of which the base64 was encoded twice",
            KEY,
            key,
            &["line 1", "encoded twice"],
            |set| block("PRIVATE KEY", &digits(&set.key)).into(),
        ),
        mistake(
            "a key of OpenSSH",
            KEY,
            Layer::Pem,
            &["line 1", "OPENSSH PRIVATE KEY", "ssh-keygen -p"],
            |_| include_bytes!("keys/openssh.pem").to_vec(),
        ),
        mistake("a key of DSA under its own label", KEY, Layer::Pem, &["DSA PRIVATE KEY", "no DSA"], |_| {
            include_bytes!("keys/dsa-old.pem").to_vec()
        }),
        mistake(
            "another's key without its public part",
            KEY,
            Layer::Match,
            &["line 1", "without its public part"],
            |_| include_bytes!("keys/ec-no-public.pem").to_vec(),
        ),
        Mistake {
            blamed: KEY,
            ..mistake(
                "the issuer's certificate first",
                CRT,
                Layer::Match,
                &["certificate 2", "has to come first"],
                |set| {
                    let (leaf, issuer) = set.blocks();
                    format!("{issuer}{leaf}").into()
                },
            )
        },
        Mistake {
            blamed: KEY,
            ..mistake(
                "a certificate whose curve is given by its numbers",
                CRT,
                Layer::Match,
                &["by its numbers and not by its name", "have a new one issued"],
                |_| {
                    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/vectors/keys/ec-explicit.pem");
                    openssl(&["req", "-x509", "-new", "-key", key, "-subj", "/CN=localhost"], b"")
                },
            )
        },
        mistake(
            "another's key of another algorithm",
            KEY,
            Layer::Match,
            &["RSA, 2048 bits", "EC, P-256"],
            |_| include_bytes!("keys/rsa-2048.pem").to_vec(),
        ),
    ]
}

/// Undamaged keys that the provider does not load.
fn kinds_of_keys() -> Vec<Mistake> {
    macro_rules! kinds {
        ($($name:literal: $mend:ident $says:expr,)*) => {
            vec![$(Mistake {
                mend: Mend::$mend,
                ..mistake($name, KEY, Layer::Key, &$says, |_| {
                    include_bytes!(concat!("keys/", $name, ".pem")).to_vec()
                })
            }),*]
        };
    }
    kinds! {
        "ec-p-521": OtherKey ["line 1", "P-521 (secp521r1)", "aws-lc-rs", "does not support the curve"],
        "ec-secp256k1": OtherKey ["line 1", "secp256k1", "does not support the curve"],
        "ec-p-224": OtherKey ["P-224", "does not support the curve"],
        "ec-prime192v1": OtherKey ["P-192", "does not support the curve"],
        "ec-brainpoolp256r1": OtherKey ["brainpoolP256r1", "does not support the curve"],
        "sm2": OtherKey ["SM2", "does not support the curve"],
        "ec-explicit": OtherKey ["line 1", "by its numbers and not by its name", "-param_enc named_curve", "have a new one issued"],
        "rsa-512": OtherKey ["RSA, 512 bits", "too small"],
        "rsa-1024": OtherKey ["line 1", "RSA, 1024 bits", "too small"],
        "rsa-3000": OtherKey ["line 1", "RSA, 3000 bits", "ring takes 2048, 3072 and 4096 bits only", "With aws-lc-rs it is damaged"],
        "rsa-5120": OtherKey ["line 1", "RSA, 5120 bits", "too large for ring", "With aws-lc-rs it is damaged"],
        "rsa-exponent-3": OtherKey ["RSA, 2048 bits", "exponent 3 is too small"],
        "rsa-three-primes": OtherKey ["RSA, 2048 bits", "more than two primes"],
        "rsa-pss": OtherKey ["RSA-PSS", "does not support"],
        "ed448": OtherKey ["line 1", "Ed448", "does not support"],
        "x25519": OtherKey ["X25519", "cannot sign"],
        "x448": OtherKey ["X448", "cannot sign"],
        "dsa": OtherKey ["DSA", "does not support"],
        "dh": OtherKey ["Diffie-Hellman", "cannot sign"],
    }
}
