//! Reads one value of DER after another.

pub(crate) const BOOLEAN: u8 = 0x01;
/// The tag of an integer.
pub const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
/// The tag of an octet string.
pub const OCTETS: u8 = 0x04;
/// The tag of an object identifier.
pub const OID: u8 = 0x06;
/// The tag of a time with two digits of the year.
pub const UTC_TIME: u8 = 0x17;
/// The tag of a time with four digits of the year.
pub const GENERALIZED_TIME: u8 = 0x18;
/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The rest of the input.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the next value, whatever its tag.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // No tag of a certificate takes more than one byte.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // DER requires the shortest form. A CRL may have more than 16 MiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if bytes[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, which must have this tag.
    pub fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Reads the next value if it has this tag; otherwise reads nothing.
    pub fn read_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.read(tag) } else { None }
    }

    /// `None` unless everything was read.
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
