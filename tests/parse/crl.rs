//! CRLs as files: which are accepted, which are refused, and which fields are read. The
//! fields are compared with those of the issuer and with OpenSSL's.

use std::{
    cmp::Ordering,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_reload::{
    Layer,
    internal::{crl, der},
};
use rustls_reload_harness::fuzz;
use rustls_reload_testkit::{Authority, Crl, Pair, PrivateKey, Subject};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Version};

const HOUR: Duration = Duration::from_secs(3600);

fn window() -> (SystemTime, SystemTime) {
    (SystemTime::now() - HOUR, SystemTime::now() + HOUR)
}

fn clients(ca: &Authority, count: usize) -> Vec<Pair> {
    let identity = PrivateKey::p256();
    (0..count).map(|i| ca.issue(&Subject::client(&format!("client {i}")), &identity)).collect()
}

fn list(ca: &Authority, revoked: &[Pair], number: u64) -> Crl {
    ca.crl(&revoked.iter().map(|pair| &pair.leaf).collect::<Vec<_>>(), window(), number)
}

/// Engine: generated.
#[test]
fn inv12_no_cut_or_flipped_byte_of_a_crl_panics() {
    let ca = Authority::root("CA");
    let crl = list(&ca, &clients(&ca, 3), 7);
    let mut cases = 0;
    for file in [&crl.der[..], crl.pem.as_bytes()] {
        for at in 0..file.len() {
            fuzz::crl_parse(&file[..at]);
            assert!(crl::parse(&file[..at]).is_err() || file[at..] == *b"\n", "a cut list was read: {at}");
            for bit in 0..8 {
                let mut flipped = file.to_vec();
                flipped[at] ^= 1 << bit;
                fuzz::crl_parse(&flipped);
            }
            cases += 9;
        }
    }
    println!("cuts and flips: {cases}");
    assert!(cases > 5_000);
}

#[test]
fn inv02_what_is_read_of_a_list_is_what_was_written() {
    let ca = Authority::root("An authority");
    for count in [0, 1, 2, 200] {
        let clients = clients(&ca, count);
        let crl = list(&ca, &clients, 0xfe00 + count as u64);
        let fields = crl::fields(&crl.der).unwrap();
        let serials: Vec<_> =
            clients.iter().map(|client| der::fields(&client.leaf).unwrap().serial).collect();
        assert_eq!(fields.revoked, serials);
        assert_eq!(fields.issuer, der::fields(ca.der()).unwrap().subject);
        assert_eq!(der::serial_hex(fields.number.unwrap()), format!("{:X}", 0xfe00 + count));
        assert!(fields.version_2 && fields.scope.is_none());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(fields.this_update < now && fields.next_update.unwrap() > now);
        assert_eq!(fields.next_update.unwrap() - fields.this_update, 2 * HOUR);
    }
}

#[test]
fn inv02_openssl_reads_the_same_of_a_list() {
    let ca = Authority::root("An authority");
    let clients = clients(&ca, 3);
    let crl = list(&ca, &clients, 0x1234_5678_9abc);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.der");
    std::fs::write(&path, &crl.der).unwrap();
    let options = ["crl", "-inform", "DER", "-noout", "-crlnumber", "-issuer", "-text", "-in"];
    let Ok(output) = Command::new("openssl").args(options).arg(&path).output() else {
        println!("skipped: openssl is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = crl::fields(&crl.der).unwrap();
    let after = |label: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.trim().strip_prefix(label)).map(str::trim).collect()
    };
    assert_eq!(after("crlNumber=0x"), [der::serial_hex(fields.number.unwrap())], "{text}");
    let issuer = after("issuer=")[0].replace(" = ", "=");
    assert_eq!(Some(issuer), der::name(fields.issuer));
    let serials: Vec<_> = fields.revoked.iter().map(|serial| der::serial_hex(serial)).collect();
    assert_eq!(after("Serial Number:"), serials);
    // The PEM that OpenSSL writes has to be readable here.
    let pem =
        Command::new("openssl").args(["crl", "-inform", "DER", "-text", "-in"]).arg(&path).output().unwrap();
    assert_eq!(crl::parse(&pem.stdout).unwrap(), [crl.der]);
}

#[test]
fn inv03_nothing_in_a_file_of_lists_is_passed_over() {
    let (ca, other) = (Authority::root("CA"), Authority::root("other"));
    let (one, two) = (list(&ca, &clients(&ca, 1), 1), list(&other, &[], 1));
    let both = format!("{}{}", one.pem, two.pem);
    let garbage = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    let refused: Vec<(&str, Layer, Vec<u8>)> = vec![
        ("an empty file", Layer::Pem, Vec::new()),
        ("text only", Layer::Pem, b"nobody is revoked\n".to_vec()),
        ("an empty block", Layer::Pem, b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n".to_vec()),
        ("a certificate", Layer::Pem, ca.pem.clone().into()),
        ("a certificate beside a list", Layer::Pem, format!("{}{}", one.pem, ca.pem).into()),
        ("a malformed list before a good one", Layer::Crl, format!("{garbage}{}", one.pem).into()),
        ("a malformed list after a good one", Layer::Crl, format!("{}{garbage}", one.pem).into()),
        ("damaged base64", Layer::Pem, both.replacen("MI", "M*", 1).into()),
        ("a cut block", Layer::Pem, both[..both.len() - 40].into()),
        ("cut DER", Layer::Crl, one.der[..one.der.len() - 1].to_vec()),
        ("DER and more", Layer::Crl, [&one.der[..], &two.der[..]].concat()),
        ("a certificate in DER", Layer::Crl, ca.der().to_vec()),
    ];
    for (what, layer, file) in &refused {
        let error = crl::parse(file).expect_err(what);
        assert_eq!(error.layer(), *layer, "{what}: {error}");
    }
    assert_eq!(crl::parse(both.as_bytes()).unwrap(), [one.der.clone(), two.der.clone()]);
    assert_eq!(crl::parse(both.replace('\n', "\r\n").as_bytes()).unwrap(), [one.der.clone(), two.der]);
    assert_eq!(crl::parse(&one.der).unwrap(), [one.der]);
}

#[test]
fn newer_crl_is_issued_later_or_has_the_greater_number() {
    let ca = Authority::root("CA");
    let (from, to) = window();
    let crl = |seconds: u64, number| ca.crl(&[], (from + Duration::from_secs(seconds), to), number).der;
    let cases = [
        (crl(0, 1), crl(0, 1), Ordering::Equal, Ordering::Equal),
        (crl(1, 1), crl(0, 9), Ordering::Greater, Ordering::Less),
        (crl(0, 0x80), crl(0, 0x7f), Ordering::Greater, Ordering::Greater),
        (crl(0, 0xffff), crl(0, 0x1_0000), Ordering::Less, Ordering::Less),
    ];
    for (a, b, age, numbered) in &cases {
        let (a, b) = (crl::fields(a).unwrap(), crl::fields(b).unwrap());
        assert_eq!((a.age(&b), a.numbered(&b)), (*age, Some(*numbered)), "{:?} and {:?}", a.number, b.number);
        assert_eq!(b.age(&a), age.reverse());
    }
}

/// Compares with a third reader, which shares no code with this one, over every list of the corpus
/// and lists of any size.
#[test]
fn inv02_another_parser_reads_the_same_dates_serials_and_number() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/crl_parse");
    let inputs =
        std::fs::read_dir(corpus).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut lists: Vec<_> = inputs.filter_map(|input| crl::parse(&input).ok()).flatten().collect();
    assert!(lists.len() > 10, "{}", lists.len());
    let ca = Authority::root("CA");
    lists.extend((0..40).step_by(7).map(|count| list(&ca, &clients(&ca, count), count as u64).der));
    for list in &lists {
        let ours = crl::fields(list).unwrap();
        let (rest, theirs) = CertificateRevocationList::from_der(list).unwrap();
        assert!(rest.is_empty());
        let seconds = |time: &ASN1Time| Duration::from_secs(u64::try_from(time.timestamp()).unwrap());
        assert_eq!(ours.this_update, seconds(&theirs.last_update()));
        assert_eq!(ours.next_update, theirs.next_update().as_ref().map(seconds));
        let serials: Vec<_> =
            theirs.iter_revoked_certificates().map(|revoked| revoked.raw_serial()).collect();
        assert_eq!(ours.revoked, serials);
        let number = theirs.crl_number().map(|number| number.to_bytes_be());
        let digits =
            |number: &[u8]| number.iter().copied().skip_while(|digit| *digit == 0).collect::<Vec<_>>();
        assert_eq!(ours.number.map(digits), number.as_deref().map(digits));
        assert_eq!(ours.version_2, theirs.version() == Some(X509Version::V2));
        assert_eq!(ours.signature, theirs.signature_value.as_ref());
    }
    println!("lists compared: {}", lists.len());
}

/// `0` is the tag byte of a SEQUENCE in DER.
#[test]
fn inv02_pem_lists_behind_text_that_begins_with_zero_are_read() {
    let window = (SystemTime::now() - Duration::from_secs(60), SystemTime::now() + Duration::from_secs(3600));
    let list = Authority::root("A").crl(&[], window, 1);
    for text in ["", "1 list\n", "0 revoked\n", "0"] {
        let read = crl::parse(format!("{text}\n{}", list.pem).as_bytes());
        assert_eq!(read.map(|lists| lists.len()), Ok(1), "{text:?}");
    }
    assert_eq!(crl::parse(&list.der).map(|lists| lists.len()), Ok(1));
    let damaged = crl::parse(&list.der[..list.der.len() - 1]).unwrap_err();
    assert_eq!(damaged.layer(), Layer::Crl);
}
