//! Leaves outside of their validity, and malformed dates.

use std::time::{Duration, SystemTime};

use rustls_reload::Layer;
use rustls_reload_testkit::Subject;

use super::{
    Expect::{self, Held, Refused, Served},
    Vector,
    asn1::{self, Certificate, general, hours, sequence, value, written},
    set::{CRT, Set, subject},
};

const EXPIRED: Expect = Refused(Layer::Validity, CRT);
const MALFORMED: Expect = Refused(Layer::Chain, CRT);

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all = windows();
    for (what, expect, from, to) in texts() {
        all.push(Vector::file(CRT, &format!("dates: {what}"), expect, move |set| {
            let mut leaf = Certificate::of(set);
            leaf.validity = sequence(&[&from, &to]);
            leaf.pem().into()
        }));
    }
    all.push(Vector::file(CRT, "dates: none", MALFORMED, |set| {
        Certificate { validity: sequence(&[]), ..Certificate::of(set) }.pem().into()
    }));
    all.push(Vector::file(CRT, "dates: three", MALFORMED, |set| {
        let mut leaf = Certificate::of(set);
        leaf.validity = sequence(&[asn1::open(&leaf.validity).0, &general("20500101000000Z")]);
        leaf.pem().into()
    }));
    all
}

/// Validity windows relative to the clock, as authorities issue them.
fn windows() -> Vec<Vector> {
    let leaf = |what: &str, expect, window: fn(SystemTime) -> (SystemTime, SystemTime)| {
        Vector::file(CRT, what, expect, move |set: &Set| {
            let (from, to) = window(SystemTime::now());
            let subject: Subject = subject().valid(from, to);
            set.issuer.issue_with_chain(&subject, &set.identity).chain.into()
        })
    };
    vec![
        leaf("expired a year ago", EXPIRED, |now| (now - hours(20_000), now - hours(8_760))),
        leaf("expired two seconds ago", EXPIRED, |now| (now - hours(24), now - Duration::from_secs(2))),
        leaf("expires within a minute", Served, |now| (now - hours(24), now + Duration::from_secs(60))),
        leaf("valid from tomorrow on", Held, |now| (now + hours(24), now + hours(48))),
        leaf("valid in a hundred years", Held, |now| (now + hours(876_000), now + hours(900_000))),
        leaf("valid since a second ago", Served, |now| (now - Duration::from_secs(1), now + hours(24))),
        leaf("ends before it begins, both past", EXPIRED, |now| (now - hours(1), now - hours(2))),
        leaf("ends before it begins, both to come", Held, |now| (now + hours(2), now + hours(1))),
    ]
}

/// Pairs of encoded dates.
fn texts() -> Vec<(&'static str, Expect, Vec<u8>, Vec<u8>)> {
    let now = SystemTime::now();
    let utc = |text: &str| value(asn1::UTC_TIME, text.as_bytes());
    let (from, to) = (written(now - hours(1)), written(now + hours(24)));
    vec![
        ("GeneralizedTime", Served, general(&from), general(&to)),
        ("UTCTime", Served, utc(&from[2..]), utc(&to[2..])),
        ("for ever", Served, general(&from), general("99991231235959Z")),
        ("since 1950", Served, utc("500101000000Z"), general(&to)),
        ("UTCTime without seconds", MALFORMED, utc("2001010000Z"), general(&to)),
        ("UTCTime with an offset", MALFORMED, utc("200101000000+0100"), general(&to)),
        ("without Z", MALFORMED, general("20200101000000"), general(&to)),
        ("with a fraction of a second", MALFORMED, general("20200101000000.5Z"), general(&to)),
        ("month 13", MALFORMED, general("20201301000000Z"), general(&to)),
        ("30 February", MALFORMED, general("20200230000000Z"), general(&to)),
        ("hour 24", MALFORMED, general("20200101240000Z"), general(&to)),
        ("minute 60", MALFORMED, general("20200101006000Z"), general(&to)),
        ("letters", MALFORMED, general("2020010100000oZ"), general(&to)),
        ("another type", MALFORMED, value(asn1::UTF8, b"20200101000000Z"), general(&to)),
    ]
}
