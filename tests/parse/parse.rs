//! PEM and DER: the accepted inputs, the refused ones with their layer, and the fuzz bodies over
//! every cut of real files. `tests/parse/corpus.rs` tests the committed corpus.

mod reported_fields;

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use rustls_reload::{
    Layer,
    internal::{der, pem},
};
use rustls_reload_harness::fuzz;
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

fn pair() -> Pair {
    let root = Authority::root("root");
    root.intermediate("intermediate").issue_with_chain(&Subject::server("example.test"), &PrivateKey::p256())
}

/// Engine: generated.
#[test]
fn inv12_every_cut_and_every_flipped_byte_is_taken_without_a_panic() {
    let pair = pair();
    let combined = format!("{}{}", pair.key, pair.chain).into_bytes();
    let mut cases = 0;
    for end in 0..combined.len() {
        fuzz::pem_parse(&combined[..end]);
        let mut flipped = combined.clone();
        flipped[end] ^= 0x15;
        fuzz::pem_parse(&flipped);
        cases += 2;
    }
    for at in 0..pair.leaf.len() {
        fuzz::der_fields(&pair.leaf[..at]);
        for bit in 0..8 {
            let mut flipped = pair.leaf.to_vec();
            flipped[at] ^= 1 << bit;
            fuzz::der_fields(&flipped);
        }
        assert_eq!(der::fields(&pair.leaf[..at]), None, "a cut certificate was read");
        cases += 9;
    }
    println!("cuts and flips: {cases}");
    assert!(cases > 5_000);
}

/// Engine: generated.
#[test]
fn inv02_a_cut_chain_is_refused_unless_the_cut_is_between_blocks() {
    let chain = pair().chain.into_bytes();
    let end = b"-----END CERTIFICATE-----";
    for cut in 0..chain.len() {
        let whole_blocks = chain[..cut].trim_ascii_end().ends_with(end);
        assert_eq!(pem::chain(&chain[..cut]).is_ok(), whole_blocks, "cut at {cut}");
    }
}

#[test]
fn inv02_pem_that_others_skip_is_rejected_by_its_layer() {
    let pair = pair();
    let (chain, key) = (pair.chain.as_str(), pair.key.as_str());
    let relabel = |text: &str, from: &str, to: &str| text.replace(from, to).into_bytes();
    let crlf = chain.replace('\n', "\r\n");
    let refused: Vec<(&str, Layer, Vec<u8>)> = vec![
        ("an empty file", Layer::Pem, Vec::new()),
        ("text only", Layer::Pem, b"no certificate here\n".to_vec()),
        ("DER", Layer::Pem, pair.leaf.to_vec()),
        ("a key only", Layer::Pem, key.into()),
        ("TRUSTED CERTIFICATE", Layer::Pem, relabel(chain, "CERTIFICATE", "TRUSTED CERTIFICATE")),
        ("an END without a BEGIN", Layer::Pem, chain.split_once('\n').unwrap().1.into()),
        ("another END", Layer::Pem, relabel(chain, "END CERTIFICATE", "END X509 CRL")),
        ("a BEGIN inside", Layer::Pem, chain.replacen("-----END CERTIFICATE-----", "", 1).into_bytes()),
        ("damaged base64", Layer::Pem, chain.replacen("MII", "M*I", 1).into_bytes()),
        ("dashes missing", Layer::Pem, relabel(chain, "END CERTIFICATE-----", "END CERTIFICATE----")),
        ("an empty block", Layer::Pem, b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec()),
    ];
    for (what, layer, text) in &refused {
        let error = pem::chain(text).expect_err(what);
        assert_eq!(error.layer(), *layer, "{what}: {error}");
    }
    let plain = pem::chain(chain.as_bytes()).unwrap();
    assert_eq!(plain.len(), 2);
    for (what, text) in [
        ("CRLF", crlf.into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf", chain.as_bytes()].concat()),
        ("text before and after", format!("subject=x\n{chain}\nend\n").into_bytes()),
        ("a key beside it", format!("{key}{chain}").into_bytes()),
        ("no newline at the end", chain.trim_end().into()),
    ] {
        assert_eq!(pem::chain(&text).as_ref(), Ok(&plain), "{what}");
    }
}

/// `cat` joins files that begin with a byte order mark, and other tools leave unprinted bytes. A
/// section after such bytes is neither a section nor text beside the sections.
#[test]
fn inv03_a_section_behind_a_byte_that_is_not_printed_is_refused() {
    let chain = pair().chain;
    let marks: [&[u8]; 10] = [
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\x0c",
        b" \xef\xbb\xbf \t\xef\xbb\xbf ",
        b"\xef\xbb\xbf\x0b",
        b"\x0b",
        b"\x1a",
        b"\0\0\0",
        b"\xc2\xa0",
        b"\xe2\x80\x8b",
        b"\xff\xfe",
    ];
    for mark in marks {
        let joined = [chain.as_bytes(), mark, chain.as_bytes()].concat();
        // The error is the same where that section, or even its first dashes, were not written to
        // their end.
        let begun = chain.len() + mark.len();
        for text in [&joined[..], &joined[..begun + 40], &joined[..begun + 5], &joined[..begun + 3]] {
            let why = pem::chain(text).unwrap_err().to_string();
            assert!(why.contains("not printed, before dashes"), "{mark:x?}: {why}");
        }
    }
    // Printed characters before the dashes make the line text (RFC 7468 section 2).
    let titled = format!("a -----BEGIN line\n{chain}");
    assert_eq!(pem::chain(titled.as_bytes()), pem::chain(chain.as_bytes()));
}

/// Lines of dashes are text (RFC 7468 section 2), unless a damaged marker may hide in them.
#[test]
fn inv02_rulers_are_text_and_damaged_markers_are_not() {
    let chain = pair().chain;
    let (first, second) = chain.split_at(chain.match_indices("-----BEGIN ").nth(1).unwrap().0);
    let whole = pem::chain(chain.as_bytes()).unwrap();
    let long = "-".repeat(200);
    for ruler in [
        "-----",
        "------",
        long.as_str(),
        "----- leaf -----",
        "-----leaf-----",
        "  -----  ",
        "----- Zertifikat f\u{fc}r x -----",
        "----- end entity -----",
        "----- END OF CERTIFICATE 1 -----",
        "-----  end of the server's certificate  -----",
        "----- beginning -----",
        "-----=====-----",
        "-- BEGUN",
        "- END",
        "# -----BEGIN CERTIFICATE-----",
        "-----RECOMMENDED-----",
        "----- 1/2: SPEND -----",
    ] {
        for text in
            [format!("{ruler}\n{chain}"), format!("{first}{ruler}\n{second}"), format!("{chain}{ruler}\r\n")]
        {
            assert_eq!(pem::chain(text.as_bytes()).as_ref(), Ok(&whole), "{ruler:?} in {text}");
        }
        let inside = chain.replacen('\n', &format!("\n{ruler}\n"), 1);
        assert!(pem::chain(inside.as_bytes()).is_err(), "{ruler:?} within a section");
    }
    for marker in [
        "-----BEGIN",
        "-----B",
        "-----E",
        "-----EN",
        "-----END",
        "----- END -----",
        "-----begin certificate-----",
        "----- begin certificate -----",
        "-----BEGINCERTIFICATE-----",
        "------BEGIN CERTIFICATE-----",
        "----BEGIN CERTIFICATE----",
        "--END CERTIFICATE--",
        "\u{2014}BEGIN CERTIFICATE\u{2014}",
        "\u{2010}\u{2010}END X",
        "-----\0-----",
        "\0-----",
        "\x0b-----",
        "-----\u{200b}-----",
        "-----BEGIN X----------",
        "-----BEGIN \u{a0}X-----",
        "\u{2014}-----BEGIN OF X",
    ] {
        let text = format!("{first}{marker}\n{second}");
        let error = pem::chain(text.as_bytes()).expect_err(marker).to_string();
        let line = first.lines().count() + 1;
        assert!(error.contains(&format!("line {line}: ")), "{marker:?}: {error}");
    }
}

/// Engine: generated. Whichever byte is changed, no file that still has its end is called cut off.
#[test]
fn inv16_cut_off_is_said_of_cut_files_only() {
    let pair = pair();
    let whole = format!("{}{}", pair.chain, pair.key);
    let (mut said, mut refused) = (0, 0);
    let read = |text: &[u8]| [pem::chain(text).err(), pem::key(text).err()].into_iter().flatten();
    for at in 0..whole.len() {
        for error in read(&whole.as_bytes()[..at]) {
            said += usize::from(error.why().contains("is cut off") || error.why().contains("may be cut off"));
        }
        for put in [b'*', b'\n', b'-', b'A', b' ', 0, 0x1a, 0xff] {
            let mut changed = whole.clone().into_bytes();
            changed[at] = put;
            for error in read(&changed) {
                refused += 1;
                assert!(!error.why().contains("cut off"), "{put:#x} at {at}: {error}");
                assert!(error.why().starts_with("line "), "{error}");
            }
        }
    }
    assert!(said > whole.len() && refused > whole.len(), "{said} and {refused} of {}", whole.len());
}

/// Checks: INV-03. After a crash a file may have its full length although only its beginning was
/// written; the rest is zeros.
#[test]
fn inv03_zeros_from_inside_a_section_on_are_rejected() {
    let chain = pair().chain;
    let end = "-----END CERTIFICATE-----\n";
    let leaf = chain.find(end).unwrap() + end.len();
    for cut in 0..chain.len() - 1 {
        let mut filled = chain.clone().into_bytes();
        filled[cut..].fill(0);
        let read = pem::chain(&filled);
        assert_eq!(read.is_ok(), cut == leaf, "{cut} of {}", chain.len());
    }
}

#[test]
fn inv02_a_key_file_holds_exactly_one_usable_key() {
    let pair = pair();
    let key = pair.key.as_str();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    for (what, layer, text) in [
        ("two keys", Layer::Key, format!("{key}{key}")),
        ("an encrypted key", Layer::Key, encrypted),
        ("an encrypted key of the old kind", Layer::Key, legacy.to_owned()),
        ("certificates only", Layer::Key, pair.chain.clone()),
        ("a public key", Layer::Key, key.replace("PRIVATE KEY", "PUBLIC KEY")),
        ("nothing", Layer::Pem, String::new()),
        ("damaged base64", Layer::Key, key.replacen("MIG", "M*G", 1)),
    ] {
        let error = pem::key(text.as_bytes()).expect_err(what);
        assert_eq!(error.layer(), layer, "{what}: {error}");
    }
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for text in [format!("{parameters}{key}"), format!("{}{key}", pair.chain), format!("{key}{}", pair.chain)]
    {
        assert_eq!(pem::key(text.as_bytes()).unwrap().clone_der(), pair.key_der());
    }
}

#[test]
fn inv02_a_key_is_read_as_its_label_says() {
    let key = pair().key;
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
        let text = key.replace("PRIVATE KEY", label);
        let key = pem::key(text.as_bytes()).unwrap().clone_der();
        let read = match key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        assert_eq!(read, label);
        assert_eq!(key, PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap());
    }
}

#[test]
fn inv02_a_key_between_two_labels_or_behind_white_space_is_refused() {
    let key = pair().key;
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    for (what, layer, text) in [
        ("another BEGIN", Layer::Pem, key.replace(begin, "-----BEGIN RSA PRIVATE KEY-----")),
        ("another END", Layer::Pem, key.replace(end, "-----END RSA PRIVATE KEY-----")),
        ("white space before BEGIN", Layer::Key, key.replace(begin, &format!(" {begin}"))),
        ("white space before END", Layer::Key, key.replace(end, &format!(" {end}"))),
    ] {
        let error = pem::key(text.as_bytes()).expect_err(what);
        assert_eq!(error.layer(), layer, "{what}: {error}");
    }
}

/// A file that ends within the first dashes of a section is not whole. A file that ends with other
/// text is.
#[test]
fn inv01_dashes_at_the_end_of_a_file_are_the_beginning_of_something() {
    let chain = pair().chain;
    for dashes in ["-", "--", "---", "----", "-----", "\u{2014}--", "\0\0---", "--\0"] {
        let text = chain.clone() + dashes;
        assert_eq!(pem::chain(text.as_bytes()).unwrap_err().layer(), Layer::Pem, "{dashes}");
    }
    for end in ["end", "  ", "--a", "--\nend", "--\n", "------", "-----\n"] {
        assert_eq!(pem::chain((chain.clone() + end).as_bytes()).unwrap().len(), 2, "{end:?}");
    }
}

#[test]
fn inv12_a_file_has_a_limited_number_of_sections() {
    let empty = "-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n";
    let chain = pair().chain;
    let others = pem::SECTION_LIMIT - 2;
    assert_eq!(pem::chain((chain.clone() + &empty.repeat(others)).as_bytes()).unwrap().len(), 2);
    let error = pem::chain((chain + &empty.repeat(others + 1)).as_bytes()).unwrap_err();
    assert_eq!(error.layer(), Layer::Pem, "{error}");
}

/// The error names the place of the fault. It does not repeat an unknown label, which may be a part
/// of a key.
#[test]
fn inv10_inv11_a_refusal_names_what_is_a_label_and_nothing_else() {
    let chain = pair().chain;
    let of = |label: &str| {
        let text = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        pem::chain(text.as_bytes()).unwrap_err().to_string()
    };
    for label in ["X509 CRL", "TRUSTED CERTIFICATE", "PKCS7", "CMS", "ABCDEFGHIJK LMNOPQRSTUVWX"] {
        let reported = label.len() <= 24;
        assert_eq!(of(label).contains(&format!("{label:?}")), reported, "{label}: {}", of(label));
    }
    for strange in ["MIGHAGEAMBMGBYQGSM49", "a key", "A KEy", "A+KEY", "A KEY/", "A KEY="] {
        assert!(!of(strange).contains(strange), "{}", of(strange));
        assert!(of(strange).contains("strange"), "{}", of(strange));
    }
    let second = chain.replacen("-----END CERTIFICATE-----", "-----END CERTIFICATE-----\n#", 1);
    let (first, rest) = second.split_once('#').unwrap();
    let damaged = format!("{first}{}", rest.replacen("MII", "*II", 1));
    let error = pem::chain(damaged.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("certificate 2"), "{error}");
    let of = |bytes: &[u8]| pem::chain(bytes).unwrap_err().to_string().contains("DER");
    assert!(of(&pair().leaf) && !of(b"text"));
}
