//! The fields of certificates that are reported, compared with OpenSSL.

use std::process::Command;

use super::pair;
use rustls_reload::internal::der;
use rustls_reload_testkit::{Authority, PrivateKey, Subject};

/// Regression tests from a comparison with another parser: a date before 1970 in a month that does
/// not exist, and truncated extensions that counted as none.
#[test]
fn inv11_impossible_date_or_cut_extension_is_not_skipped() {
    let pair = pair();
    let fields = der::fields(&pair.leaf).unwrap();
    assert_eq!(fields.names, ["example.test"]);
    let certificate = pair.leaf.to_vec();
    let date = certificate.windows(2).position(|window| window == [0x17, 13]).unwrap() + 2;
    for (text, is_date) in [("690131", true), ("691301", false), ("690230", false), ("691231", true)] {
        let mut changed = certificate.clone();
        changed[date..date + 6].copy_from_slice(text.as_bytes());
        assert_eq!(der::fields(&changed).is_some(), is_date, "{text}");
    }
    let extensions =
        certificate.windows(3).position(|window| window[0] == 0xa3 && window[2] == 0x30).unwrap();
    let mut longer = certificate.clone();
    longer[extensions + 1] += 1;
    assert_eq!(der::fields(&longer), None);
}

/// Compares the reader of certificate fields with OpenSSL.
#[test]
fn inv11_reported_fields_are_as_openssl_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["example.test", "*.example.test", "localhost"];
    let mut subject = Subject::server(names[0]);
    subject.names = names.map(String::from).to_vec();
    for years in [1, 30] {
        let far = subject.window.0 + std::time::Duration::from_secs(years * 365 * 86_400);
        let subject = subject.clone().valid(subject.window.0, far);
        let leaf = Authority::root("root").issue(&subject, &PrivateKey::ed25519()).leaf;
        let fields = der::fields(&leaf).unwrap();
        let file = dir.path().join("leaf.der");
        std::fs::write(&file, &leaf).unwrap();
        let run = Command::new("openssl")
            .args(["x509", "-inform", "DER", "-noout", "-serial", "-dates", "-dateopt", "iso_8601", "-in"])
            .arg(&file)
            .output();
        let Ok(output) = run else {
            println!("no openssl on this machine: nothing to compare with");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        assert_eq!(field("serial="), der::serial_hex(fields.serial), "{text}");
        let date = |date| rustls_reload::Timestamp(date).to_string().replace('T', " ");
        assert_eq!(field("notBefore="), date(fields.not_before));
        assert_eq!(field("notAfter="), date(fields.not_after));
        assert_eq!(fields.names, names);
    }
}

/// Compares the reader's names, and whether the certificate is a CA's, with OpenSSL.
#[test]
fn inv11_reported_names_are_as_openssl_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = (dir.path().join("cert.der"), dir.path().join("key.pem"));
    for (subject, ca, expected) in [
        ("/C=DE/ST=Hamburg/L=Altona/O=A, B \\\\ C=D/OU=\u{e9}/CN=x/emailAddress=a@b.test", true, None),
        ("/DC=test/DC=example/CN=CN=y", false, None),
        ("/CN=a\u{7f}b\u{202e}c/serialNumber=1", false, Some("CN=a\u{fffd}b\u{fffd}c, ?=1")),
        ("/", true, Some("")),
    ] {
        let run = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "ed25519", "-nodes", "-utf8", "-outform", "DER", "-subj", subject,
            ])
            .args([
                "-addext",
                if ca { "basicConstraints=critical,CA:TRUE" } else { "basicConstraints=CA:FALSE" },
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .output();
        let Ok(output) = run else {
            println!("no openssl on this machine: nothing to compare with");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let certificate = std::fs::read(&file).unwrap();
        let fields = der::fields(&certificate).unwrap();
        let reported = der::name(fields.subject).unwrap();
        let options = ["-noout", "-subject", "-nameopt", "utf8,sep_comma_plus_space,sname,esc_2253"];
        let mut read = Command::new("openssl");
        read.args(["x509", "-inform", "DER", "-in"]).arg(&file).args(options);
        let output = read.output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(reported, expected.unwrap_or(read.trim_end().trim_start_matches("subject=")), "{read}");
        assert_eq!(der::name(fields.issuer).as_ref(), Some(&reported));
        assert_eq!(fields.ca, ca, "{subject}");
        for cut in 1..fields.subject.len() {
            // A cut between two parts of the name leaves a shorter name.
            assert!(der::name(&fields.subject[..cut]).is_none_or(|short| reported.starts_with(&short)));
        }
    }
}
