//! Converts between days and dates of the proleptic Gregorian calendar.

/// Returns year, month and day of a day counted from 1970-01-01.
#[must_use]
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day is the last of its year; 400 years are an
    // era.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

/// Returns the day, counted from 1970-01-01, of a date; `None` for a date that does not exist or
/// lies before 1970.
#[must_use]
pub(crate) fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || day == 0 || day > length {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    (year / 400 * 146_097 + (year % 400) * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year)
        .checked_sub(719_468)
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn every_day_until_the_year_9999_goes_there_and_back() {
        let mut seen = 0;
        for day in 0..2_932_897 {
            let (y, m, d) = super::civil(day);
            assert_eq!(super::days(y, m, d), Some(day), "{y}-{m}-{d}");
            seen += 1;
        }
        assert_eq!(super::civil(2_932_896), (9999, 12, 31));
        assert_eq!(super::civil(19_782), (2024, 2, 29));
        assert_eq!(super::days(2023, 2, 29), None);
        assert_eq!(seen, 2_932_897);
    }
}
