//! The answers of `openssl verify -extended_crl` in the same worlds, and the reasons for the
//! differences.

use std::{collections::BTreeMap, fs, process::Command};

use rustls::pki_types::CertificateDer;
use rustls_reload_harness::RevocationPolicy;
use rustls_reload_testkit::armor::encode;

use super::{
    model::{covers, reference},
    world::{Answer, Cert, Factory, Kind, List, Names, World},
};

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) asked: usize,
    agreed: usize,
    /// By reason, how often openssl lets a client in that is refused here.
    laxer: BTreeMap<&'static str, usize>,
    /// By reason, how often openssl refuses a client that is let in here.
    stricter: BTreeMap<&'static str, usize>,
    pub(crate) unexplained: Vec<String>,
}

/// Returns why openssl lets a client in that is refused here. It uses the best list that covers a
/// certificate, and the latest of equal ones.
fn laxer(lists: &[List], cert: &Cert) -> Option<&'static str> {
    let ours = || lists.iter().filter(|list| !list.kind.other_key && list.kind.names != Names::Nobody);
    if ours().any(|list| !covers(&list.kind, cert)) {
        return Some("a list that does not cover the certificate and names it is passed over");
    }
    if ours().any(|list| list.kind.expired) {
        return Some("an expired list that names the certificate is passed over beside a valid one");
    }
    ours()
        .any(|list| !list.later)
        .then_some("an older list that names the certificate is passed over beside a later one")
}

/// Returns why openssl refuses a client that is let in here: with `-crl_check_all` it also requires
/// the status of the anchor.
fn stricter(lists: &[List], all: bool) -> Option<&'static str> {
    let anchor = Cert { authority: true, points: &[] };
    let named_by_nobody = |list: &List| List { kind: Kind { names: Names::Nobody, ..list.kind }, ..*list };
    let lists: Vec<_> = lists.iter().map(named_by_nobody).collect();
    let world = World { lists: &lists, policy: RevocationPolicy::default() };
    (all && reference(&world, &anchor) != Answer::In)
        .then_some("no valid list covers the trust anchor itself")
}

pub(crate) fn compare<'a>(factory: &Factory, sets: impl Iterator<Item = &'a Vec<List>>) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let cas = put("cas.pem", &encode("CERTIFICATE", &[factory.root.der(), factory.other.der()]));
    let chains: Vec<_> = factory.certs.iter().map(|(_, chain)| chain).collect();
    let intermediates: Vec<_> = chains.iter().flat_map(|chain| &chain[1..]).collect();
    let untrusted = put("untrusted.pem", &encode("CERTIFICATE", &intermediates));
    // The queried certificate alone, which is the last of the chain, or the whole chain.
    let targets = |all: bool| -> Vec<_> {
        let asked =
            |chain: &Vec<CertificateDer<'static>>| chain[if all { 0 } else { chain.len() - 1 }].clone();
        let name = |i| format!("{i}-{all}.pem");
        chains
            .iter()
            .enumerate()
            .map(|(i, chain)| put(&name(i), &encode("CERTIFICATE", &[asked(chain)])))
            .collect()
    };
    let modes = [("-crl_check", targets(false)), ("-crl_check_all", targets(true))];
    let mut found = Found::default();
    for lists in sets {
        let world = World { lists, policy: RevocationPolicy::default() };
        let ders = lists.iter().map(|list| factory.list(list)).chain(&factory.of_intermediates);
        let crls = put("lists.pem", &encode("X509 CRL", &ders.map(|list| &list.der).collect::<Vec<_>>()));
        for (mode, targets) in &modes {
            let mut openssl = Command::new("openssl");
            openssl
                .args(["verify", mode, "-extended_crl", "-CAfile"])
                .arg(&cas)
                .arg("-untrusted")
                .arg(&untrusted);
            let output = openssl.arg("-CRLfile").arg(&crls).args(targets).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            for ((cert, _), target) in factory.certs.iter().zip(targets) {
                let passes = text.lines().any(|line| line == format!("{}: OK", target.display()));
                found.note(passes, reference(&world, cert) == Answer::In, lists, cert, *mode == modes[1].0);
            }
        }
    }
    found
}

impl Found {
    fn note(&mut self, passes: bool, right: bool, lists: &[List], cert: &Cert, all: bool) {
        self.asked += 1;
        let (reason, known) = match (passes, right) {
            (true, false) => (laxer(lists, cert), &mut self.laxer),
            (false, true) => (stricter(lists, all), &mut self.stricter),
            _ => {
                self.agreed += 1;
                return;
            }
        };
        match reason {
            Some(why) => *known.entry(why).or_default() += 1,
            None => self.unexplained.push(format!("openssl: {passes}, here: {right}, {cert:?} in {lists:?}")),
        }
    }
}
