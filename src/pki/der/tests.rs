//! Tests on DER that is assembled here, so that every byte of it is known.

use super::{
    name::{BMP_STRING, COMMON_NAME, DNS_NAME, IP_ADDRESS, TELETEX_STRING, UNIVERSAL_STRING},
    reader::SET,
    *,
};

/// Encodes one value, with its length in the shortest form.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len();
    let length = match length {
        0..=0x7f => vec![length as u8],
        0x80..=0xff => vec![0x81, length as u8],
        _ => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [&[tag][..], &length, &value].concat()
}

/// Encodes a name with these attributes, each with its type, tag and text.
fn name_of(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    let sets = attributes
        .iter()
        .map(|(id, tag, text)| der(SET, &[&der(SEQUENCE, &[&der(OID, &[id]), &der(*tag, &[text])])]));
    sets.collect::<Vec<_>>().concat()
}

const UTF8: u8 = 0x0c;

/// Encodes a certificate's fields from the serial number on, followed by `end`.
fn to_be_signed(serial: &[u8], subject: &[u8], end: &[u8]) -> Vec<u8> {
    let date = |text: &str| der(UTC_TIME, &[text.as_bytes()]);
    let validity = der(SEQUENCE, &[&date("700101000001Z"), &date("700101000100Z")]);
    let issuer = name_of(&[(COMMON_NAME, UTF8, b"issuer")]);
    let (empty, issuer, subject) = (der(SEQUENCE, &[]), der(SEQUENCE, &[&issuer]), der(SEQUENCE, &[subject]));
    [&der(INTEGER, &[serial])[..], &empty, &issuer, &validity, &subject, &empty, end].concat()
}

fn certificate(to_be_signed: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(SEQUENCE, &[to_be_signed])])
}

/// Encodes extensions with these types and values.
fn extensions(all: &[(&[u8], &[u8])]) -> Vec<u8> {
    let all = all.iter().map(|(id, value)| {
        der(SEQUENCE, &[&der(OID, &[id]), &der(BOOLEAN, &[&[0xff]]), &der(OCTETS, &[value])])
    });
    der(EXTENSIONS, &[&der(SEQUENCE, &[&all.collect::<Vec<_>>().concat()])])
}

#[test]
fn value_is_read_only_with_the_shortest_form_of_its_length() {
    let long = vec![7; 0x0102];
    for value in [&long[..0], &long[..0x7f], &long[..0x80], &long[..0xff], &long[..0x100], &long] {
        let text = [&der(OCTETS, &[value])[..], b"rest"].concat();
        let mut reader = Reader(&text);
        assert_eq!((reader.any(), reader.0), (Some((OCTETS, value)), &b"rest"[..]), "{}", value.len());
        assert_eq!(Reader(&text[..text.len() - 5]).any(), None);
    }
    let longest = [&[OCTETS, 0x83, 1, 0, 0][..], &vec![0; 1 << 16]].concat();
    assert_eq!(Reader(&longest).any().map(|(_, value)| value.len()), Some(1 << 16));
    assert_eq!(Reader(&[0, 1, 7]).any(), Some((0, &[7][..])));
    for refused in [
        &[][..],
        &[OCTETS],
        &[OCTETS, 2, 0],
        // The lengths are longer than necessary, indefinite, and longer than any value.
        &[&[OCTETS, 0x81, 0x7f][..], &[0; 0x7f]].concat(),
        &[&[OCTETS, 0x82, 0, 0x80][..], &[0; 0x80]].concat(),
        &[OCTETS, 0x80, 0, 0],
        &[OCTETS, 0x84, 0, 0, 0, 0],
        // The tag takes more than one byte.
        &[0x1f, 1, 0],
        &[0x3f, 1, 0],
    ] {
        assert_eq!(Reader(refused).any(), None, "{refused:02x?}");
    }
    let text = [der(INTEGER, &[b"1"]), der(OID, &[b"2"])].concat();
    let mut reader = Reader(&text);
    assert_eq!((reader.read_if(OID), reader.end()), (None, None));
    assert_eq!((reader.read_if(INTEGER), reader.read(INTEGER)), (Some(&b"1"[..]), None));
    assert_eq!(reader.end(), Some(()));
}

/// Checks: INV-02, INV-11.
///
/// Every part of a date counts, up to its last value.
#[test]
fn inv02_a_date_is_read_to_the_second_and_only_if_there_is_one() {
    for (tag, text, seconds) in [
        (UTC_TIME, "700101000000Z", Some(0)),
        (UTC_TIME, "700102030405Z", Some(86_400 + 3 * 3_600 + 4 * 60 + 5)),
        (UTC_TIME, "491231235960Z", Some(2_524_608_000)),
        (UTC_TIME, "500101000000Z", Some(0)),
        (UTC_TIME, "691231235959Z", Some(0)),
        (GENERALIZED_TIME, "20240229123456Z", Some(19_782 * 86_400 + 12 * 3_600 + 34 * 60 + 56)),
        (GENERALIZED_TIME, "19700203000000Z", Some(33 * 86_400)),
        (GENERALIZED_TIME, "00000229000000Z", Some(0)),
        (GENERALIZED_TIME, "19000229000000Z", None),
        (GENERALIZED_TIME, "20240230000000Z", None),
        (UTC_TIME, "241301000000Z", None),
        (UTC_TIME, "240101240000Z", None),
        (UTC_TIME, "240101006000Z", None),
        (UTC_TIME, "240101000061Z", None),
        (UTC_TIME, "240101000000", None),
        (UTC_TIME, "2401010000Z", None),
        (UTC_TIME, "24010100000+Z", None),
        (UTC_TIME, "20240101000000Z", None),
        (GENERALIZED_TIME, "240101000000Z", None),
        (OCTETS, "240101000000Z", None),
    ] {
        let found = time(&mut Reader(&der(tag, &[text.as_bytes()])));
        assert_eq!(found.map(|found| found.as_secs()), seconds, "{text}");
    }
}

#[test]
fn serial_is_shown_without_leading_zeros_and_with_its_sign() {
    for (serial, reported) in [
        (&[][..], ""),
        (&[0], "00"),
        (&[0, 0], "00"),
        (&[0x7f], "7F"),
        (&[0, 0xff], "FF"),
        (&[1, 0, 0x0a], "01000A"),
        (&[0x80], "-80"),
        (&[0xff], "-01"),
        (&[0xfe, 0], "-0200"),
        (&[0xff, 0x7f], "-81"),
    ] {
        assert_eq!(serial_hex(serial), reported, "{serial:02x?}");
    }
}

#[test]
fn alternative_names_are_read_up_to_a_limit_and_of_known_kinds() {
    let ipv6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let names = [
        der(0x81, &[b"a@example.test"]),
        der(DNS_NAME, &[b"a\n.test"]),
        der(IP_ADDRESS, &[&[192, 0, 2, 1]]),
        der(IP_ADDRESS, &[&[192, 0, 2, 1, 0]]),
        der(IP_ADDRESS, &[&ipv6]),
    ];
    let reported = ["a\u{fffd}.test", "192.0.2.1", "2001:db8::1"].map(String::from).to_vec();
    assert_eq!(alternative_names(&names.concat()), Some(reported));
    assert_eq!(alternative_names(&[]), Some(Vec::new()));
    assert_eq!(alternative_names(&[DNS_NAME, 2, b'a']), None);
    for (count, reported) in [(1_023, 1_023), (1_024, 1_024), (1_025, 1_024)] {
        let names = der(DNS_NAME, &[b"a"]).repeat(count);
        assert_eq!(alternative_names(&names).map(|names| names.len()), Some(reported));
    }
}

#[test]
fn name_is_shown_in_the_characters_of_its_kind_of_text() {
    let of = |tag, text: &[u8]| name(&name_of(&[(COMMON_NAME, tag, text)]));
    for (tag, text, reported) in [
        (UTF8, "é, \\ b".as_bytes(), "CN=é\\, \\\\ b"),
        (UTF8, b"\xff", "CN=\u{fffd}"),
        (TELETEX_STRING, b"\xe9", "CN=é"),
        (BMP_STRING, &[0, 0x61, 0x20, 0xac, 0xd8, 0], "CN=a€\u{fffd}"),
        (UNIVERSAL_STRING, &[0, 0, 0, 0x61, 0, 1, 0xf6, 0, 0, 0, 0xd8, 0], "CN=a😀\u{fffd}"),
        // A name neither breaks the line nor reverses its direction.
        (UTF8, "\u{7f}\u{200e}\u{2028}\u{2066}".as_bytes(), "CN=\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (UTF8, &[b'a'; 256], &format!("CN={}", "a".repeat(255))),
    ] {
        assert_eq!(of(tag, text).as_deref(), Some(reported));
    }
    let parts = name_of(&[(&[0x55, 4, 6], UTF8, b"DE"), (&[1, 2], UTF8, b"x"), (COMMON_NAME, UTF8, b"a")]);
    assert_eq!(name(&parts).as_deref(), Some("C=DE, ?=x, CN=a"));
    assert_eq!(name(&[]).as_deref(), Some(""));
    assert_eq!(name(&parts[..parts.len() - 1]), None);
}

/// Checks: INV-02, INV-11.
///
/// A certificate is read to its end, with every optional part present or absent.
#[test]
fn inv02_a_certificate_is_read_whole_or_not_at_all() {
    let subject = name_of(&[(COMMON_NAME, UTF8, b"first"), (COMMON_NAME, UTF8, b"last")]);
    let names = der(DNS_NAME, &[b"a.test"]);
    let alternative = der(SEQUENCE, &[&names]);
    let constraints = |value: u8| der(SEQUENCE, &[&der(BOOLEAN, &[&[value]])]);
    let bare = to_be_signed(b"\x05", &subject, b"");
    let version = der(VERSION, &[&der(INTEGER, &[b"\x02"])]);
    let [issuer_id, subject_id] = [0x81, 0x82].map(|tag| der(tag, &[b"id"]));
    let both = [&issuer_id[..], &subject_id].concat();
    for (start, unique) in [
        (&[][..], &[][..]),
        (&version, &[]),
        (&version, &issuer_id),
        (&version, &subject_id),
        (&version, &both),
    ] {
        let none = certificate(&[start, &bare, unique].concat());
        let found = fields(&none).expect("a certificate");
        let issuer = name_of(&[(COMMON_NAME, UTF8, b"issuer")]);
        assert_eq!((found.serial, found.issuer, found.subject), (&b"\x05"[..], &issuer[..], &subject[..]));
        assert_eq!((found.not_before, found.not_after), (Duration::from_secs(1), Duration::from_secs(60)));
        assert_eq!((found.names, found.alternative, found.ca), (vec!["last".to_owned()], None, false));
        for (value, ca) in [(0xff, true), (0, false), (1, false)] {
            let all = extensions(&[
                (&[0x55, 29, 99], b"other"),
                (SUBJECT_ALT_NAME, &alternative),
                (BASIC_CONSTRAINTS, &constraints(value)),
            ]);
            let text = certificate(&[start, &bare, unique, &all].concat());
            let found = fields(&text).expect("a certificate");
            assert_eq!(found.names, ["a.test"]);
            assert_eq!((found.alternative, found.ca), (Some(&names[..]), ca), "{value}");
        }
    }
}

/// Checks: INV-02.
///
/// A certificate that is cut off, or has a part where none stands, is rejected.
#[test]
fn inv02_a_certificate_with_a_part_too_many_or_too_few_is_rejected() {
    let subject = name_of(&[(COMMON_NAME, UTF8, b"last")]);
    let bare = to_be_signed(b"\x05", &subject, b"");
    let [issuer_id, subject_id] = [0x81, 0x82].map(|tag| der(tag, &[b"id"]));
    let whole = certificate(&bare);
    for cut in 0..whole.len() {
        assert_eq!(fields(&whole[..cut]), None, "{cut}");
    }
    assert_eq!(fields(&[&whole[..], b"\0"].concat()), None, "something behind it");
    assert_eq!(fields(&certificate(&to_be_signed(b"", &subject, b""))), None, "no serial");
    let behind = [&extensions(&[]), &issuer_id[..]].concat();
    let turned = [&subject_id[..], &issuer_id].concat();
    let twice = [&issuer_id[..], &issuer_id].concat();
    for other in
        [behind, turned, twice, der(0xa1, &[]), der(0xe3, &[&der(SEQUENCE, &[])]), der(SEQUENCE, &[])]
    {
        let text = certificate(&[&bare[..], &other].concat());
        assert_eq!(
            fields(&text),
            None,
            "{other:02x?} where only identifiers and extensions stand, in this order"
        );
    }
}

/// Checks: INV-16.
///
/// Only the TLS feature `status_request` means that a leaf demands a stapled response.
#[test]
fn inv16_must_staple_is_read_from_the_tls_features_alone() {
    let feature = |number: u8| der(INTEGER, &[&[number]]);
    let list =
        |numbers: &[u8]| der(SEQUENCE, &[&numbers.iter().flat_map(|n| feature(*n)).collect::<Vec<_>>()]);
    for (id, value, expected) in [
        (TLS_FEATURE, list(&[5]), true),
        (TLS_FEATURE, list(&[17, 5]), true),
        (TLS_FEATURE, list(&[17]), false),
        (TLS_FEATURE, list(&[]), false),
        (TLS_FEATURE, b"\xff\xff".to_vec(), false),
        (&[0x55, 29, 99], list(&[5]), false),
    ] {
        let all = extensions(&[(id, &value)]);
        let text = certificate(&[&to_be_signed(b"\x05", b"", b"")[..], &all].concat());
        assert_eq!(fields(&text).map(|found| found.must_staple), Some(expected), "{value:02x?}");
    }
}

/// Checks: INV-16.
///
/// The signature is read together with the bytes that it covers, or not at all.
#[test]
fn inv16_a_signature_is_read_with_the_bytes_that_it_signs() {
    let signed = der(SEQUENCE, &[&to_be_signed(b"\x05", b"", b"")]);
    let algorithm = der(SEQUENCE, &[b"how"]);
    let bits = |value: &[u8]| der(BIT_STRING, &[value]);
    let read = |parts: &[&[u8]]| {
        let text = der(SEQUENCE, &[&signed, &parts.concat()]);
        let found = fields(&text).expect("a certificate");
        assert_eq!(found.signed, signed);
        found.signature.map(|(algorithm, bytes)| (algorithm.to_vec(), bytes.to_vec()))
    };
    let whole = Some((b"how".to_vec(), b"sig".to_vec()));
    assert_eq!(read(&[&algorithm, &bits(b"\0sig")]), whole);
    assert_eq!(read(&[&algorithm, &bits(b"\x01sig")]), None, "not whole bytes");
    assert_eq!(read(&[&algorithm, &bits(b"\0sig"), b"\x05\0"]), None, "something behind it");
    assert_eq!(read(&[&algorithm]), None);
    assert_eq!(read(&[]), None);
}

/// Checks: INV-11.
///
/// A renewal with the same names, in any order, compares as equal.
#[test]
fn inv11_certificates_compare_by_sans_else_cns_else_subject() {
    let [a, b] = [b"a.test", b"b.test"].map(|name| der(DNS_NAME, &[name]));
    let subject = name_of(&[(&[0x55, 4, 6], UTF8, b"DE"), (COMMON_NAME, UTF8, b"a")]);
    let of = |subject: &[u8], alternative: Option<&[u8]>| {
        let text = certificate(&to_be_signed(b"\x05", subject, b""));
        let fields = fields(&text).expect("a certificate");
        let found = identity(&Fields { alternative, ..fields });
        found.into_iter().map(|(tag, value)| (tag, value.to_vec())).collect::<Vec<_>>()
    };
    let all = vec![(DNS_NAME, b"a.test".to_vec()), (DNS_NAME, b"b.test".to_vec())];
    assert_eq!(of(&subject, Some(&[&a[..], &b].concat())), all);
    assert_eq!(of(&subject, Some(&[&b[..], &a].concat())), all);
    assert_eq!(of(&subject, Some(&[&a[..], b"\x82"].concat())), [(0, b"\x82".to_vec()), all[0].clone()]);
    assert_eq!(of(&subject, None), [(UTF8, b"a".to_vec())]);
    let other = name_of(&[(&[0x55, 4, 6], UTF8, b"DE")]);
    assert_eq!(of(&other, None), [(SEQUENCE, other)]);
    assert_eq!(of(b"", None), [(SEQUENCE, Vec::new())]);
}
