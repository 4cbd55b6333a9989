//! Warnings about a chain that is served nevertheless: clients may fail to build a path through it.

use std::path::Path;

use rustls::{crypto::WebPkiSupportedAlgorithms, pki_types::CertificateDer};

use crate::{
    pki::der::{self, BIT_STRING, Fields, OID, Reader, SEQUENCE},
    report::error::{Layer, Warning},
    server::anchors::{self, Peers},
};

/// Returns warnings about a leaf that some clients reject: one that demands a stapled OCSP response,
/// and one that is not for servers.
pub(super) fn leaf_warnings(path: &Path, leaf: &CertificateDer<'_>) -> impl Iterator<Item = Warning> {
    let staple = der::fields(leaf).is_some_and(|leaf| leaf.must_staple).then_some(
        "the leaf demands a stapled OCSP response (must-staple, RFC 7633) and none is stapled: clients \
         that enforce it reject the handshake; issue it without the TLS feature extension",
    );
    let purpose = (!anchors::is_for(Peers::Servers, leaf)).then_some(
        "the extended key usage of the leaf does not allow it to authenticate a server (serverAuth): clients \
         that check the purpose, as rustls and OpenSSL do, reject the handshake",
    );
    staple.into_iter().chain(purpose).map(move |why| Warning::new(Layer::Chain, why).at(path))
}

/// Returns a warning for each certificate that the next one in the chain did not issue, and for
/// each issuer that is not a CA.
///
/// TLS 1.2 requires each certificate to certify the one before it (RFC 5246 section 7.4.2). RFC
/// 8446 lets clients cope with less, and some do not.
pub(super) fn warnings(
    path: &Path,
    chain: &[CertificateDer<'_>],
    algorithms: Option<&WebPkiSupportedAlgorithms>,
) -> Vec<Warning> {
    let count = chain.len();
    let fields: Vec<_> = chain.iter().filter_map(|certificate| der::fields(certificate)).collect();
    let mut whys = Vec::new();
    for (i, pair) in fields.windows(2).enumerate() {
        let (subject, issuer, number) = (&pair[0], &pair[1], i + 1);
        if subject.issuer != issuer.subject {
            whys.push(format!(
                "certificate {number} of {count} is not issued by the next one: some clients fail to build \
                 the chain"
            ));
            continue;
        }
        match algorithms.map(|algorithms| signed_by(subject, issuer.public_key, algorithms)) {
            Some(Signed::ByAnotherKey) => whys.push(format!(
                "certificate {number} of {count} is not signed by the key of the next one, which only has \
                 the issuer's name: clients without the right certificate of that name fail to build the \
                 chain"
            )),
            Some(Signed::InUnknownWay) => whys.push(format!(
                "the signature of certificate {number} of {count} was not checked: the crypto provider \
                 knows no algorithm for it with the key of the next certificate"
            )),
            Some(Signed::ByThisKey) | None => {}
        }
        // Nothing marks a root of version 1. Clients that trust it take it as it is.
        let is_old_root = issuer.version_1 && issuer.issuer == issuer.subject && number + 1 == count;
        if !issuer.ca && !is_old_root {
            whys.push(format!(
                "certificate {} of {count} is no CA certificate (basic constraints, RFC 5280 section \
                 4.2.1.9), and stands where an issuer has to: clients reject it as an issuer",
                number + 1
            ));
        }
    }
    whys.into_iter().map(|why| Warning::new(Layer::Chain, why).at(path)).collect()
}

/// Returns whether the new chain may be a truncated copy of the old one: it has fewer certificates,
/// and they are the first ones of the old chain, but perhaps for a leaf renewed by the same issuer.
pub(crate) fn lost_its_end(old: &[CertificateDer<'static>], new: &[CertificateDer<'static>]) -> bool {
    let ([old_leaf, old_rest @ ..], [new_leaf, new_rest @ ..]) = (old, new) else { return false };
    let issuer = |leaf: &CertificateDer<'_>| der::fields(leaf).map(|fields| fields.issuer.to_vec());
    new.len() < old.len()
        && old_rest.starts_with(new_rest)
        && (old_leaf == new_leaf || issuer(old_leaf) == issuer(new_leaf))
}

/// Whether the expected key signed a certificate, as far as the crypto provider can verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    ByThisKey,
    ByAnotherKey,
    InUnknownWay,
}

/// Returns whether the key of this SubjectPublicKeyInfo (its content) signed the certificate.
pub(super) fn signed_by(subject: &Fields<'_>, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Signed {
    let mut spki = Reader(key);
    let (Some(kind), Some(bits)) = (spki.read(SEQUENCE), spki.read(BIT_STRING)) else {
        return Signed::InUnknownWay;
    };
    let (Some(key), Some((algorithm, signature))) = (bits.strip_prefix(&[0]), subject.signature) else {
        return Signed::InUnknownWay;
    };
    let known = algorithms.all.iter().filter(|known| {
        known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == kind
    });
    let mut verified = known.map(|known| known.verify_signature(key, subject.signed, signature).is_ok());
    match verified.next() {
        // A key of another type makes no such signature. The curve and the digest do not matter
        // here: the provider may lack one combination of them.
        None => {
            let of = algorithms.all.iter().map(|known| {
                let is_of_type =
                    Reader(known.public_key_alg_id().as_ref()).read(OID) == Reader(kind).read(OID);
                (known.signature_alg_id().as_ref() == algorithm, is_of_type)
            });
            let of: Vec<_> = of.collect();
            let is_of_another = of.iter().any(|(is_by, _)| *is_by)
                && of.iter().any(|(_, is_of_type)| *is_of_type)
                && !of.contains(&(true, true));
            if is_of_another { Signed::ByAnotherKey } else { Signed::InUnknownWay }
        }
        Some(first) if first || verified.any(|ok| ok) => Signed::ByThisKey,
        Some(_) => Signed::ByAnotherKey,
    }
}
