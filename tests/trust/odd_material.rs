//! Unusual but valid certificates, keys, providers and bundles, compared with the documentation and
//! with OpenSSL.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use crate::common::{Generation, client_of, handshake, server_in};
use rustls::{
    SupportedCipherSuite,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use rustls_reload::{
    ClientAuth, Clock, Event, Layer, Now, Reload, ServerReloader, SystemClock,
    internal::{der, pem},
};
use rustls_reload_testkit::leaks;

/// Returns the output of `openssl`.
fn openssl(dir: &Path, args: &str) -> String {
    let output = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a self-signed pair in `dir` by `openssl req` with these arguments.
fn pair(dir: &Path, args: &str) {
    openssl(
        dir,
        &format!("req -x509 -days 30 -nodes -keyout tls.key -out tls.crt -subj /CN=localhost {args}"),
    );
}

fn leaf(dir: &Path) -> CertificateDer<'static> {
    pem::chain(&fs::read(dir.join("tls.crt")).unwrap()).unwrap().remove(0)
}

#[test]
fn inv11_reported_serial_is_as_openssl_prints_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for serial in [
        "0",
        "1",
        "127",
        "128",
        "-1",
        "-128",
        "-129",
        "-0x80000000",
        "0x00ff00",
        "0x8000000000000000000000000000000000000001",
    ] {
        pair(dir.path(), &format!("-newkey ed25519 -set_serial {serial}"));
        let printed = openssl(dir.path(), "x509 -in tls.crt -noout -serial");
        let status = server_in(dir.path()).load().unwrap().status();
        let reported = status.leaf.unwrap().serial;
        if printed.trim() != format!("serial={reported}") {
            failed.push(format!("{serial}: reported {reported}, openssl {printed}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn inv11_common_name_of_any_string_type_is_reported_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for (kind, name) in
        [("utf8only", "Bücher"), ("pkix", "Bücher"), ("nombstr", "example"), ("default", "Bücher")]
    {
        let config = format!(
            "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask={kind}\n[dn]\nCN={name}\n"
        );
        fs::write(dir.path().join("cnf"), config).unwrap();
        openssl(
            dir.path(),
            "req -x509 -days 30 -nodes -newkey ed25519 -keyout tls.key -out tls.crt -config cnf -utf8",
        );
        let reported = der::fields(&leaf(dir.path())).unwrap().names;
        if reported != [name] {
            failed.push(format!("{kind}: reported {reported:?}"));
        }
    }
    // BMPString and UniversalString, which OpenSSL no longer chooses by itself.
    for kind in ["BMP", "T61", "UNIV"] {
        fs::write(dir.path().join("cnf"), "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=xxxxxxxx\n")
            .unwrap();
        let der_of = |text: &str| {
            openssl(dir.path(), &format!("asn1parse -genstr FORMAT:UTF8,{kind}:{text} -noout -out s.der"));
            fs::read(dir.path().join("s.der")).unwrap()
        };
        let wanted = match kind {
            "BMP" => "Büch",
            "UNIV" => "Bü",
            _ => "Bücher",
        };
        let value = der_of(wanted);
        // The subject of a certificate with a name of equal length is replaced in place. The
        // signature does not matter.
        let place = format!("/CN={}", "x".repeat(value.len() - 2));
        openssl(
            dir.path(),
            &format!("req -x509 -days 30 -nodes -newkey ed25519 -keyout tls.key -out tls.crt -subj {place}"),
        );
        let mut certificate = leaf(dir.path()).to_vec();
        let placeholder = [&[0x0c, value.len() as u8 - 2][..], &vec![b'x'; value.len() - 2]].concat();
        let mut exchanged = 0;
        for at in 0..certificate.len() - value.len() {
            if certificate[at..].starts_with(&placeholder) {
                certificate[at..at + value.len()].copy_from_slice(&value);
                exchanged += 1;
            }
        }
        assert_eq!(exchanged, 2, "issuer and subject");
        let reported = der::fields(&certificate).unwrap().names;
        if reported != [wanted] {
            failed.push(format!("{kind}: reported {reported:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn inv11_a_name_forges_neither_a_line_nor_a_field_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let forged = "a] CONFIG:X [MED] [generation:9 replaced:00,b\u{2028}CONF\u{202e}x";
    let config = format!(
        "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask=utf8only\n[dn]\nCN={}\n",
        forged.replace(',', "\\,")
    );
    fs::write(dir.path().join("cnf"), config).unwrap();
    pair(dir.path(), "-newkey ed25519");
    let reloader = server_in(dir.path()).load().unwrap();
    assert_eq!(reloader.status().leaf.unwrap().names, ["localhost"]);
    let mut events = reloader.events();
    openssl(
        dir.path(),
        "req -x509 -days 30 -nodes -newkey ed25519 -keyout tls.key -out tls.crt -config cnf -utf8 -addext basicConstraints=CA:false",
    );
    assert_eq!(reloader.reload_now(), Reload::Reloaded);
    let reported = events.try_next().unwrap().event;
    let Event::Published { .. } = &*reported else { panic!("{reported}") };
    let line = reported.shorthand().unwrap();
    println!("{line}");
    assert!(!line.contains(['\u{2028}', '\u{202e}']), "{line:?}");
    // The words in the brackets are exactly the fields.
    let fields = line.split_once(" [generation:").unwrap().1.strip_suffix(']').unwrap();
    let keys: Vec<_> = fields.split(' ').skip(1).filter_map(|field| field.split(':').next()).collect();
    assert_eq!(keys, ["fingerprint", "serial", "not_after", "names", "replaced"], "{line}");
}

/// A wall clock that stands still.
struct At(Duration, SystemClock);

impl Clock for At {
    fn now(&self) -> Now {
        Now { wall: self.0, ..self.1.now() }
    }

    fn sleep(&self, pause: Duration) {
        self.1.sleep(pause);
    }
}

#[test]
fn inv02_providers_that_serve_are_not_refused() {
    let generation = Generation::new(0);
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in generation.files() {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    // Only suites with SHA-384, as CNSA requires.
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite: &SupportedCipherSuite| format!("{suite:?}").contains("SHA384"));
    assert_eq!(provider.cipher_suites.len(), 3);
    let provider: Arc<CryptoProvider> = Arc::new(provider);
    let reloader = server_in(dir.path()).provider(provider).load().unwrap();
    let connection = handshake(&reloader.config(), &client_of(&generation, None)).unwrap();
    assert_eq!(*connection.leaf(), generation.server.leaf);
    let printed = openssl(dir.path(), "x509 -in tls.crt -noout -fingerprint -sha256");
    let reported = reloader.status().leaf.unwrap().fingerprint.to_string();
    assert_eq!(printed.trim().split_once('=').unwrap().1, reported);
}

#[test]
fn inv02_every_usual_key_is_served_by_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for key in [
        "-newkey ed25519",
        "-newkey rsa:2048",
        "-newkey rsa:3072 -sigopt rsa_padding_mode:pss -sha384",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384",
    ] {
        for old_form in [false, true] {
            pair(dir.path(), key);
            // The key as PKCS #8, in which the public part is known, so that the certificate does
            // not count as a leak.
            let modern = fs::read_to_string(dir.path().join("tls.key")).unwrap();
            if old_form {
                if key.contains("ed25519") {
                    continue;
                }
                openssl(dir.path(), "pkey -in tls.key -traditional -out old.key");
                fs::rename(dir.path().join("old.key"), dir.path().join("tls.key")).unwrap();
            }
            for versions in [&[&TLS12, &TLS13][..], &[&TLS12], &[&TLS13]] {
                for auth in [None, Some(ClientAuth::Optional), Some(ClientAuth::Required)] {
                    let server = server_in(dir.path()).versions(versions).alpn(["h2", "http/1.1"]).configure(
                        |config| {
                            config.max_fragment_size = Some(32);
                            config.send_half_rtt_data = true;
                            config.alpn_protocols.push(b"spdy".to_vec());
                        },
                    );
                    let server = match auth {
                        Some(mode) => server.client_ca(dir.path().join("tls.crt"), mode),
                        None => server,
                    };
                    match server.load() {
                        Ok(reloader) => {
                            let text = fs::read_to_string(dir.path().join("tls.key")).unwrap();
                            let out = format!("{:?} {reloader:?}", reloader.current());
                            let key = pem::key(modern.as_bytes()).unwrap().clone_der();
                            assert!(!leaks(out.as_bytes(), &key, &modern));
                            let lines = text.lines().filter(|line| !line.starts_with('-'));
                            assert!(
                                lines.clone().count() > 0
                                    && lines.into_iter().all(|line| !out.contains(line))
                            );
                        }
                        Err(error) => {
                            failed.push(format!("{key} {old_form} {} {auth:?}: {error}", versions.len()))
                        }
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn inv02_the_bundle_of_the_system_is_taken_as_client_cas() {
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !bundle.exists() {
        return println!("no bundle here");
    }
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), "-newkey ed25519");
    for mode in [ClientAuth::Optional, ClientAuth::Required] {
        drop(server_in(dir.path()).client_ca(bundle, mode).load().unwrap());
    }
}

#[test]
fn inv11_unusual_dates_and_names_are_as_openssl_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("cnf"),
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\npolicy=p\n\
         x509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:a.test,IP:::1,IP:10.0.0.1,\
         email:a@b.test,URI:https://x/,otherName:1.2.3.4;UTF8:x,dirName:d,RID:1.2.3\n[d]\nCN=inner\n[req]\n\
         distinguished_name=dn\n[dn]\n",
    )
    .unwrap();
    let mut failed = Vec::new();
    for (from, to) in [
        ("19500101000000Z", "19690101000000Z"),
        ("19700101000000Z", "20491231235959Z"),
        ("20000229000000Z", "20500101000000Z"),
        ("20200101000000Z", "99991231235959Z"),
        ("20510101000000Z", "20520229235959Z"),
    ] {
        fs::write(dir.path().join("index"), "").unwrap();
        fs::write(dir.path().join("serial"), "01\n").unwrap();
        openssl(
            dir.path(),
            "req -new -nodes -newkey ed25519 -keyout tls.key -out csr -subj /O=x+CN=many/CN=last",
        );
        openssl(
            dir.path(),
            &format!(
                "ca -batch -config cnf -selfsign -keyfile tls.key -md null -in csr -out tls.crt -notext -startdate {from} -enddate {to} -preserveDN"
            ),
        );
        let leaf = leaf(dir.path());
        let Some(fields) = der::fields(&leaf) else {
            failed.push(format!("{from} {to}: not read"));
            continue;
        };
        let printed = openssl(dir.path(), "x509 -in tls.crt -noout -dates -dateopt iso_8601");
        let date = |date| rustls_reload::Timestamp(date).to_string().replace('T', " ");
        let reported =
            format!("notBefore={}\nnotAfter={}\n", date(fields.not_before), date(fields.not_after));
        // Dates before 1970 are read as 1970, as documented.
        let printed = printed.replace("1950-", "1970-").replace("1969-", "1970-");
        if printed != reported {
            failed.push(format!("{reported} openssl {printed}"));
        }
        if fields.names != ["a.test", "::1", "10.0.0.1"] {
            failed.push(format!("{:?}", fields.names));
        }
        if let Err(error) = server_in(dir.path()).load() {
            failed.push(format!("{from} {to}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn inv02_the_last_second_of_a_validity_counts_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), "-newkey ed25519");
    let last = der::fields(&leaf(dir.path())).unwrap().not_after;
    let clock = Arc::new(At(last + Duration::from_millis(500), SystemClock::new()));
    let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&reported);
    let _reloader: ServerReloader = server_in(dir.path())
        .clock(clock)
        .on_event(move |event| keep.lock().unwrap().push(event.to_string()))
        .load()
        .unwrap();
    // The near end is reported, not that the leaf has expired.
    let reported = reported.lock().unwrap();
    assert!(matches!(&reported[..], [line] if line.starts_with("CONFIG:CERT_EXPIRING ")), "{reported:?}");
}

#[test]
fn inv02_version_without_a_suite_of_the_provider_is_disabled() {
    let generation = Generation::new(0);
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in generation.files() {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    for tls13 in [true, false] {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)) == tls13);
        // rustls accepts it, and so do its clients.
        let server = server_in(dir.path()).provider(Arc::new(provider));
        let config = server.load().unwrap().config();
        let connection = handshake(&config, &client_of(&generation, None)).unwrap();
        assert_eq!(connection.version == rustls::ProtocolVersion::TLSv1_3, tls13);
    }
}

/// Roots that `openssl x509 -req -signkey` makes without extensions have version 1. RFC 5280 allows
/// them, and clients ignore them.
#[test]
fn inv02_a_version_1_root_behind_the_leaf_is_not_refused() {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), "req -new -newkey rsa:2048 -nodes -keyout ca.key -out ca.csr -subj /CN=ca");
    openssl(dir.path(), "x509 -req -in ca.csr -signkey ca.key -days 30 -out ca.crt");
    let root = fs::read_to_string(dir.path().join("ca.crt")).unwrap();
    assert!(openssl(dir.path(), "x509 -in ca.crt -noout -text").contains("Version: 1"));
    fs::write(dir.path().join("ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:false\n").unwrap();
    openssl(dir.path(), "req -new -newkey ed25519 -nodes -keyout tls.key -out tls.csr -subj /CN=localhost");
    let sign =
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out leaf.crt";
    openssl(dir.path(), sign);
    let chain = fs::read_to_string(dir.path().join("leaf.crt")).unwrap() + &root;
    fs::write(dir.path().join("tls.crt"), &chain).unwrap();
    let chain = pem::chain(chain.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[1].clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    // rustls alone serves this chain, and a client verifies it.
    let key = pem::key(&fs::read(dir.path().join("tls.key")).unwrap()).unwrap().clone_der();
    let plain = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)
        .unwrap();
    assert_eq!(handshake(&Arc::new(plain), &client).unwrap().chain, chain);
    let reloader = server_in(dir.path()).load().unwrap();
    assert_eq!(handshake(&reloader.config(), &client).unwrap().chain, chain);
    let warnings = || {
        let inspection = server_in(dir.path()).inspect(Duration::ZERO);
        let of_chain = inspection.warnings.iter().filter(|warning| warning.layer() == Layer::Chain);
        of_chain.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warnings(), Vec::<String>::new());
    // Before the end of a chain, where it would have to issue on, it is no CA.
    let path = dir.path().join("tls.crt");
    fs::write(&path, fs::read_to_string(&path).unwrap() + &root).unwrap();
    assert!(warnings().iter().any(|text| text.contains("certificate 2 of 3 is no CA certificate")));
    // The leaf itself has to be of version 3, because no rustls client accepts another.
    fs::write(dir.path().join("tls.crt"), root).unwrap();
    fs::copy(dir.path().join("ca.key"), dir.path().join("tls.key")).unwrap();
    assert_eq!(server_in(dir.path()).load().unwrap_err().layer(), Layer::Chain);
}
