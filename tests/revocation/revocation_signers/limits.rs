//! Requirements of rustls-webpki on the certificates of a client, and CAs that it cannot use.

use std::sync::Arc;

use rcgen::SigningKey as _;
use rustls_reload::{ClientAuth, ServerReloader, internal::der};
use rustls_reload_testkit::{Authority, Pair, PrivateKey, Subject};

use super::world::{World, someone, spec};
use crate::common;

/// Returns a list whose issuing distribution point is the name of its issuer, in strings of this
/// type.
fn at_issuer(ca: &Authority, key: &PrivateKey, tag: u8) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = match content.len() {
            short @ ..0x80 => vec![u8::try_from(short).unwrap()],
            long => [&[0x82], &u16::try_from(long).unwrap().to_be_bytes()[..]].concat(),
        };
        let length = match length.as_slice() {
            [0x82, 0, short] => vec![0x81, *short],
            _ => length,
        };
        [&[tag], length.as_slice(), &content].concat()
    };
    let name = tlv(0x31, &[&tlv(0x30, &[&tlv(6, &[&[0x55, 4, 3]]), &tlv(tag, &[b"clients"])])]);
    let point = tlv(0x30, &[&tlv(0xa0, &[&tlv(0xa0, &[&tlv(0xa4, &[&tlv(0x30, &[&name])])])])]);
    let idp = tlv(0x30, &[&tlv(6, &[&[0x55, 29, 28]]), &[1, 1, 0xff], &tlv(4, &[&point])]);
    let number = tlv(0x30, &[&tlv(6, &[&[0x55, 29, 20]]), &tlv(4, &[&[2, 1, 1]])]);
    let aki = tlv(0x30, &[&tlv(6, &[&[0x55, 29, 35]]), &tlv(4, &[&[0x30, 3, 0x80, 1, 1]])]);
    let template = ca.list(&spec(1)).der;
    let fields = rustls_reload::internal::crl::fields(&template).unwrap();
    // The dates come from the template.
    let at = fields.signed.windows(fields.issuer.len()).position(|bytes| bytes == fields.issuer).unwrap();
    let dates = &fields.signed[at + fields.issuer.len()..][..30];
    let algorithm = tlv(0x30, &[fields.algorithm]);
    let extensions = tlv(0xa0, &[&tlv(0x30, &[&aki, &number, &idp])]);
    let issuer = tlv(0x30, &[fields.issuer]);
    let signed = tlv(0x30, &[&[2, 1, 1], &algorithm, &issuer, dates, &extensions]);
    let signature = rcgen::KeyPair::from_pem(&key.pem()).unwrap().sign(&signed).unwrap();
    tlv(0x30, &[&signed, &algorithm, &tlv(3, &[&[0], &signature])])
}

/// Parameters of an authority of `rcgen`, for certificates that the factory does not make.
fn params(name: &str, usages: &[rcgen::KeyUsagePurpose]) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params
}

/// Loads a server with this bundle. Returns whether this client is let in, and the warnings.
fn with_bundle(world: &World, bundle: &str, shown: &Pair) -> (Option<bool>, Vec<String>) {
    world.put("ca/ca.crt", bundle.as_bytes());
    let reported = Arc::clone(&world.reported);
    let server = ServerReloader::builder(world.path("tls/tls.crt"), world.path("tls/tls.key"))
        .client_ca(world.path("ca/ca.crt"), ClientAuth::Required)
        .timing(common::quick())
        .on_event(move |event| reported.lock().unwrap().push(event.clone()));
    let server = server.load().ok();
    (server.map(|server| world.lets_in(&server, shown)), world.warnings())
}

/// Returns the certificate of this CA with another public key. The signature of an anchor is not
/// verified.
fn with_key(ca: &Authority, kind: &[u8], key: &[u8]) -> String {
    let der = ca.der().as_ref();
    let fields = der::fields(der).unwrap();
    let old = fields.public_key;
    let tlv = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match length {
            [0, short @ ..0x80] => vec![short],
            [0, short] => vec![0x81, short],
            _ => [&[0x82], &length[..]].concat(),
        };
        [&[tag], length.as_slice(), content].concat()
    };
    let head = |whole: &[u8]| if whole[1] < 0x80 { 2 } else { 2 + usize::from(whole[1] & 0x7f) };
    let tbs = &fields.signed[head(fields.signed)..];
    let old_spki = tlv(0x30, old);
    let at = tbs.windows(old_spki.len()).position(|bytes| bytes == old_spki).unwrap();
    let spki = tlv(0x30, &[&tlv(0x30, kind)[..], &tlv(3, &[&[0], key].concat())].concat());
    let tbs = tlv(0x30, &[&tbs[..at], &spki, &tbs[at + old_spki.len()..]].concat());
    let rest = &der[head(der) + fields.signed.len()..];
    let der = tlv(0x30, &[&tbs[..], rest].concat());
    common::armor::block("CERTIFICATE", &der)
}

#[test]
fn inv14_point_that_is_the_issuer_in_another_spelling_covers() {
    let (world, key) = (World::new(), PrivateKey::p256());
    let ca = Authority::posing("clients", &key);
    world.put("ca/ca.crt", ca.pem.as_bytes());
    let good = someone(&ca);
    let server = |tag: u8| {
        let list = at_issuer(&ca, &key, tag);
        world.put("crl.d/own.crl", &list);
        world.builder().load().unwrap()
    };
    assert!(world.lets_in(&server(0x0c), &good), "UTF8String as in the CA's certificate");
    assert!(world.lets_in(&server(0x13), &good), "PrintableString: {:?}", world.warnings());
}

/// RFC 5280 section 6.1.4 (n) requires that its key usage allows signing certificates. The same
/// certificate in the bundle is left out.
#[test]
fn inv14_key_usage_of_an_intermediate_is_not_checked() {
    use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
    let world = World::new();
    let [root_key, middle_key, key] = [(); 3].map(|()| rcgen::KeyPair::generate().unwrap());
    let root = params("root", &[KeyCertSign, CrlSign]);
    let middle = params("signs lists only", &[CrlSign]);
    let mut client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    client.key_usages = vec![DigitalSignature];
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    world.put("ca/ca.crt", root.self_signed(&root_key).unwrap().pem().as_bytes());
    let root = rcgen::Issuer::new(root, root_key);
    let above = middle.signed_by(&middle_key, &root).unwrap();
    let leaf = client.signed_by(&key, &rcgen::Issuer::new(middle, middle_key)).unwrap();
    let shown = Pair { chain: leaf.pem() + &above.pem(), key: key.serialize_pem(), leaf: leaf.der().clone() };
    let server = ServerReloader::builder(world.path("tls/tls.crt"), world.path("tls/tls.key"))
        .client_ca(world.path("ca/ca.crt"), ClientAuth::Required)
        .timing(common::quick());
    assert!(world.lets_in(&server.load().unwrap(), &shown));
}

/// RFC 5280 section 6.3.3 (f). With the key usage bit the same lists accept the client.
#[test]
fn inv14_list_by_an_intermediate_without_crl_sign_rejects() {
    use rcgen::KeyUsagePurpose::{CrlSign, KeyCertSign};
    let list = |issuer: &rcgen::Issuer<'_, rcgen::KeyPair>| {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: rcgen::SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(issuer).unwrap().pem().unwrap()
    };
    for (usages, accepts) in [(&[KeyCertSign, CrlSign][..], true), (&[KeyCertSign], false)] {
        let world = World::new();
        let [root_key, middle_key, key] = [(); 3].map(|()| rcgen::KeyPair::generate().unwrap());
        let root = params("root", &[KeyCertSign, CrlSign]);
        let middle = params("middle", usages);
        let mut client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        world.put("ca/ca.crt", root.self_signed(&root_key).unwrap().pem().as_bytes());
        let root = rcgen::Issuer::new(root, root_key);
        let above = middle.signed_by(&middle_key, &root).unwrap();
        // The factory signs no list with a certificate that lacks the bit.
        let signer = rcgen::Issuer::new(params("middle", &[KeyCertSign, CrlSign]), middle_key);
        let leaf = client.signed_by(&key, &signer).unwrap();
        let shown =
            Pair { chain: leaf.pem() + &above.pem(), key: key.serialize_pem(), leaf: leaf.der().clone() };
        world.put("crl.d/lists.pem", (list(&root) + &list(&signer)).as_bytes());
        let server = world.builder().load().unwrap();
        assert_eq!(world.lets_in(&server, &shown), accepts, "{usages:?}: {:?}", world.warnings());
    }
}

/// rustls-webpki gives up after 100 signatures. A CA that is renewed with new keys under one name,
/// as in SPIRE, has many.
#[test]
fn inv14_bundle_with_too_many_cas_of_one_name_is_warned_of() {
    let world = World::new();
    let cas: Vec<_> = (0..102).map(|_| Authority::root("clients")).collect();
    let last = cas.last().unwrap().issue(&Subject::client("client"), &PrivateKey::p256());
    let below = cas
        .last()
        .unwrap()
        .intermediate("issuing")
        .issue_with_chain(&Subject::client("client"), &PrivateKey::p256());
    let bundle = |cas: &[Authority]| cas.iter().map(|ca| ca.pem.as_str()).collect::<String>();
    for (count, shown, let_in, warned) in [
        (90, &below, true, 0),
        (91, &last, true, 1),
        (100, &last, true, 1),
        (100, &below, false, 1),
        (101, &last, false, 1),
    ] {
        let (found, warnings) = with_bundle(&world, &bundle(&cas[cas.len() - count..]), shown);
        assert_eq!((found, warnings.len()), (Some(let_in), warned), "{count}: {warnings:?}");
        let says = format!("has {count} CAs with the subject CN=clients");
        assert!(warnings.iter().all(|said| said.contains(&says)), "{warnings:?}");
    }
}

#[test]
fn inv14_ca_whose_rsa_key_is_none_is_left_out() {
    let (world, ca) = (World::new(), Authority::root("clients"));
    let good = ca.issue(&Subject::client("client"), &PrivateKey::p256());
    let rsa = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    for (last, exponent) in [(0xfe, &[1, 0, 1][..]), (0xff, &[1])] {
        let modulus = [&[0x02, 0x82, 1, 1, 0][..], &[0xcd; 255], &[last]].concat();
        let exponent = [&[2, u8::try_from(exponent.len()).unwrap()], exponent].concat();
        let content = [modulus, exponent].concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let key = [&[0x30, 0x82], &length[..], &content].concat();
        let broken = with_key(&Authority::root("broken"), rsa, &key);
        let (let_in, warnings) = with_bundle(&world, &(ca.pem.clone() + &broken), &good);
        assert!(warnings.iter().any(|warning| warning.contains("CN=broken")), "{let_in:?} {warnings:?}");
    }
}

/// RFC 5280 section 6.1.4 (l) does not count them.
#[test]
fn inv14_path_length_counts_self_issued_certificates() {
    use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
    let answer = |length| {
        let world = World::new();
        let [root_key, new_key, old_key, key] = [(); 4].map(|()| rcgen::KeyPair::generate().unwrap());
        let root = params("root", &[KeyCertSign, CrlSign]);
        let mut issuing = params("issuing", &[KeyCertSign, CrlSign]);
        issuing.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(length));
        let mut client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        client.key_usages = vec![DigitalSignature];
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let above = issuing.signed_by(&new_key, &rcgen::Issuer::new(root, root_key)).unwrap();
        let new = rcgen::Issuer::new(issuing.clone(), new_key);
        let old_with_new = issuing.signed_by(&old_key, &new).unwrap();
        let leaf = client.signed_by(&key, &rcgen::Issuer::new(issuing, old_key)).unwrap();
        let chain = leaf.pem() + &old_with_new.pem() + &above.pem();
        let shown = Pair { chain, key: key.serialize_pem(), leaf: leaf.der().clone() };
        with_bundle(&world, &root_pem, &shown).0
    };
    assert_eq!([1, 0].map(answer), [Some(true), Some(false)]);
}

#[test]
fn inv14_client_below_a_seventh_intermediate_is_refused() {
    let (world, root) = (World::new(), Authority::root("root"));
    let chained = |count: usize| {
        let mut above = vec![root.intermediate("1")];
        for i in 1..count {
            above.push(above[i - 1].intermediate(&format!("{}", i + 1)));
        }
        let pair = above[count - 1].issue(&Subject::client("client"), &PrivateKey::p256());
        let chain = above.iter().rev().fold(pair.chain.clone(), |chain, ca| chain + &ca.pem);
        Pair { chain, ..pair }
    };
    assert_eq!(
        [6, 7].map(|count| with_bundle(&world, &root.pem, &chained(count)).0),
        [Some(true), Some(false)]
    );
}
