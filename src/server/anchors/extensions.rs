//! The extensions of a CA certificate. rustls evaluates only the name constraints.

use crate::pki::der::{self, BIT_STRING, BOOLEAN, OCTETS, OID, Reader, SEQUENCE};

use super::Peers;

const EXTENSIONS: u8 = 0xa3;
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: &[u8] = &[0x55, 29, 37, 0];
/// Extensions of a CA that this module or rustls evaluates, and extensions that constrain nothing:
/// key identifiers and alternative names.
const EVALUATED: &[&[u8]] = &[
    KEY_USAGE,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    NETSCAPE_TYPE,
    &[0x55, 29, 14],
    &[0x55, 29, 17],
    &[0x55, 29, 18],
    &[0x55, 29, 30],
    &[0x55, 29, 35],
];

/// Extensions that webpki evaluates in a leaf, and that may be critical therefore.
const OF_LEAF: &[&[u8]] = &[
    KEY_USAGE,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    &[0x55, 29, 17],
    &[0x55, 29, 30],
    &[0x55, 29, 31],
    &[0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2],
];
/// Names of extensions that authorities mark critical and webpki does not know.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 29, 32], " (certificatePolicies)"),
    (&[0x55, 29, 36], " (policyConstraints)"),
    (&[0x2b, 6, 1, 5, 5, 7, 1, 24], " (TLS feature)"),
    (&[0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 3], " (poison of a precertificate)"),
];

struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// The extensions of a certificate; empty for version 1, which has none.
pub(super) struct Extensions<'a>(Vec<Extension<'a>>);

impl<'a> Extensions<'a> {
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut tbs = Reader(Reader(Reader(certificate).read(SEQUENCE)?).read(SEQUENCE)?);
        let mut found = Vec::new();
        while !tbs.0.is_empty() {
            let (tag, explicit) = tbs.any()?;
            if tag != EXTENSIONS {
                continue;
            }
            let mut extensions = Reader(Reader(explicit).read(SEQUENCE)?);
            while !extensions.0.is_empty() {
                let mut extension = Reader(extensions.read(SEQUENCE)?);
                let id = extension.read(OID)?;
                let critical = extension.read_if(BOOLEAN).is_some_and(|value| value != [0]);
                found.push(Extension { id, critical, value: extension.read(OCTETS)? });
            }
        }
        Some(Self(found))
    }

    /// Returns the ids of critical extensions that neither rustls nor this module evaluates in a
    /// CA.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(|found| found.critical && !EVALUATED.contains(&found.id)).map(|found| found.id)
    }

    /// Returns the critical extensions for which webpki rejects a leaf, each by its id and its name.
    pub(super) fn unknown_in_leaf(&self) -> String {
        let unknown = self.0.iter().filter(|found| found.critical && !OF_LEAF.contains(&found.id));
        let printed = unknown.map(|found| {
            let name = NAMES.iter().find(|(id, _)| *id == found.id).map_or("", |(_, name)| name);
            dotted(found.id) + name
        });
        printed.collect::<Vec<_>>().join(", ")
    }

    fn value(&self, id: &[u8]) -> Option<&'a [u8]> {
        self.0.iter().find(|found| found.id == id).map(|found| found.value)
    }

    /// Checks that the certificate is a CA that may issue such peers' certificates, by the rules of
    /// `openssl verify -purpose sslclient` (or `sslserver`).
    ///
    /// 1. A key usage has to allow signing certificates.
    /// 2. Basic constraints have to say that it is a CA.
    /// 3. Without basic constraints it has to be self-issued and of version 1, or its key usage or
    ///    the older Netscape type has to name the task.
    /// 4. An extended key usage has to allow these peers. OpenSSL does not take `anyExtendedKeyUsage`
    ///    for that; RFC 5280 section 4.2.1.12 does.
    ///
    /// # Errors
    /// Returns the rule that the certificate breaks, in words.
    pub(super) fn may_issue(&self, peers: Peers, certificate: &[u8]) -> Result<(), String> {
        // 1.
        let usage = self.value(KEY_USAGE).map(|value| has_bit(value, 0x04));
        if usage == Some(false) {
            return Err("its key usage does not allow signing certificates (keyCertSign)".to_owned());
        }
        // 2.
        if let Some(value) = self.value(BASIC_CONSTRAINTS) {
            let ca = Reader(value).read(SEQUENCE).and_then(|own| Reader(own).read(BOOLEAN));
            if ca.is_none_or(|ca| ca == [0]) {
                return Err("it is marked as no CA certificate (basicConstraints CA:FALSE)".to_owned());
            }
        } else if usage.is_none() && !self.value(NETSCAPE_TYPE).is_some_and(|value| has_bit(value, 0x04)) {
            // 3.
            let Some(fields) = der::fields(certificate).filter(|fields| fields.version_1) else {
                return Err("it is not marked as a CA certificate (no basicConstraints)".to_owned());
            };
            if fields.issuer != fields.subject {
                return Err(
                    "it is of version 1 and not self-issued, so nothing marks it as a CA certificate"
                        .to_owned(),
                );
            }
        }
        // 4.
        if self.allows(peers, true) {
            return Ok(());
        }
        let why = match peers {
            Peers::Clients => "its extended key usage does not allow client certificates (clientAuth)",
            Peers::Servers => "its extended key usage does not allow server certificates (serverAuth)",
        };
        Err(why.to_owned())
    }

    /// Returns whether the extended key usage, if there is one, allows these peers; `any` says
    /// whether `anyExtendedKeyUsage` does.
    pub(super) fn allows(&self, peers: Peers, any: bool) -> bool {
        let Some(value) = self.value(EXTENDED_KEY_USAGE) else { return true };
        let own = match peers {
            Peers::Clients => CLIENT_AUTH,
            Peers::Servers => SERVER_AUTH,
        };
        let mut purposes = Reader(Reader(value).read(SEQUENCE).unwrap_or_default());
        std::iter::from_fn(|| purposes.read(OID))
            .any(|purpose| purpose == own || (any && purpose == ANY_PURPOSE))
    }
}

/// Returns whether a bit of the first byte of a bit string is set.
fn has_bit(value: &[u8], bit: u8) -> bool {
    Reader(value).read(BIT_STRING).is_some_and(|bits| bits.get(1).is_some_and(|first| first & bit != 0))
}

/// Formats an object identifier as text: `2.5.29.54`.
pub(super) fn dotted(id: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for byte in id {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first.to_string());
                arc -= first * 40;
            }
            arcs.push(arc.to_string());
            arc = 0;
        }
    }
    arcs.join(".")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn inv16_an_object_identifier_is_printed_as_openssl_prints_it() {
        for (id, printed) in [
            (&[0x2a, 3, 4][..], "1.2.3.4"),
            (&[0x55, 29, 54], "2.5.29.54"),
            (&[0x88, 0x37, 3], "2.999.3"),
            (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7], "1.3.36.3.3.2.8.1.1.7"),
        ] {
            assert_eq!(dotted(id), printed);
        }
    }
}
