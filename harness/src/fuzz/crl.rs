//! CRLs, parsed here and by webpki, and as the file of a server.

use std::cmp::Ordering;

use webpki::BorrowedCertRevocationList;

use super::{
    served::{self, Role},
    text::{agrees, whole},
};
use rustls_reload::{
    Reload,
    internal::{
        crl::{self, Fields},
        der, pem,
    },
};
use rustls_reload_testkit::armor::encode;

/// Checks that accepted CRLs are equal after encoding as PEM, that no entry is skipped, and that
/// webpki reads the same fields. A server has to reject a file that does not parse, for the same
/// reason.
///
/// # Panics
/// If one of these does not hold.
pub fn crl_parse(data: &[u8]) {
    let parsed = crl::parse(data);
    let answer = served::apply(Role::Crl, data);
    agrees(&answer, parsed.as_ref().err(), Role::Crl);
    if let Some(fields) = crl::fields(data) {
        assert_eq!(parsed.as_deref().map(<[_]>::len), Ok(1), "a readable list was rejected");
        bounded(&fields, data);
        assert_eq!(crl::fields(&[data, &[0]].concat()), None, "bytes after the list were passed over");
    }
    let Ok(lists) = parsed else { return };
    if crl::fields(data).is_none() {
        whole(data);
    }
    assert!(!lists.is_empty() && lists.len() <= pem::SECTION_LIMIT);
    assert!(lists.iter().map(|list| list.len()).sum::<usize>() <= data.len());
    let taken = lists.iter().all(|list| as_webpki(list).is_some() || is_unplaced(list));
    assert!(taken || matches!(answer, Reload::Refused(_)), "webpki cannot read what is served");
    let again = encode("X509 CRL", &lists);
    assert_eq!(crl::parse(&again).as_ref(), Ok(&lists));
    let damaged = [&again, &encode("X509 CRL", &[[0x30, 0]])[..]].concat();
    assert!(crl::parse(&damaged).is_err(), "a malformed list was passed over");
}

/// Returns whether webpki rejects a CRL because its scope has no name, a case that this crate
/// evaluates itself.
fn is_unplaced(list: &[u8]) -> bool {
    let theirs = BorrowedCertRevocationList::from_der(list);
    matches!(theirs, Err(webpki::Error::UnsupportedCrlIssuingDistributionPoint))
}

fn bounded(fields: &Fields<'_>, data: &[u8]) {
    // An entry takes at least three bytes beside its date.
    assert!(fields.revoked.len() <= data.len() / 3 && fields.signed.len() <= data.len());
    assert_eq!(
        (fields.age(fields), fields.numbered(fields).unwrap_or(Ordering::Equal)),
        (Ordering::Equal, Ordering::Equal)
    );
    assert!(der::name(fields.issuer).is_none_or(|name| !name.chars().any(char::is_control)));
}

/// Returns whether webpki parses a CRL; panics if it reads other fields than this crate.
fn as_webpki(list: &[u8]) -> Option<()> {
    let theirs = BorrowedCertRevocationList::from_der(list).ok()?;
    let entries = (&theirs).into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    let ours = crl::fields(list)?;
    let serials: Vec<_> = entries.iter().map(|entry| entry.serial_number).collect();
    assert_eq!(ours.revoked, serials, "webpki reads other serial numbers");
    let theirs = webpki::CertRevocationList::from(theirs);
    assert_eq!(ours.issuer, theirs.issuer());
    assert_eq!(ours.scope, theirs.issuing_distribution_point());
    assert!(ours.version_2 && ours.next_update.is_some());
    Some(())
}
