//! The name constraints of a CA that rustls cannot apply.

use super::Peers;
use crate::pki::der::{Reader, SEQUENCE};

const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;

/// Returns the kinds of names for which rustls rejects every peer of a CA with these name
/// constraints.
///
/// rustls-webpki implements constraints on DNS names and IP addresses, where they are well-formed.
/// It evaluates all subtrees for each certificate below the CA, so a subtree that it cannot read
/// makes it reject every peer. A constraint on directory names has the same effect, because every
/// certificate has a subject.
///
/// # Errors
/// Returns the reason why rustls accepts no peer of such a CA at all: constraints that are
/// malformed or on directory names.
pub(super) fn unsupported(peers: Peers, constraints: &[u8]) -> Result<Vec<&'static str>, String> {
    let malformed = || peers.malformed_constraints().to_owned();
    let mut kinds = Vec::new();
    let mut rest = Reader(constraints);
    for subtrees in [PERMITTED, EXCLUDED].into_iter().filter_map(|tag| rest.read_if(tag)).collect::<Vec<_>>()
    {
        let mut subtrees = Reader(subtrees);
        while !subtrees.0.is_empty() {
            // RFC 5280 section 4.2.1.10 allows no minimum and no maximum, so the base is the only
            // field.
            let mut subtree = Reader(subtrees.read(SEQUENCE).ok_or_else(malformed)?);
            let base = subtree.any().filter(|_| subtree.0.is_empty()).ok_or_else(malformed)?;
            let kind = match base {
                (0x82, name) if is_dns_name(name) => continue,
                (0x82, _) => "DNS names",
                (0x87, network) if is_network(network) => continue,
                (0x87, _) => "IP addresses",
                (0xa4, _) => return Err(peers.constrained_directories().to_owned()),
                (0x86, _) => "URIs",
                (0x81, _) => "e-mail addresses",
                (0xa0, _) => "other names",
                (0xa3 | 0xa5 | 0x88, _) => "names of an uncommon kind",
                _ => return Err(malformed()),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    rest.end().map(|()| kinds).ok_or_else(malformed)
}

/// Returns whether rustls accepts this as a constraint on DNS names: all names, the names beneath
/// one, or those and the name itself. A wildcard is not accepted, nor a number as the last label, as
/// in an address.
fn is_dns_name(name: &[u8]) -> bool {
    let of_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(of_label)
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    let labels = name.strip_prefix(b".").unwrap_or(name);
    let last = labels.rsplit(|byte| *byte == b'.').next().unwrap_or(labels);
    let is_number = last.iter().all(u8::is_ascii_digit);
    name.is_empty() || name.len() <= 253 && labels.split(|byte| *byte == b'.').all(is_label) && !is_number
}

/// Returns whether this is an address and its mask, of four bytes each or of sixteen.
fn is_network(network: &[u8]) -> bool {
    let (_, mask) = network.split_at(network.len() / 2);
    let bits = mask.iter().try_fold(0_u128, |bits, byte| Some((bits << 8) | u128::from(*byte)));
    let unused = 128_u32.saturating_sub(u32::try_from(mask.len() * 8).unwrap_or(128));
    let bits = bits.unwrap_or_default() << unused.min(127);
    matches!(network.len(), 8 | 32) && bits.leading_ones() + bits.trailing_zeros() >= 128
}
