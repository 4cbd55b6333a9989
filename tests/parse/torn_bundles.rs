//! Bundles that a crash or an overwriting writer has left with the remains of a section. They never
//! count as a shorter bundle, and their error is true. Checks: INV-02.

use rustls_reload::internal::pem;
use rustls_reload_testkit::Authority;

/// Returns a bundle of two CAs, and the start of the second.
fn bundle(between: &str) -> (String, usize) {
    let [a, b] = ["A", "B"].map(|name| Authority::root(name).pem);
    let start = a.len() + between.len();
    (a + between + &b, start)
}

/// Engine: generated, exhaustive: every hole of zeros from within the `BEGIN` into the `END` line.
#[test]
fn inv02_zeros_from_begin_into_end_line_are_refused() {
    let (bundle, begin) = bundle("");
    let end = bundle.rfind("-----END").unwrap();
    let mut holes = 0;
    for from in begin + 1..begin + 27 {
        for to in end..=bundle.trim_end().len() {
            let mut text = bundle.clone().into_bytes();
            text[from..to].fill(0);
            assert!(pem::ca_bundle(&text).is_err(), "zeros from {from} (begin {begin}) to {to} (end {end})");
            holes += 1;
        }
    }
    assert!(holes > 600, "{holes}");
    // The dashes may come after the zeros or between them.
    for line in ["\0\0-", "-\0-", "\0 -\0", "- \0\0CERTIFICATE", "--BEGIN\0\0"] {
        let text = bundle.clone() + line + "\n";
        assert!(pem::ca_bundle(text.as_bytes()).is_err(), "{line:?}");
    }
}

/// An ignored section must not swallow another one.
#[test]
fn inv02_zeros_in_a_section_that_is_passed_over_are_refused() {
    let [ca, swallowed] = ["A", "B"].map(|name| Authority::root(name).pem);
    let parameters = "-----BEGIN DH PARAMETERS-----\nMAAw\n-----END DH PARAMETERS-----\n";
    let mut text = [&ca, parameters, &swallowed, parameters].concat().into_bytes();
    assert_eq!(pem::ca_bundle(&text).unwrap().len(), 2);
    let from = ca.len() + 32;
    let to = text.len() - "Aw\n-----END DH PARAMETERS-----\n".len();
    text[from..to].fill(0);
    let why = pem::ca_bundle(&text).unwrap_err().to_string();
    assert!(why.contains("zeros"), "{why}");
}

/// Binary files have lines of zeros and dashes too, and the error names their format.
#[test]
fn inv11_zeros_beside_dashes_in_other_formats_name_the_format() {
    let text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let wide: Vec<u8> = text.bytes().flat_map(|byte| [byte, 0]).collect();
    let why = pem::ca_bundle(&wide).unwrap_err().to_string();
    assert!(why.contains("UTF-16"), "{why}");
    let der = b"\x30\x82\x00\x04-\0-\0";
    let why = pem::ca_bundle(der).unwrap_err().to_string();
    assert!(why.contains("DER"), "{why}");
}

/// A writer that does not truncate has reached these letters of the `BEGIN` line, and the end of an
/// older file follows.
#[test]
fn inv02_an_older_tail_behind_the_begin_of_a_line_is_refused() {
    let (bundle, begin) = bundle("");
    let mut tails = 0;
    for label in ["CERTIFICATE", "X509 CRL", "EC PRIVATE KEY", "DH PARAMETERS", "CERTIFICATE REQUEST"] {
        let end = format!("-----END {label}-----\n");
        for begun in 1..=10 {
            for from in 0..end.len() - 1 {
                let line = &bundle[begin..begin + begun];
                // Such a line is a ruler, which is text: it has only dashes, or ten dashes before `END`.
                let is_ruler = begun <= 5 && from >= end.len() - 6 || begun == 5 && from == 0;
                let text = bundle[..begin].to_owned() + line + &end[from..];
                let read = pem::ca_bundle(text.as_bytes());
                assert!(read.is_err() || is_ruler, "{line}{}", &end[from..]);
                tails += 1;
            }
        }
    }
    assert!(tails > 1_000, "{tails}");
}

#[test]
fn inv02_rulers_with_titles_are_text() {
    let ca = Authority::root("A").pem;
    for ruler in [
        "----- leaf -----",
        "----- CERTIFICATE -----",
        "-----leaf-----",
        "-- THE KEY --",
        "---",
        "# ---- KEY ----",
        "--------------------",
        "a -- B",
        "- KEY",
    ] {
        let text = format!("{ruler}\n{ca}{ruler}\n");
        assert_eq!(pem::ca_bundle(text.as_bytes()).map(|read| read.len()), Ok(1), "{ruler}");
    }
}

/// Engine: generated, exhaustive over the cuts.
#[test]
fn inv02_a_bundle_cut_in_a_marker_line_and_filled_up_is_refused() {
    for between in ["", "\n", "# a comment\n", "A -- B\n"] {
        let (bundle, begin) = bundle(between);
        let end = bundle.rfind("-----END").unwrap();
        for cut in (begin + 1..begin + 27).chain(end..bundle.trim_end().len()) {
            for fill in ["", "\0\0\0\0", "    ", "\0", " \0 ", "\t", "\u{b}", "\u{ff}"] {
                let text = [&bundle.as_bytes()[..cut], fill.as_bytes()].concat();
                assert!(pem::ca_bundle(&text).is_err(), "cut at {cut} of {begin}, filled with {fill:?}");
            }
        }
    }
}

#[test]
fn inv11_whole_files_with_damaged_end_lines_are_not_cut_off() {
    let pem = Authority::root("A").pem;
    let end = "-----END CERTIFICATE-----";
    let dashes = "\u{2013}".repeat(5);
    for (text, wanted) in [
        (pem.replace(end, "END CERTIFICATE"), "an END line without its dashes"),
        (pem.replace(end, "END CERTIFICATE") + "\nthe end\n", "an END line without its dashes"),
        (pem.replace(end, &format!("{dashes}END CERTIFICATE{dashes}")), "not ASCII"),
        (pem.trim_end().replace(end, &format!("{dashes}END CERTIFICATE{dashes}")), "not ASCII"),
        (pem.trim_end().replace(end, &format!("-----END CERTIFICATE{dashes}")), "not ASCII"),
    ] {
        let why = pem::ca_bundle(text.as_bytes()).unwrap_err().to_string();
        assert!(why.contains(wanted) && !why.contains("cut off"), "{why}");
    }
    for cut in [3, 10, 20] {
        let text = &pem.trim_end()[..pem.trim_end().len() - cut];
        let why = pem::ca_bundle(text.as_bytes()).unwrap_err().to_string();
        assert!(why.contains("cut off"), "{cut}: {why}");
    }
}
