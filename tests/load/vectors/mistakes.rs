//! Files with mistakes that operators make, each with the message that it must give.

mod formats;

use super::{
    asn1::{self, Certificate, sequence, value},
    chains::critical_policies,
    messages::{Mend, Mistake, openssl},
    mistaken_keys,
    set::{CA, CRT, KEY, Set},
};
use crate::common::armor::block;
use formats::formats;
use rustls_reload::{Layer, internal::pem};

/// Text that is true only of a file that ends too early.
pub(crate) const CUT: &[&str] = &["cut off"];

pub(crate) fn mistake(
    what: &'static str,
    file: &'static str,
    layer: Layer,
    says: &'static [&'static str],
    make: fn(&Set) -> Vec<u8>,
) -> Mistake {
    Mistake { what, file, blamed: file, layer, says, never: CUT, make, mend: Mend::None }
}

/// A mistake whose message contains a command that makes a loadable file.
pub(crate) fn mended(
    what: &'static str,
    file: &'static str,
    layer: Layer,
    says: &'static [&'static str],
    make: fn(&Set) -> Vec<u8>,
) -> Mistake {
    Mistake { mend: Mend::Loads, ..mistake(what, file, layer, says, make) }
}

pub(crate) fn all() -> Vec<Mistake> {
    let mut all = formats();
    all.extend(line_breaks());
    all.extend(markers());
    all.extend(sections());
    all.extend(mistaken_keys::all());
    all.push(critical_extension());
    all
}

fn critical_extension() -> Mistake {
    let says = &["line 1", "certificate 1 of 1", "critical extension", "2.5.29.32 (certificatePolicies)"];
    let made = mistake("critical certificate policies", CRT, Layer::Chain, says, |set| {
        let mut leaf = Certificate::of(set);
        critical_policies(&mut leaf);
        leaf.pem().into()
    });
    Mistake { never: &["malformed", "version"], ..made }
}

fn der_of(text: &str) -> Vec<u8> {
    pem::chain(text.as_bytes()).unwrap()[0].to_vec()
}

/// Returns the base64 lines of the first section.
pub(crate) fn digits(text: &str) -> Vec<u8> {
    let lines = text.lines().skip(1).take_while(|line| !line.starts_with('-'));
    lines.map(|line| format!("{line}\n")).collect::<String>().into()
}

/// Line breaks that were lost, or escaped as text.
fn line_breaks() -> Vec<Mistake> {
    let pem = Layer::Pem;
    vec![
        mended(
            "\\n for line breaks in a chain",
            CRT,
            pem,
            &["line 1", "line breaks are written out as \\n"],
            |set| set.chain.replace('\n', "\\n").into(),
        ),
        mended(
            "\\n for line breaks in a key",
            KEY,
            pem,
            &["line 1", "line breaks are written out as \\n"],
            |set| set.key.replace('\n', "\\n").into(),
        ),
        mended(
            "\\n for line breaks, escaped twice",
            CRT,
            pem,
            &["line 1", "line breaks are written out as \\n"],
            |set| set.chain.replace('\n', "\\\\n").into(),
        ),
        mended(
            "\\r\\n for line breaks, escaped twice, in quotes",
            KEY,
            pem,
            &["line 1", "line breaks are written out as \\n"],
            |set| format!("\"{}\"\n", set.key.replace('\n', "\\\\r\\\\n")).into(),
        ),
        mended(
            "\\n for line breaks, in quotes",
            KEY,
            pem,
            &["line 1", "line breaks are written out as \\n"],
            |set| format!("\"{}\"\n", set.key.replace('\n', "\\n")).into(),
        ),
        mended("spaces for line breaks in a chain", CRT, pem, &["line 1", "line breaks are lost"], |set| {
            set.chain.replace('\n', " ").into()
        }),
        mended("spaces for line breaks in a key", KEY, pem, &["line 1", "line breaks are lost"], |set| {
            set.key.replace('\n', " ").into()
        }),
        mistake("percent-encoded", CRT, pem, &["line 1", "looks percent-encoded"], |set| {
            set.chain.replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B").into()
        }),
        mended("nothing for line breaks", CA, pem, &["line 1", "joined", "line break"], |set| {
            set.ca.replace('\n', "").into()
        }),
        mended(
            "two files joined without a line break",
            CRT,
            pem,
            &["END and a BEGIN line are joined", "line 1"],
            |set| set.chain.replace("-----\n-----", "----------").into(),
        ),
    ]
}

/// `BEGIN` and `END` lines that are damaged or hidden.
fn markers() -> Vec<Mistake> {
    let pem = Layer::Pem;
    vec![
        mended("long dashes", CRT, pem, &["line 1", "not ASCII", "looks like"], |set| {
            set.chain.replace("-----", "\u{2014}\u{2013}").into()
        }),
        mended("other hyphens", KEY, pem, &["line 1", "not ASCII"], |set| {
            set.key.replace('-', "\u{2010}").into()
        }),
        mended("a no-break space", KEY, pem, &["line 1", "not ASCII"], |set| {
            set.key.replace("BEGIN ", "BEGIN\u{a0}").into()
        }),
        mended("lower case", CRT, pem, &["line 1", "in lower case"], |set| {
            set.chain
                .replace("BEGIN C", "begin c")
                .replace("ERTIFICATE", "ertificate")
                .replace("END", "end")
                .into()
        }),
        mended("four dashes", CRT, pem, &["line 1", "damaged BEGIN or END line"], |set| {
            set.chain.replace("-----", "----").into()
        }),
        mended("dashes that lack at one END", CRT, pem, &["damaged BEGIN or END line"], |set| {
            set.chain.replacen("END CERTIFICATE-----", "END CERTIFICATE--", 1).into()
        }),
        mended("without the space", CRT, pem, &["line 1", "damaged BEGIN or END line"], |set| {
            set.chain.replace("BEGIN CERT", "BEGINCERT").replace("END CERT", "ENDCERT").into()
        }),
        mended("damaged below other text", CRT, pem, &["line 2", "damaged BEGIN or END line"], |set| {
            format!("# ENDPOINTS\n{}", set.chain.replace("-----", "----")).into()
        }),
        mended("in backticks", CRT, pem, &["line 1", "a quote stands before it"], |set| {
            format!("`{}`\n", set.chain.trim()).into()
        }),
        mended("in quotes", CRT, pem, &["line 1", "a quote stands before it"], |set| {
            format!("\"{}\"\n", set.chain.trim()).into()
        }),
        mended("indented", CRT, pem, &["line 1", "white space stands before the dashes"], |set| {
            set.chain.lines().map(|line| format!("    {line}\n")).collect::<String>().into()
        }),
        mended(
            "indented in YAML",
            KEY,
            Layer::Key,
            &["line 2", "white space stands before the dashes"],
            |set| {
                let lines: String = set.key.lines().map(|line| format!("  {line}\n")).collect();
                format!("tls.key: |\n{lines}").into()
            },
        ),
        mistake("commented out", CRT, pem, &["line 1", "the line is a comment"], |set| {
            set.chain.lines().map(|line| format!("# {line}\n")).collect::<String>().into()
        }),
        mended("a byte order mark before the second block", CRT, pem, &["byte order mark"], |set| {
            let (leaf, issuer) = set.blocks();
            format!("{leaf}\u{feff}{issuer}").into()
        }),
        mistake("a title that ends something", CRT, pem, &["line 1", "damaged BEGIN or END line"], |set| {
            format!("----- END LEAF -----\n{}", set.chain).into()
        }),
        mistake("an END alone", CRT, pem, &["line 1", "an END and no BEGIN line"], |set| {
            set.chain
                .split_once('\n')
                .map(|(_, rest)| format!("-----END CERTIFICATE-----\n{rest}"))
                .unwrap()
                .into()
        }),
        Mistake {
            never: &[],
            ..mistake(
                "cut within the base64",
                CRT,
                pem,
                &["line 1", "has no END line: the file is cut off"],
                |set| set.chain[..100].into(),
            )
        },
        Mistake {
            never: &["is cut off"],
            ..mistake("cut within an END line", KEY, pem, &["line 5", "it may be cut off"], |set| {
                set.key.trim_end()[..set.key.len() - 10].into()
            })
        },
        mistake(
            "no line break before END",
            KEY,
            pem,
            &["line 1", "has no END line, and line 4", "looks like a damaged END"],
            |set| set.key.replace("\n-----END", "-----END").into(),
        ),
    ]
}

/// Returns the chain in the form of PKCS #7.
fn pkcs7(set: &Set) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let chain = dir.path().join("chain");
    std::fs::write(&chain, &set.chain).unwrap();
    openssl(&["crl2pkcs7", "-nocrl", "-certfile", chain.to_str().unwrap()], b"")
}

/// Sections with other content, or in the wrong file.
fn sections() -> Vec<Mistake> {
    const REQUEST: &str = include_str!("keys/request.pem");
    let pem = Layer::Pem;
    vec![
        mistake("the key as the chain", CRT, pem, &["line 1", "no certificate", "exchanged"], |set| {
            set.key.clone().into()
        }),
        mistake("the chain as the key", KEY, Layer::Key, &["line 1", "no private key", "exchanged"], |set| {
            set.chain.clone().into()
        }),
        mistake(
            "a request as the chain",
            CRT,
            pem,
            &["line 1", "no certificate", "CERTIFICATE REQUEST"],
            |_| REQUEST.into(),
        ),
        mistake(
            "a public key as the key",
            KEY,
            Layer::Key,
            &["no private key", "a public key alone"],
            |set| openssl(&["pkey", "-pubout"], set.key.as_bytes()),
        ),
        mistake(
            "a key labelled as a certificate",
            CRT,
            Layer::Chain,
            &["line 1", "looks like a private key (PKCS #8)"],
            |set| set.key.replace("PRIVATE KEY", "CERTIFICATE").into(),
        ),
        mistake(
            "a request labelled as a certificate",
            CRT,
            Layer::Chain,
            &["line 1", "looks like a certificate request"],
            |_| REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE").into(),
        ),
        mistake(
            "a list labelled as a certificate behind the chain",
            CRT,
            Layer::Chain,
            &["looks like a CRL"],
            |set| {
                let time = value(asn1::UTC_TIME, b"260101000000Z");
                let signed = sequence(&[&value(asn1::INTEGER, &[1]), &sequence(&[]), &sequence(&[]), &time]);
                let list = sequence(&[&signed, &sequence(&[]), &value(asn1::BITS, &[0])]);
                format!("{}{}", set.chain, block("CERTIFICATE", &list)).into()
            },
        ),
        mended("PKCS #7", CRT, pem, &["line 1", "\"PKCS7\"", "openssl pkcs7 -print_certs"], pkcs7),
        mended("CMS", CRT, pem, &["line 1", "\"CMS\"", "openssl pkcs7 -print_certs"], |set| {
            String::from_utf8(pkcs7(set)).unwrap().replace(" PKCS7-", " CMS-").into()
        }),
        mended(
            "a certificate with trust settings",
            CRT,
            pem,
            &["TRUSTED CERTIFICATE", "trust settings"],
            |set| openssl(&["x509", "-addtrust", "serverAuth"], set.blocks().0.as_bytes()),
        ),
        mistake("the server's pair as the CAs", CA, pem, &["among CAs", "looks like"], |set| {
            format!("{}{}", set.key, set.chain).into()
        }),
        mistake("a block of PGP", KEY, pem, &["line 1", "encrypted by PGP"], |_| {
            b"-----BEGIN PGP MESSAGE-----\n\nmDMEAAAA\n=AAAA\n-----END PGP MESSAGE-----\n".to_vec()
        }),
        mistake("an armored file of age", KEY, pem, &["encrypted by age"], |_| {
            b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n".to_vec()
        }),
        mistake(
            "a letter of base64 that is none",
            CRT,
            pem,
            &["line 3", "certificate 1 (begins on line 1)"],
            |set| {
                let mut lines: Vec<_> = set.chain.lines().map(str::to_owned).collect();
                lines[2].replace_range(5..6, "*");
                lines.join("\n").into()
            },
        ),
        mistake("a comment within the base64", KEY, Layer::Key, &["line 3", "looks like a comment"], |set| {
            set.key.replacen('\n', "\n# mine\n", 2).replacen("# mine\n", "", 1).into()
        }),
        mistake("zeros within the base64", CA, pem, &["line 2", "zeros"], |set| {
            set.ca.replacen("MI", "\0\0", 1).into()
        }),
        mistake("base64 that lacks a letter", CRT, pem, &["line 1", "missing or superfluous"], |_| {
            b"-----BEGIN CERTIFICATE-----\nAAAAAAA\nAA\n-----END CERTIFICATE-----\n".to_vec()
        }),
        mistake("an empty section", CRT, pem, &["line 1", "the section is empty"], |_| {
            b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec()
        }),
    ]
}
