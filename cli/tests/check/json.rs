//! The object of `check --json` has the same content as the lines of `check`.

use std::{fs, path::Path};

use serde_json::Value;

use rustls_reload_testkit::{Authority, PrivateKey, Subject};

use super::{Ended, command, pair, plain, run};

/// The object on stdout.
fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

/// Runs `check` twice on the pair in `dir`, with lines and with `--json`; both end with `code`.
fn both(dir: &Path, code: i32) -> (Ended, Value) {
    let (lines, object) = (run(&mut command(dir)), run(command(dir).arg("--json")));
    assert_eq!((lines.code, object.code), (Some(code), Some(code)), "{}{}", lines.stdout, lines.stderr);
    assert_eq!(lines.stderr, object.stderr);
    let object = json(&object);
    (lines, object)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn json_of_a_passing_pair_holds_every_line() {
    let dir = plain(&pair(90));
    let (lines, object) = both(dir.path(), 0);
    assert_eq!((object["result"].as_str(), &object["refused"]), (Some("passed"), &Value::Null));
    assert_eq!(object["warnings"], Value::Array(vec![]));
    assert_eq!(object["key"], "ECDSA P-256");
    assert_eq!(object["match"], "compared");
    assert_eq!(texts(&object["watched"]), lines.texts("watch"));
    assert_eq!(texts(&object["rehearsed"]), ["TLS 1.3", "TLS 1.2"]);
    let [leaf] = object["chain"].as_array().unwrap().as_slice() else { panic!("{object}") };
    let [line] = lines.texts("chain")[..] else { panic!("{}", lines.stdout) };
    let names = texts(&leaf["names"]).join(", ");
    let text = |key: &str| leaf[key].as_str().unwrap();
    assert_eq!(
        line,
        format!(
            "1 of 1, {}; subject: {}; names: {names}; issuer: {}; valid: {} to {}; serial: {}",
            text("role"),
            text("subject"),
            text("issuer"),
            text("not_before"),
            text("not_after"),
            text("serial")
        )
    );
    let paths = object["paths"].as_array().unwrap();
    let path = |way: &Value| way["path"].as_str().unwrap().to_owned();
    assert_eq!(paths.iter().map(path).collect::<Vec<_>>(), lines.texts("path"));
    assert!(paths.iter().all(|way| way["kind"] == "a regular file" && way["links"] == Value::Array(vec![])));
    let [sizes] = object["sizes"].as_array().unwrap().as_slice() else { panic!("{object}") };
    let sizes: Vec<_> = sizes.as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(lines.texts("snapshot"), [format!("{} bytes, read in one snapshot", sizes.join(", "))]);
}

#[test]
fn json_names_each_warning_and_the_lists_and_links() {
    let now = std::time::SystemTime::now();
    let clients = Authority::root("clients");
    let gone = clients.issue(&Subject::client("gone"), &PrivateKey::p256());
    let list = clients.crl(&[&gone.leaf], (now - super::DAY, now + 90 * super::DAY), 0xabcd);
    let dir = plain(&pair(3));
    for (name, bytes) in [("ca.crt", clients.pem.as_bytes()), ("real.crl", &list.der)] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    std::os::unix::fs::symlink("real.crl", dir.path().join("ca.crl")).unwrap();
    let mut command = command(dir.path());
    command.arg("--json").arg("--client-ca").arg(dir.path().join("ca.crt"));
    let ended = run(command.arg("--crl").arg(dir.path().join("ca.crl")));
    let object = json(&ended);
    assert_eq!((ended.code, object["result"].as_str()), (Some(3), Some("warnings")));
    let [warning] = object["warnings"].as_array().unwrap().as_slice() else { panic!("{object}") };
    assert_eq!(warning["layer"], "validity");
    assert_eq!(warning["path"].as_str(), dir.path().join("tls.crt").to_str());
    assert!(warning["why"].as_str().unwrap().starts_with("the leaf expires at "), "{warning}");
    assert_eq!(object["client_cas"][0]["role"], "root");
    assert_eq!(object["crls"][0]["number"], "ABCD");
    assert_eq!(object["crls"][0]["covers"], "all certificates");
    assert_eq!(object["crls"][0]["revoked"], 1);
    assert_eq!(object["crls"][0]["issuer"], "CN=clients");
    let way = object["paths"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(way["links"][0]["target"], "real.crl");
    assert_eq!(way["end"].as_str(), dir.path().join("real.crl").to_str());
}

#[test]
fn json_of_a_refused_pair_names_layer_path_and_cause() {
    let dir = plain(&pair(90));
    fs::write(dir.path().join("tls.key"), pair(90).key).unwrap();
    let (lines, object) = both(dir.path(), 1);
    let refused = &object["refused"];
    assert_eq!((&object["result"], &refused["layer"]), (&Value::from("refused"), &Value::from("match")));
    assert_eq!(refused["path"].as_str(), dir.path().join("tls.key").to_str());
    assert!(lines.stderr.contains(refused["why"].as_str().unwrap()), "{}", lines.stderr);
    assert_eq!((&object["match"], &object["watched"]), (&Value::Null, &Value::Array(vec![])));
}
