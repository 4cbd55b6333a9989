//! No key material in any printed or reported text. Each cut, each flipped character and each
//! replaced character of a key file goes through the whole build, and every resulting text is
//! searched for windows of the key.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_reload::{
    Event, Files, Reload, ServerReloader, Timing,
    internal::{Secret, pem},
};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject, leaks};

fn pair() -> Pair {
    Authority::root("root").issue(&Subject::server("example.test"), &PrivateKey::p256())
}

/// Returns damaged copies of a key file, each with all or a part of the key in it.
fn damaged(key: &str) -> Vec<Vec<u8>> {
    let bytes = key.as_bytes();
    let mut variants = Vec::new();
    for at in 0..bytes.len() {
        variants.push(bytes[..at].to_vec());
        variants.push(bytes[at..].to_vec());
        for put in [b'*', b'\n', b'-', b'A', 0, 0xff] {
            let mut variant = bytes.to_vec();
            variant[at] = put;
            variants.push(variant);
        }
    }
    variants.push([bytes, bytes].concat());
    variants.push(key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY").into_bytes());
    // The key in the place of a label, of a comment, or alone.
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    variants.push(body.clone().into_bytes());
    for marker in
        ["-----BEGIN {}-----\n-----END {}-----\n", "-----BEGIN {}\n", "-----{}-----\n", "-----END {}-----"]
    {
        variants.push(marker.replace("{}", &body).into_bytes());
        variants.push(marker.replace("{}", &body.to_uppercase()).into_bytes());
    }
    variants
}

/// Engine: generated.
#[test]
fn inv10_no_refusal_of_a_damaged_key_repeats_any_of_it() {
    let pair = pair();
    let der = pair.key_der();
    let variants = damaged(&pair.key);
    let mut refused = 0;
    for variant in &variants {
        for error in [pem::key(variant).err(), pem::chain(variant).err(), pem::ca_bundle(variant).err()] {
            let Some(error) = error else { continue };
            refused += 1;
            let text = format!("{error} {error:?} {}", error.why());
            assert!(!leaks(text.as_bytes(), &der, &pair.key), "{text}");
        }
    }
    println!("refusals searched: {refused} of {} variants", variants.len());
    assert!(refused > variants.len());
}

#[test]
fn inv10_no_report_of_a_running_reloader_holds_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let pair = pair();
    std::fs::write(&chain, &pair.chain).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    let reported = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&reported);
    let receive = move |event: &Event| {
        let mut reported = sink.lock().unwrap();
        reported.push_str(&format!("{event} {event:?} {:?}\n", event.shorthand()));
    };
    let reloader = ServerReloader::builder(&chain, &key)
        .timing(Timing { settle: Duration::from_millis(20), ..Timing::default() })
        .on_event(receive)
        .load()
        .unwrap();
    let variants = damaged(&pair.key);
    let mut refused = 0;
    for variant in variants.iter().step_by(23) {
        std::fs::write(&key, variant).unwrap();
        let answer = reloader.reload_now();
        refused += usize::from(matches!(answer, Reload::Refused(_)));
        let status = format!("{answer:?} {:?} {reloader:?} {:?}", reloader.status(), reloader.current());
        reported.lock().unwrap().push_str(&status);
    }
    let files = Files::new([(key, pair.key.as_bytes())]);
    let reported = format!("{} {files:?}", reported.lock().unwrap());
    assert!(refused > 40, "only {refused} refusals");
    assert!(!leaks(reported.as_bytes(), &pair.key_der(), &pair.key));
    println!("refusals by a running reloader: {refused}, {} bytes searched", reported.len());
}

/// Checks: INV-10. The next user of the memory finds no key in it.
#[cfg(target_os = "linux")]
#[test]
fn inv10_a_secret_is_wiped_before_its_memory_is_given_back() {
    use std::{fs::File, os::unix::fs::FileExt as _};
    let memory = File::open("/proc/self/mem").unwrap();
    // An allocator overwrites the beginning of freed memory, and may give it to another thread.
    let text = [0x5a; 4096];
    let is_text_at = |address: usize| {
        let mut bytes = [0; 4096];
        memory.read_exact_at(&mut bytes, address as u64).is_ok() && bytes[1024..] == text[1024..]
    };
    let mut left = 0;
    for _ in 0..100 {
        let secret = Secret::from(&text[..]);
        assert_eq!((&*secret, format!("{secret:?}").as_str()), (&text[..], "Secret(4096 bytes)"));
        let address = secret.as_ptr() as usize;
        assert!(is_text_at(address));
        drop(secret);
        assert!(!is_text_at(address));
        // Memory that is not wiped is found.
        let plain = Box::new(text);
        // The text is not read elsewhere, so `black_box` keeps the compiler from omitting it.
        let address = std::hint::black_box(&plain).as_ptr() as usize;
        drop(plain);
        left += usize::from(is_text_at(address));
    }
    assert!(left > 0, "this allocator leaves nothing, so that nothing is checked");
}

/// Breaks: INV-10. A design from the field prints the text that it could not parse.
#[test]
fn a_message_that_repeats_a_line_of_the_key_is_found() {
    let pair = pair();
    let line = pair.key.lines().nth(1).unwrap();
    for text in
        [format!("cannot parse {line:?}"), format!("bad key: {}", &line[50..62]), format!("{:?}", pair.key)]
    {
        assert!(leaks(text.as_bytes(), &pair.key_der(), &pair.key), "{text}");
    }
    let raw = pair.key_der().secret_der()[30..42].to_vec();
    assert!(leaks(&raw, &pair.key_der(), &pair.key));
    assert!(!leaks(b"the private key is not valid base64", &pair.key_der(), &pair.key));
}
