//! The certificates that a CRL covers.

use std::fmt;

use crate::{
    pki::{
        crl::Fields,
        der::{self, Reader, SEQUENCE},
    },
    report::line::shortened,
};

/// The tag of a GeneralName that is a directoryName.
pub(in crate::server) const DIRECTORY_NAME: u8 = 0xa4;

/// The certificates that a CRL covers, by its issuing distribution point (RFC 5280 section 5.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server) struct Scope {
    /// The names of the distribution point, sorted; `None` if it has none, so that the scope does
    /// not depend on them.
    pub(in crate::server) names: Option<Vec<(u8, Vec<u8>)>>,
    pub(in crate::server) users: bool,
    pub(in crate::server) authorities: bool,
}

/// Names of distribution points in one text, and the characters of each. The issuer chooses both.
const SHOWN_POINTS: usize = 3;
const SHOWN_POINT: usize = 160;

/// Returns the certificates that a CRL with these fields covers, in words.
pub fn covered_certificates(fields: &Fields<'_>) -> String {
    fields.scope.and_then(Scope::read).map_or_else(|| Scope::default().to_string(), |scope| scope.to_string())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.users, self.authorities) {
            (true, true) => return f.write_str("no certificate"),
            (true, false) => "end-entity certificates",
            (false, true) => "CA certificates",
            (false, false) if self.names.is_none() => return f.write_str("all certificates"),
            (false, false) => "certificates",
        };
        f.write_str(kind)?;
        let Some(names) = &self.names else { return Ok(()) };
        let shown = names.iter().take(SHOWN_POINTS).map(|(tag, name)| match *tag {
            DIRECTORY_NAME => "a directory name".to_owned(),
            _ => shortened(name.escape_ascii().to_string(), SHOWN_POINT),
        });
        let shown = shown.collect::<Vec<_>>().join(" or ");
        write!(f, " that name the distribution point {shown}")?;
        match names.len().saturating_sub(SHOWN_POINTS) {
            0 => Ok(()),
            more => write!(f, " or one of {more} more"),
        }
    }
}

impl Scope {
    /// Returns whether `others` together cover each certificate that it covers, of the issuer with
    /// this canonical name. Certificates of CAs count where `authorities` says so.
    pub(in crate::server) fn is_covered_by(
        &self,
        others: &[&Self],
        issuer: &[u8],
        authorities: bool,
    ) -> bool {
        let covers = |scope: &Self, authority: bool| {
            if authority { !scope.users } else { !scope.authorities }
        };
        [false, true].into_iter().filter(|kind| covers(self, *kind) && (authorities || !kind)).all(|kind| {
            let of_kind = others.iter().filter(|other| covers(other, kind));
            let all: Vec<_> = of_kind.map(|other| other.points(issuer)).collect();
            all.contains(&None)
                || self.points(issuer).is_some_and(|own| {
                    own.iter().all(|point| all.iter().flatten().any(|points| points.contains(point)))
                })
        })
    }

    /// Returns the distribution points whose certificates alone it covers; `None` if it does not
    /// depend on them. The name of the issuer stands for a point of each of its certificates.
    fn points(&self, issuer: &[u8]) -> Option<&[(u8, Vec<u8>)]> {
        let is_issuer = |(tag, name): &(u8, Vec<u8>)| *tag == DIRECTORY_NAME && name == issuer;
        self.names.as_deref().filter(|names| !names.iter().any(is_issuer))
    }

    /// Parses an issuing distribution point; `None` if it is malformed. Flags of unsupported kinds
    /// are ignored, because webpki rejects the whole CRL for them.
    pub(super) fn read(idp: &[u8]) -> Option<Self> {
        let mut outer = Reader(idp);
        let mut parts = Reader(outer.read(SEQUENCE)?);
        outer.end()?;
        let mut scope = Self::default();
        while !parts.0.is_empty() {
            match parts.any()? {
                (0xa0, point) => {
                    let full = Reader(point).read(0xa0);
                    // A name relative to the issuer's matches nothing; webpki rejects it.
                    let mut names = full.map_or_else(|| Some(Vec::new()), general_names)?;
                    names.sort();
                    scope.names = Some(names);
                }
                (0x81, flag) => scope.users = flag != [0],
                (0x82, flag) => scope.authorities = flag != [0],
                _ => {}
            }
        }
        Some(scope)
    }
}

/// Parses GeneralNames, each with its tag. A directoryName is in canonical form.
pub(in crate::server) fn general_names(names: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut rest = Reader(names);
    let form = |(tag, name): (u8, &[u8])| match Reader(name).read(SEQUENCE) {
        Some(entry) if tag == DIRECTORY_NAME => (tag, der::canonical_name(entry)),
        _ => (tag, name.to_vec()),
    };
    let found = std::iter::from_fn(|| rest.any()).map(form).collect();
    rest.end().map(|()| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list whose point is the name of its issuer covers all certificates of the issuer (RFC 5280
    /// section 6.3.3).
    #[test]
    fn inv14_point_of_the_issuers_name_covers_each_certificate() {
        let at =
            |name: &[u8]| Scope { names: Some(vec![(DIRECTORY_NAME, name.to_vec())]), ..Scope::default() };
        let [whole, own, other] = [Scope::default(), at(b"issuer"), at(b"other")];
        let covers = |one: &Scope, all: &Scope| all.is_covered_by(&[one], b"issuer", true);
        assert!(covers(&own, &whole) && covers(&own, &other) && covers(&whole, &own));
        assert!(!covers(&other, &whole) && !covers(&other, &own) && covers(&other, &other));
    }
}
