//! EC keys that name no curve, beside certificates of curves that the crypto provider lacks.
//! Checks: INV-11.

use std::{path::Path, process::Command, time::Duration};

use rustls_reload::{Error, Layer, ServerReloader, Timing};

fn openssl(dir: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Makes a certificate of a key on this curve, and the key without curve and public part.
fn pair(dir: &Path, curve: &str, size: u8) {
    let der = openssl(dir, &format!("ecparam -name {curve} -genkey -noout -outform DER"));
    std::fs::write(dir.join("whole.der"), &der).unwrap();
    let request = "req -x509 -new -key whole.der -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                   -days 30 -out tls.crt";
    openssl(dir, request);
    let start = [2, 1, 1, 4, size];
    let at = der.windows(5).position(|window| window == start).unwrap();
    let inner = &der[at..at + 5 + usize::from(size)];
    let bare = [&[0x30, inner.len() as u8], inner].concat();
    std::fs::write(dir.join("bare.der"), bare).unwrap();
    let body = String::from_utf8(openssl(dir, "base64 -in bare.der")).unwrap();
    let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n");
    std::fs::write(dir.join("tls.key"), pem).unwrap();
}

fn load(dir: &Path, key: &Path) -> Result<ServerReloader, Error> {
    let timing = Timing { settle: Duration::from_millis(20), ..Timing::default() };
    ServerReloader::builder(dir.join("tls.crt"), key).timing(timing).load()
}

#[test]
fn inv11_bare_key_of_a_curve_the_provider_lacks_is_unsupported() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("no openssl on this machine");
        return;
    }
    let curves = [("prime256v1", 32), ("secp521r1", 66), ("secp224r1", 28), ("brainpoolP512r1", 64)];
    let dirs = curves.map(|(curve, size)| {
        let dir = tempfile::tempdir().unwrap();
        pair(dir.path(), curve, size);
        dir
    });
    let p256 = dirs[0].path();
    drop(load(p256, &p256.join("tls.key")).unwrap());
    for (dir, (curve, _)) in dirs.iter().zip(curves).skip(1) {
        // The key of another pair gets the same error, because it cannot be compared.
        for key in [dir.path(), p256] {
            let error = load(dir.path(), &key.join("tls.key")).err().unwrap();
            let why = error.to_string();
            assert_eq!(error.layer(), Layer::Key, "{why}");
            assert!(why.contains("does not support the curve") && why.contains(curve), "{why}");
            assert!(!why.contains("belong"), "{why}");
        }
    }
}
