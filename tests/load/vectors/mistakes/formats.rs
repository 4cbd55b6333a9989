//! Files in another format or encoding than PEM.

use super::{
    super::{
        asn1::{self, sequence, value},
        messages::{Mistake, openssl, shell},
        set::{CA, CRT, KEY, Set},
    },
    der_of, digits, mended, mistake,
};
use crate::common::armor::base64;
use rustls_reload::Layer;

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

fn p12(set: &Set) -> Vec<u8> {
    let pair = format!("{}{}", set.key, set.chain);
    openssl(&["pkcs12", "-export", "-passout", "pass:secret"], pair.as_bytes())
}

/// Files that are not PEM.
pub(super) fn formats() -> Vec<Mistake> {
    let pem = Layer::Pem;
    vec![
        mistake("empty", CRT, pem, &["the file is empty"], |_| Vec::new()),
        mistake("white space only", KEY, pem, &["white space only"], |_| b" \n\t\n".to_vec()),
        mistake("zeros only", CRT, pem, &["zeros only"], |set| vec![0; set.chain.len()]),
        mended("UTF-16 with a mark, little end first", CRT, pem, &["looks like UTF-16"], |set| {
            utf16(&format!("\u{feff}{}", set.chain), u16::to_le_bytes)
        }),
        mended("UTF-16 with a mark, big end first", KEY, pem, &["looks like UTF-16"], |set| {
            utf16(&format!("\u{feff}{}", set.key), u16::to_be_bytes)
        }),
        mended("UTF-16 without a mark", KEY, pem, &["looks like UTF-16LE"], |set| {
            utf16(&set.key, u16::to_le_bytes)
        }),
        mended("UTF-16 without a mark, big end first", CA, pem, &["looks like UTF-16BE"], |set| {
            utf16(&set.ca, u16::to_be_bytes)
        }),
        mended("UTF-32", CRT, pem, &["looks like UTF-32LE"], |set| {
            set.chain.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()
        }),
        mended(
            "DER of a certificate",
            CRT,
            pem,
            &["looks like a certificate in DER", "openssl x509 -inform DER"],
            |set| der_of(&set.chain),
        ),
        mended("DER of a key", KEY, pem, &["looks like a private key (PKCS #8) in DER"], |set| {
            set.key_der().secret_der().to_vec()
        }),
        mended("DER of an encrypted key", KEY, pem, &["looks like an encrypted private key in DER"], |set| {
            openssl(&["pkcs8", "-topk8", "-outform", "DER", "-passout", "pass:secret"], set.key.as_bytes())
        }),
        mistake("DER of a CRL as the CAs", CA, pem, &["looks like a CRL in DER"], |_| {
            let time = value(asn1::UTC_TIME, b"260101000000Z");
            let signed = sequence(&[&value(asn1::INTEGER, &[1]), &sequence(&[]), &sequence(&[]), &time]);
            sequence(&[&signed, &sequence(&[]), &value(asn1::BITS, &[0])])
        }),
        mended(
            "PKCS #12 as the chain",
            CRT,
            pem,
            &["PKCS #12", ".p12", "openssl pkcs12 -in old -nodes", "OpenSSL 3 needs `-legacy`"],
            p12,
        ),
        mended("PKCS #12 as the key", KEY, pem, &["PKCS #12"], p12),
        mistake("PKCS #12 without lengths (BER)", CRT, pem, &["PKCS #12"], |_| {
            b"\x30\x80\x02\x01\x03\x30\x80\x06\x09\x2a".to_vec()
        }),
        mistake("JKS", CRT, pem, &["Java keystore", "keytool"], |_| {
            b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01".to_vec()
        }),
        mistake("JCEKS", KEY, pem, &["Java keystore", "keytool"], |_| b"\xce\xce\xce\xce\0\0\0\x02".to_vec()),
        mended("base64 of PEM", CRT, pem, &["base64 of PEM", "Kubernetes Secret"], |set| {
            base64(set.chain.as_bytes()).into()
        }),
        mended("base64 of a key's PEM, in lines", KEY, pem, &["base64 of PEM"], |set| {
            let text = base64(set.key.as_bytes());
            text.as_bytes().chunks(76).flat_map(|line| [line, b"\n"].concat()).collect()
        }),
        mended("base64 of base64 of PEM", KEY, pem, &["encoded twice or more"], |set| {
            base64(base64(set.key.as_bytes()).as_bytes()).into()
        }),
        mended("DER of a certificate in hexadecimal digits", CRT, pem, &["hexadecimal digits"], |set| {
            der_of(&set.chain).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }),
        mended("DER of a key in hexadecimal digits, in lines", KEY, pem, &["hexadecimal digits"], |set| {
            let hex = |line: &[u8]| line.iter().map(|byte| format!("{byte:02X}")).collect::<String>() + "\n";
            set.key_der().secret_der().chunks(30).map(hex).collect::<String>().into()
        }),
        mended(
            "a certificate without its BEGIN and END",
            CRT,
            pem,
            &["looks like a certificate without"],
            |set| digits(&set.chain),
        ),
        mended("a key without its BEGIN and END", KEY, pem, &["looks like a private key without"], |set| {
            digits(&set.key)
        }),
        mistake("HTML", CRT, pem, &["looks like a page (HTML or XML)"], |_| {
            b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n".to_vec()
        }),
        mistake("a pointer of git-lfs", CRT, pem, &["git-lfs", "git lfs pull"], |_| {
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec()
        }),
        mended("an answer of Vault", CRT, pem, &["looks like JSON", "jq -r .data.certificate"], |set| {
            let text = set.chain.replace('\n', "\\n");
            format!("{{\"data\": {{\"certificate\": \"{text}\"}}}}\n").into()
        }),
        mistake(
            "a Secret's manifest",
            CRT,
            pem,
            &["looks like a Kubernetes manifest", "kubectl get secret"],
            |set| {
                let data = base64(set.chain.as_bytes());
                format!("apiVersion: v1\nkind: Secret\ndata:\n  tls.crt: {data}\n").into()
            },
        ),
        mistake("a file of sops", KEY, pem, &["looks encrypted by sops", "sops -d"], |_| {
            b"key: ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]\nsops:\n  version: 3.9.0\n".to_vec()
        }),
        mistake("a file of ansible-vault", KEY, pem, &["ansible-vault decrypt"], |_| {
            b"$ANSIBLE_VAULT;1.1;AES256\n3961\n".to_vec()
        }),
        mistake("a file of age", KEY, pem, &["encrypted by age"], |_| {
            b"age-encryption.org/v1\n-> X25519 A\n".to_vec()
        }),
        mistake("a file of git-crypt", KEY, pem, &["git-crypt"], |_| b"\0GITCRYPT\0AAAA".to_vec()),
        mistake("a key of PuTTY", KEY, pem, &["PuTTY", "puttygen"], |_| {
            b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n".to_vec()
        }),
        mistake("a public key of SSH", CRT, pem, &["looks like a public key of SSH"], |_| {
            b"ssh-ed25519 AAAA x\n".to_vec()
        }),
        mended("gzip", CRT, pem, &["compressed by gzip"], |set| shell("gzip -c", set.chain.as_bytes())),
        mistake("a message", CRT, pem, &["no line begins with -----BEGIN"], |_| {
            b"permission denied!\n".to_vec()
        }),
    ]
}
