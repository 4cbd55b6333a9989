//! Checks that warnings about a chain are true, by the handshake of a client that has the root.
//!
//! Checks: INV-16

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{Volume, client_with, generations, handshake, quick};
use rustls_reload::{ClientAuth, Event, Layer, Reload, ServerReloader};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

const ANOTHER_KEY: &str = "is not signed by the key of the next one";
const NO_CA: &str = "is no CA certificate";
const NOT_ISSUED: &str = "is not issued by the next one";
const NOT_CHECKED: &str = "was not checked";
const NO_SERVER: &str = "does not allow it to authenticate a server";
const MUST_STAPLE: &str = "must-staple";

/// Returns whether a client that trusts only `root` completes a handshake with `pair`, and the
/// warnings of an inspection.
fn outcome(root: &Authority, pair: &Pair) -> (bool, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let paths = write(dir.path(), "tls", pair);
    let inspection = ServerReloader::builder(&paths.0, &paths.1).timing(quick()).inspect(Duration::ZERO);
    assert_eq!(inspection.refused, None);
    let chain = inspection.warnings.iter().filter(|warning| warning.layer() == Layer::Chain);
    let whys = chain.map(|warning| {
        assert_eq!(warning.path(), Some(paths.0.as_path()));
        warning.why().to_owned()
    });
    let whys = whys.collect();
    let server = ServerReloader::builder(&paths.0, &paths.1).timing(quick()).load().unwrap().config();
    let client = client_with(&[root], None, rustls::ALL_VERSIONS);
    (handshake(&server, &Arc::clone(&client)).is_ok(), whys)
}

fn write(dir: &Path, name: &str, pair: &Pair) -> (std::path::PathBuf, std::path::PathBuf) {
    let (chain, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    fs::write(&chain, &pair.chain).unwrap();
    fs::write(&key, &pair.key).unwrap();
    (chain, key)
}

fn leaf_of(issuer: &Authority) -> Pair {
    issuer.issue(&Subject::server("localhost"), &PrivateKey::p256())
}

fn behind(pair: &Pair, rest: &[&str]) -> Pair {
    Pair { chain: pair.chain.clone() + &rest.concat(), ..pair.clone() }
}

/// Makes a leaf whose issuer has a key on P-521, which ring does not know.
fn on_p521() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    fs::write(dir.path().join("ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:false\n").unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout ca.key -out ca.crt -subj /CN=CA",
    );
    openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out csr -subj /CN=localhost",
    );
    openssl(
        "x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -sha512 -extfile ext -out crt",
    );
    let leaf = rustls_reload::internal::pem::chain(read("crt").as_bytes()).unwrap().remove(0);
    Pair { chain: read("crt") + &read("ca.crt"), key: read("key"), leaf }
}

#[test]
fn inv16_each_chain_warning_agrees_with_the_handshake_of_a_client() {
    let root = Authority::root("Root");
    let (issuer, rekeyed) = (root.intermediate("Issuing CA"), root.intermediate("Issuing CA"));
    let other_kind = root.intermediate_seeded("Issuing CA", 7);
    let stranger = root.intermediate("Other CA");
    let other_root = Authority::root("Root");
    let leaf = leaf_of(&issuer);
    // The certificate of an end entity instead of an issuer's. Its holder has a key that can sign.
    let end_entity = PrivateKey::p256();
    let posing = root.issue(&Subject::server("Posing CA"), &end_entity);
    let posed = Authority::posing("Posing CA", &end_entity);
    let must_staple = issuer.issue_must_staple(&Subject::server("localhost"), &PrivateKey::p256());
    let for_clients = issuer.issue(
        &Subject { names: vec!["localhost".into()], ..Subject::client("localhost") },
        &PrivateKey::p256(),
    );
    // The rows: chain, whether the client accepts it, warnings.
    let rows: [(&str, Pair, bool, &[&str]); 12] = [
        ("the issuer", behind(&leaf, &[&issuer.pem]), true, &[]),
        ("the issuer and the root", behind(&leaf, &[&issuer.pem, &root.pem]), true, &[]),
        ("another key", behind(&leaf, &[&rekeyed.pem]), false, &[ANOTHER_KEY]),
        ("a key of another kind", behind(&leaf, &[&other_kind.pem]), false, &[ANOTHER_KEY]),
        ("a key that the provider does not know", on_p521(), false, &[NOT_CHECKED]),
        ("another name", behind(&leaf, &[&stranger.pem]), false, &[NOT_ISSUED]),
        ("another root", behind(&leaf, &[&issuer.pem, &other_root.pem]), true, &[ANOTHER_KEY]),
        ("both keys", behind(&leaf, &[&rekeyed.pem, &issuer.pem]), true, &[ANOTHER_KEY, NOT_ISSUED]),
        ("no CA", behind(&leaf_of(&posed), &[&posing.chain]), false, &[NO_CA]),
        ("must-staple", behind(&must_staple, &[&issuer.pem]), true, &[MUST_STAPLE]),
        ("for clients only", behind(&for_clients, &[&issuer.pem]), false, &[NO_SERVER]),
        ("nothing behind the leaf", leaf_of(&root), true, &[]),
    ];
    for (what, pair, taken, expected) in rows {
        let (handshake, whys) = outcome(&root, &pair);
        assert_eq!(handshake, taken, "{what}");
        assert_eq!(whys.len(), expected.len(), "{what}: {whys:?}");
        for (why, expected) in whys.iter().zip(expected) {
            assert!(why.contains(expected), "{what}: {why}");
        }
    }
}

/// OpenSSL verifies each certificate of a chain by the next one, as the warnings say.
#[test]
fn inv16_openssl_verify_fails_where_another_key_is_reported() {
    let root = Authority::root("Root");
    let (issuer, rekeyed) = (root.intermediate("Issuing CA"), root.intermediate("Issuing CA"));
    let leaf = leaf_of(&issuer);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (anchor, end) = (file("root", &root.pem), file("leaf", &leaf.chain));
    for (behind_it, verifies) in [(&issuer, true), (&rekeyed, false)] {
        let between = file("between", &behind_it.pem);
        let mut openssl = Command::new("openssl");
        openssl.arg("verify").arg("-CAfile").arg(&anchor).arg("-untrusted").arg(between).arg(&end);
        assert_eq!(openssl.output().unwrap().status.success(), verifies);
        let (_, whys) = outcome(&root, &behind(&leaf, &[&behind_it.pem]));
        assert_eq!(whys.is_empty(), verifies, "{whys:?}");
    }
}

/// An inspection warns about every served chain, not only about the default pair's.
#[test]
fn inv16_the_chain_of_a_further_pair_is_warned_of_at_its_path() {
    let root = Authority::root("Root");
    let (issuer, rekeyed) = (root.intermediate("Issuing CA"), root.intermediate("Issuing CA"));
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "tls", &behind(&leaf_of(&issuer), &[&issuer.pem]));
    let further = issuer.issue(&Subject::server("b.example"), &PrivateKey::p256());
    let bad = write(dir.path(), "b", &behind(&further, &[&rekeyed.pem]));
    let builder = ServerReloader::builder(&good.0, &good.1).timing(quick()).pair(&bad.0, &bad.1);
    let inspection = builder.inspect(Duration::ZERO);
    assert_eq!(inspection.refused, None);
    let chain: Vec<_> = inspection.warnings.iter().filter(|found| found.layer() == Layer::Chain).collect();
    let [only] = chain.as_slice() else { panic!("{:?}", inspection.warnings) };
    assert_eq!(only.path(), Some(bad.0.as_path()));
    assert!(only.why().contains(ANOTHER_KEY), "{only}");
}

/// Checks: INV-08, INV-16. A leaf that clients reject is served, with a warning when it comes.
#[test]
fn inv16_new_leaf_that_is_not_for_servers_is_warned_of_once() {
    let all = generations(2);
    let mut volume = Volume::of(&all[0]);
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&warnings);
    let server = volume.server().client_ca(volume.path("ca.crt"), ClientAuth::Required);
    let server = server.on_event(move |event| {
        if let Event::Warning { warning } = event {
            seen.lock().unwrap().push((warning.layer(), warning.why().contains(NO_SERVER)));
        }
    });
    let server = server.load().unwrap();
    let take = || std::mem::take(&mut *warnings.lock().unwrap());
    assert_eq!(take(), []);
    let Pair { chain, key, .. } = &all[0].client;
    for (ca, warned) in [(&all[0].ca.pem, vec![(Layer::Chain, true)]), (&all[1].ca.pem, vec![])] {
        let pair = [("tls.crt", chain.as_bytes()), ("tls.key", key.as_bytes())];
        volume.publish(&[pair[0], pair[1], ("ca.crt", ca.as_bytes())]);
        assert_eq!(server.reload_now(), Reload::Reloaded);
        assert_eq!(take(), warned);
    }
    let client = client_with(&[&all[0].ca], Some(&all[1].client), rustls::ALL_VERSIONS);
    let purpose = handshake(&server.config(), &client).unwrap_err();
    assert!(purpose.to_string().contains("extended key usage"), "{purpose}");
}
