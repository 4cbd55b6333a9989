//! Changes of the client CAs: whether they reduce trust is what handshakes show.

use super::{
    files,
    rows::{self, CLIENT_AUTH, authority},
    x509::{self, Signer, basic, key_cert_sign, purposes},
};
use crate::common::{
    Generation, client_with, handshake,
    sessions::{KINDS, Kind, Rule, Sessions},
};
use rustls::RootCertStore;
use rustls_reload::{Event, Reload, RemovedTrust, internal::pem};
use rustls_reload_testkit::Pair;

/// A client CA before and after a change: the bundles, and a client that the first bundle lets in.
struct Change {
    what: &'static str,
    bundles: [String; 2],
    client: Pair,
    /// Whether the anchors are equal.
    same: bool,
}

fn changes() -> Vec<Change> {
    let ((signer, _), (other, _)) = (Signer::new(), Signer::new());
    let ca = [basic(true, None), key_cert_sign()];
    let lax = |(id, _, value): &x509::Extension| x509::extension(id, value.clone());
    let public = signer.public();
    let client = rows::issued(&signer, "CA", b"\x82\x0da.example.com");
    let of = |subject: &str, signer: &Signer, key: &[u8], extensions: &[x509::Extension]| {
        authority(subject, signer, key, extensions)
    };
    let made = |version_3, serial, issuer, dates, extensions: &[x509::Extension]| {
        let key = &public;
        x509::pem(
            &x509::Certificate { version_3, serial, issuer, subject: "CA", dates, key, extensions }
                .signed_by(&signer),
        )
    };
    let first = of("CA", &signer, &public, &ca);
    let constrained = |name: &[u8]| {
        let base = x509::der(0x82, &[name]);
        let subtrees = x509::der(0xa0, &[&x509::der(0x30, &[&base])]);
        let constraints = (x509::CONSTRAINTS, true, x509::der(0x30, &[&subtrees]));
        of("CA", &signer, &public, &[&ca[..], &[constraints]].concat())
    };
    let (com, net) = (constrained(b"example.com"), constrained(b"example.net"));
    let spare = Generation::new(9).ca.pem;
    let change = |what, from: &str, to: &str, same| Change {
        what,
        bundles: [from, to].map(|bundle| format!("{bundle}{spare}")),
        client: client.clone(),
        same,
    };
    vec![
        change("another serial and dates", &first, &made(true, 2, "CA", x509::FUTURE, &ca), true),
        change("expired", &first, &made(true, 3, "CA", x509::PAST, &ca), true),
        change("fewer extensions", &first, &made(true, 4, "CA", x509::NOW, &ca[..1]), true),
        change(
            "more extensions",
            &first,
            &made(true, 5, "CA", x509::NOW, &[&ca[..], &[purposes(&[CLIENT_AUTH])]].concat()),
            true,
        ),
        change(
            "no critical extension",
            &first,
            &of("CA", &signer, &public, &[lax(&ca[0]), lax(&ca[1])]),
            true,
        ),
        change("a shorter path", &first, &made(true, 5, "CA", x509::NOW, &[basic(true, Some(0))]), true),
        change("version 1", &first, &made(false, 6, "CA", x509::NOW, &[]), true),
        change("cross-signed", &first, &made(true, 7, "another", x509::NOW, &ca), true),
        change(
            "twice, and the renewed one first",
            &first,
            &(made(true, 8, "CA", x509::NOW, &ca) + &first),
            true,
        ),
        change("the old one of two", &(first.clone() + &made(true, 8, "CA", x509::NOW, &ca)), &first, true),
        change("the same constraints", &com, &(com.clone() + &com), true),
        change("another key", &first, &of("CA", &other, &other.public(), &ca), false),
        change("another string type of the name", &first, &of("printable:CA", &signer, &public, &ca), false),
        change("another name", &first, &of("other CA", &signer, &public, &ca), false),
        change("no CA any more", &first, &made(true, 9, "CA", x509::NOW, &[basic(false, None)]), false),
        change("gone", &first, "", false),
        change("constraints that let it in", &first, &com, false),
        change("constraints that do not", &first, &net, false),
        change("other constraints", &com, &net, false),
        change("constraints that have gone", &com, &first, false),
    ]
}

/// The results of a change, with each kind of session.
struct After {
    let_in: bool,
    resumed: bool,
    lost: Vec<RemovedTrust>,
    drained: bool,
}

fn publish(change: &Change, kind: Kind, generation: &Generation) -> After {
    let [first, next] = &change.bundles;
    let mut server = Sessions::new(&files(&generation.server, first), "localhost", kind.1, Rule::Shipped);
    let client = client_with(&[&generation.ca], Some(&change.client), &[kind.0]);
    for resumed in [false, true] {
        assert_eq!(handshake(&server.current(), &client).unwrap().resumed, resumed, "{}", change.what);
    }
    let (mut events, before) = (server.reloader.events(), server.reloader.current());
    assert_eq!(server.publish(&files(&generation.server, next), "localhost"), Reload::Reloaded);
    let connection = handshake(&server.current(), &client);
    let lost = std::iter::from_fn(|| events.try_next()).find_map(|reported| match &*reported.event {
        Event::TrustReduced { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    let same = server.reloader.current().value.trust_epoch() == before.value.trust_epoch();
    assert_eq!(same, change.same, "{}", change.what);
    After {
        let_in: connection.is_ok(),
        resumed: connection.is_ok_and(|connection| connection.resumed),
        lost: lost.unwrap_or_default(),
        drained: server.reloader.trust_reduced_since(before.generation),
    }
}

/// Checks that a comparison of trust agrees with handshakes: a client that is refused now was
/// reported, and nothing is reported while the anchors are equal.
fn agrees(change: &Change, seen: &After, reported: bool) -> Result<(), &'static str> {
    match (reported, seen.let_in) {
        (false, false) => Err("a client is refused and nothing was reported"),
        (true, true) if change.same => Err("reported, and the trust is the same"),
        _ => Ok(()),
    }
}

#[test]
fn inv09_inv16_trust_is_compared_by_anchors_in_handshakes() {
    let generation = Generation::new(0);
    let (mut by_bytes, mut by_name) = (Vec::new(), Vec::new());
    for change in changes() {
        let certificates = change.bundles.each_ref().map(|bundle| pem::ca_bundle(bundle.as_bytes()).unwrap());
        for kind in KINDS {
            let seen = publish(&change, kind, &generation);
            let what = format!("{}, {kind:?}", change.what);
            assert_eq!(agrees(&change, &seen, !seen.lost.is_empty()), Ok(()), "{what}");
            assert_eq!(seen.resumed, change.same, "{what}: a session goes on exactly while its anchors do");
            let widened = change.what == "constraints that have gone";
            assert_eq!(seen.lost.is_empty(), change.same || widened, "{what}: {:?}", seen.lost);
            assert_eq!(seen.drained, !seen.lost.is_empty(), "{what}");
            for lost in &seen.lost {
                let RemovedTrust::ClientCa { subject, fingerprint } = lost else { panic!("{what}: {lost}") };
                let printed = x509::fingerprint(&certificates[0][0]);
                assert_eq!((subject.as_str(), fingerprint.to_string()), ("CN=CA", printed), "{what}");
                assert_eq!(lost.to_string(), format!("client CA CN=CA ({fingerprint})"));
            }
            // Breaks: INV-09, INV-16. Trust compared by the bytes of certificates.
            let bytes = certificates[0].iter().any(|ca| !certificates[1].contains(ca));
            by_bytes.extend(agrees(&change, &seen, bytes).err().map(|_| change.what));
            // Breaks: INV-09, INV-16. Trust compared by the names of CAs.
            let subjects = certificates.each_ref().map(|bundle| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(bundle.iter().cloned());
                roots.subjects().iter().map(|name| name.as_ref().to_vec()).collect::<Vec<_>>()
            });
            let names = subjects[0].iter().any(|name| !subjects[1].contains(name));
            by_name.extend(agrees(&change, &seen, names).err().map(|_| change.what));
        }
    }
    by_bytes.dedup();
    by_name.dedup();
    println!("by bytes: {by_bytes:?}\nby name: {by_name:?}");
    assert!(
        ["another serial and dates", "cross-signed", "version 1"].iter().all(|what| by_bytes.contains(what))
    );
    assert_eq!(by_name, ["another key", "no CA any more", "constraints that do not", "other constraints"]);
}
