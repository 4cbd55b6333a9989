//! Invalid sets.

use std::time::SystemTime;

use super::{HOUR, Material, NAME, Set, ca_name};
use crate::{
    Failure,
    drill::{
        model::{Ca, Fault, RENEW},
        publisher::{Content, FileSet},
    },
    testkit::{Authority, PrivateKey, Subject},
};

/// A key that `openssl genpkey -aes-256-cbc` has encrypted with a passphrase that nobody knows.
const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjhAKkfbTwwewICCAAw\n\
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEEAWyq3oo0ce6PEwhAJ+e64EgZCy\n\
FX82jsouWd/RYSFzbCF2m352Kr6T1N3lJGzf4heHUcdxiwlzprX2Q9M+mqBRnYpo\n\
QhX+qF68YgikFhJrmWUIuLS6cyklgzFQLqBWnX1QBPApuOSrM6g9PPjC5m++0+lL\n\
V8oGGPbzj/LR0ufRPweRflV+zmddM5qK/FSJMd8qlq4P3IJjdumPgd5Lyv2H720=\n\
-----END ENCRYPTED PRIVATE KEY-----\n\
";

const GARBAGE: &[u8] = b"this is neither a certificate nor a key\n";

impl Material {
    /// Makes the files of an invalid set that follows `old`, and the set that they are made from.
    pub(in crate::drill) fn spoiled(&mut self, old: &Set, fault: Fault) -> Result<(Set, FileSet), Failure> {
        let mut set = self.next(old, &RENEW)?;
        self.redate(&mut set, fault)?;
        let mut files = self.files(&set);
        let index = match fault {
            Fault::ForeignKey
            | Fault::EmptyKey
            | Fault::GarbageKey
            | Fault::CutKey
            | Fault::EncryptedKey
            | Fault::MissingKey
            | Fault::FifoKey
            | Fault::DirectoryKey => 1,
            Fault::EmptyBundle | Fault::GarbageBundle | Fault::CutBundle | Fault::MissingBundle => 2,
            Fault::EmptyList
            | Fault::GarbageList
            | Fault::CutList
            | Fault::MissingList
            | Fault::ForeignList
            | Fault::ExpiredList => 3,
            _ => 0,
        };
        if fault == Fault::Swapped {
            let [(_, chain), (_, key), ..] = &mut files[..] else { return Err("no pair".into()) };
            std::mem::swap(chain, key);
            return Ok((set, files));
        }
        let (_, file) = files.get_mut(index).ok_or("the scenario's sets have no such file")?;
        *file = self.content(fault, &set, file.bytes());
        Ok((set, files))
    }

    /// Replaces the leaf where its dates are what is wrong.
    fn redate(&self, set: &mut Set, fault: Fault) -> Result<(), Failure> {
        let now = SystemTime::now();
        let (from, to) = match fault {
            Fault::Expired => (now - 48 * HOUR, now - 24 * HOUR),
            Fault::NotYetValid => (now + 24 * HOUR, now + 48 * HOUR),
            _ => return Ok(()),
        };
        set.pair = set.issuer.issue_with_chain(&Subject::server(NAME).valid(from, to), &set.key);
        set.chain = self.number_of(&set.pair)?;
        Ok(())
    }

    /// Returns what the fault makes of one file.
    fn content(&self, fault: Fault, set: &Set, bytes: &[u8]) -> Content {
        let text = String::from_utf8_lossy(bytes);
        let text = match fault {
            Fault::MissingChain | Fault::MissingKey | Fault::MissingBundle | Fault::MissingList => {
                return Content::Missing;
            }
            Fault::FifoKey => return Content::Fifo,
            Fault::DirectoryKey => return Content::Directory,
            Fault::DerChain => return Content::Bytes(set.pair.leaf.to_vec()),
            Fault::ForeignKey => PrivateKey::p256().pem(),
            Fault::EncryptedKey => ENCRYPTED.to_owned(),
            Fault::NoEnd => text.replacen("-----END CERTIFICATE-----\n", "", 1),
            Fault::IssuerFirst => {
                let (leaf, issuer) = text.split_at(text.len() - set.issuer.pem.len());
                format!("{issuer}{leaf}")
            }
            Fault::ForeignList => {
                let now = SystemTime::now();
                let stranger = Authority::root(ca_name(Ca::A));
                stranger.crl(&[], (now - HOUR, now + 24 * HOUR), self.number + 1).pem
            }
            Fault::ExpiredList => {
                let now = SystemTime::now();
                self.list(Ca::A, &set.revoked, (now - 3 * HOUR, now - 2 * HOUR))
            }
            Fault::EmptyChain | Fault::EmptyKey | Fault::EmptyBundle | Fault::EmptyList => String::new(),
            Fault::GarbageChain | Fault::GarbageKey | Fault::GarbageBundle | Fault::GarbageList => {
                return Content::Bytes(GARBAGE.to_vec());
            }
            Fault::CutChain => text[..set.pair.chain.len() / 4].to_owned(),
            Fault::CutKey | Fault::CutBundle | Fault::CutList => text[..text.len() / 4 * 3].to_owned(),
            Fault::Expired | Fault::NotYetValid | Fault::Swapped => text.into_owned(),
        };
        Content::Bytes(text.into_bytes())
    }
}
