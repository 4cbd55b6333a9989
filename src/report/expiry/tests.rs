//! Tests of the thresholds, over clocks that jump.

use super::*;
use crate::report::event::Fingerprint;

const HOUR: u64 = 3600;
const DAYS: u64 = 24 * HOUR;
const START: u64 = 1_000 * DAYS;

fn seconds(time: u64) -> Duration {
    Duration::from_secs(time)
}

/// A certificate of this name, valid for so many days from the start on.
fn dated(name: u8, days: u64) -> CertificateValidity {
    let window = (seconds(START), seconds(START + days * DAYS));
    CertificateValidity::new("the leaf", "/tls.crt", Fingerprint([name; 32]), window)
}

/// The reporter under test; the wrong designs implement it too.
trait Reports {
    fn serve(&mut self, certificates: Vec<CertificateValidity>);
    fn report(&mut self, now: Now) -> Vec<Expiring>;
}

impl Reports for Expiry {
    fn serve(&mut self, certificates: Vec<CertificateValidity>) {
        Expiry::serve(self, certificates);
    }

    fn report(&mut self, now: Now) -> Vec<Expiring> {
        Expiry::report(self, now)
    }
}

/// Breaks: INV-11. Reports at each check.
struct TellsEachLook(Expiry);

impl Reports for TellsEachLook {
    fn serve(&mut self, certificates: Vec<CertificateValidity>) {
        self.0.serve(certificates);
    }

    fn report(&mut self, now: Now) -> Vec<Expiring> {
        self.0.expiring(now.wall)
    }
}

/// Breaks: INV-11. Remembers reports by publication, and not by certificate.
struct ForgetsAtReload(Expiry);

impl Reports for ForgetsAtReload {
    fn serve(&mut self, certificates: Vec<CertificateValidity>) {
        self.0 = Expiry::new(self.0.thresholds.clone());
        self.0.serve(certificates);
    }

    fn report(&mut self, now: Now) -> Vec<Expiring> {
        self.0.report(now)
    }
}

/// Breaks: INV-11. Reports again whenever the clock passes a threshold again.
struct TellsEachTime(Expiry);

impl Reports for TellsEachTime {
    fn serve(&mut self, certificates: Vec<CertificateValidity>) {
        self.0.serve(certificates);
    }

    fn report(&mut self, now: Now) -> Vec<Expiring> {
        self.0.served.iter_mut().for_each(|served| served.reported.fill(None));
        self.0.report(now)
    }
}

/// Breaks: INV-11. Never reports a level again, even if a wrong clock caused the report.
struct NeverAgain(Expiry);

impl Reports for NeverAgain {
    fn serve(&mut self, certificates: Vec<CertificateValidity>) {
        self.0.serve(certificates);
    }

    fn report(&mut self, now: Now) -> Vec<Expiring> {
        let reported: Vec<_> = self.0.served.iter().map(|served| served.reported.clone()).collect();
        let mut due = self.0.report(now);
        let reached = |e: &Expiring| self.0.thresholds.level(&e.certificate, now.wall);
        due.retain(|expiring| reported.iter().all(|reported| reported[reached(expiring) - 1].is_none()));
        due
    }
}

/// The reports of a run: monotonic second, name of the certificate, level.
type Reported = Vec<(u64, u8, usize)>;

/// Checks every hour, with the wall clock that `wall` computes from the monotonic one. Every
/// tenth check serves the same certificates again.
fn play(reports: &mut dyn Reports, days: u64, mut wall: impl FnMut(u64) -> u64) -> Reported {
    let certificates = vec![dated(1, 90), dated(2, 365), dated(3, 7)];
    reports.serve(certificates.clone());
    let mut all = Vec::new();
    for mono in (0..days * DAYS).step_by(3600) {
        if mono % (10 * HOUR) == 0 {
            reports.serve(certificates.clone());
        }
        for Expiring { certificate, within } in
            reports.report(Now { mono: seconds(mono), wall: seconds(wall(mono)) })
        {
            let level = match within {
                Some(within) => (1..=3).filter(|level| within <= of(&certificate, *level)).max(),
                None => Some(4),
            };
            all.push((mono, certificate.fingerprint.0[0], level.unwrap_or(0)));
        }
    }
    all
}

fn of(certificate: &CertificateValidity, level: usize) -> Duration {
    Thresholds::default().of(certificate, level - 1)
}

/// Returns when a right clock reaches a level of the certificate of ninety days.
fn reached(level: usize) -> u64 {
    // Fifteen days are a sixth of its validity.
    [75, 83, 89, 90][level - 1] * DAYS
}

/// Time runs: each level of each certificate is reported once, at the first check after it is
/// reached.
fn once(reports: &mut dyn Reports) -> Result<(), String> {
    let reported = play(reports, 400, |mono| START + mono);
    for (name, levels) in [
        (1, vec![(75 * 24, 1), (83 * 24, 2), (89 * 24, 3), (90 * 24 + 1, 4)]),
        (2, vec![(335 * 24, 1), (358 * 24, 2), (364 * 24, 3), (365 * 24 + 1, 4)]),
        // A sixth of a week is 28 hours, so the two longer thresholds coincide.
        (3, vec![(140, 2), (144, 3), (169, 4)]),
    ] {
        let of: Vec<_> =
            reported.iter().filter(|reported| reported.1 == name).map(|t| (t.0 / HOUR, t.2)).collect();
        if of != levels {
            return Err(format!("INV-11: of {name} is reported at {of:?}"));
        }
    }
    Ok(())
}

/// The clock is set all the time: no level is reported twice within a day.
fn bounded(reports: &mut dyn Reports) -> Result<usize, String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let reported = play(reports, 400, move |_| START + draw(400 * DAYS));
    for (i, (mono, name, level)) in reported.iter().enumerate() {
        let twice =
            |before: &&(u64, u8, usize)| (before.1, before.2) == (*name, *level) && mono - before.0 < DAYS;
        if let Some(before) = reported[..i].iter().find(twice) {
            return Err(format!("INV-11: {before:?}, and again at {mono}"));
        }
    }
    Ok(reported.len())
}

/// The clock is wrong for a while and right again: each level is reported when it is really
/// reached, at most a day late.
fn not_lost(reports: &mut dyn FnMut() -> Box<dyn Reports>) -> Result<u32, String> {
    let mut cases = 0;
    for (from, lasts, ahead) in (0..92 * 4).flat_map(|quarter| {
        [(HOUR, 300), (30 * HOUR, 300), (3 * HOUR, 10), (50 * HOUR, 2)]
            .map(move |(l, a)| (quarter * DAYS / 4, l, a))
    }) {
        let wrong = move |mono: u64| (from..from + lasts).contains(&mono);
        let reported =
            play(&mut *reports(), 100, |mono| START + mono + if wrong(mono) { ahead * DAYS } else { 0 });
        let truly = |mono: u64| (1..=4).filter(|level| mono >= reached(*level)).max().unwrap_or(0);
        for level in 1..=4 {
            let due = reached(level)..=reached(level) + lasts + DAYS + 2 * HOUR;
            let truly_reported = |reported: &(u64, u8, usize)| {
                due.contains(&reported.0) && (level..=truly(reported.0)).contains(&reported.2)
            };
            // Reported too early by a clock that became right again only when the level was
            // really reached.
            let early = |reported: &(u64, u8, usize)| {
                wrong(reported.0) && reported.2 >= level && from + lasts >= reached(reported.2)
            };
            if !reported
                .iter()
                .any(|reported| reported.1 == 1 && (truly_reported(reported) || early(reported)))
            {
                return Err(format!(
                    "INV-11: level {level} is lost; wrong for {lasts} s from {from}: {reported:?}"
                ));
            }
        }
        cases += 1;
    }
    Ok(cases)
}

/// Checks: INV-11. Engine: generated.
#[test]
fn inv11_expiry_is_reported_once_per_threshold_under_any_clock() {
    let right = || Expiry::new(Thresholds::default());
    assert_eq!(once(&mut right()), Ok(()));
    let reported = bounded(&mut right()).unwrap_or_else(|why| panic!("{why}"));
    assert!((400..=400 * 12).contains(&reported), "{reported}");
    assert_eq!(not_lost(&mut || Box::new(right())), Ok(92 * 4 * 4));
    assert!(once(&mut TellsEachLook(right())).is_err());
    assert!(bounded(&mut TellsEachLook(right())).is_err());
    assert!(once(&mut ForgetsAtReload(right())).is_err());
    assert!(bounded(&mut TellsEachTime(right())).is_err());
    let lost = not_lost(&mut || Box::new(NeverAgain(right()))).expect_err("by design");
    assert!(lost.contains("is lost"), "{lost}");
}

#[test]
fn default_thresholds_begin_at_five_sixths_and_given_ones_do_not() {
    let day = |days| Duration::from_secs(days * DAYS);
    let (usual, given) = (Thresholds::default(), Thresholds::exactly([day(2), day(40), day(2)]));
    assert_eq!([0, 1, 2].map(|number| usual.of(&dated(1, 365), number)), [day(30), day(7), day(1)]);
    assert_eq!([0, 1, 2].map(|number| usual.of(&dated(1, 90), number)), [day(15), day(7), day(1)]);
    assert_eq!([0, 1, 2].map(|number| usual.of(&dated(1, 1), number)), [day(1) / 6; 3]);
    assert_eq!(given.before, [day(40), day(2)]);
    assert_eq!(given.of(&dated(1, 1), 0), day(40));
    // A certificate of a day is within both thresholds from the start, which is one report.
    let mut expiry = Expiry::new(given);
    expiry.serve([dated(1, 1)]);
    let now = |hours| Now { mono: seconds(hours * HOUR), wall: seconds(START + hours * HOUR) };
    let within =
        |reported: Vec<Expiring>| reported.into_iter().map(|reported| reported.within).collect::<Vec<_>>();
    assert_eq!(within(expiry.report(now(0))), [Some(day(2))]);
    assert_eq!(within(expiry.report(now(24))), []);
    assert_eq!(within(expiry.expiring(now(24).wall)), [Some(day(2))]);
    assert_eq!(within(expiry.report(now(25))), [None]);
    assert_eq!(
        expiry.expiring(now(25).wall)[0].certificate.error("has expired").why(),
        "the leaf has expired at 1972-09-28T00:00:00Z"
    );
    let always = Thresholds::exactly([Duration::MAX]);
    assert_eq!([0, 25].map(|hours| always.level(&dated(1, 1), now(hours).wall)), [1, 2]);
    let none = Thresholds::exactly([]);
    assert_eq!([0, 24, 25].map(|hours| none.level(&dated(1, 1), now(hours).wall)), [0, 0, 1]);
}
