//! Environment variables that select how much a test does.
//!
//! A value that is not understood ends the test. Otherwise a long run that was asked for would
//! silently be the short one.

use std::str::FromStr;

/// Returns the number in the variable `name`, or `default` if the variable is not set.
///
/// # Panics
///
/// If the value is not a number.
#[must_use]
pub fn number<T: FromStr>(name: &str, default: T) -> T {
    set_number(name).unwrap_or(default)
}

/// Returns the number in the variable `name`, or `None` if the variable is not set.
///
/// # Panics
///
/// If the value is not a number.
#[must_use]
pub fn set_number<T: FromStr>(name: &str) -> Option<T> {
    value(name).map(|text| parsed(name, &text))
}

/// Returns whether the variable `name` is set to `word`.
///
/// # Panics
///
/// If it is set to anything else.
#[must_use]
pub fn is(name: &str, word: &str) -> bool {
    value(name).is_some_and(|text| matched(name, word, &text))
}

fn value(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.into_string().unwrap_or_else(|_| panic!("{name} is not text")))
}

fn parsed<T: FromStr>(name: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number that this test takes"))
}

fn matched(name: &str, word: &str, text: &str) -> bool {
    assert_eq!(text, word, "{name} can only be {word}");
    true
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn values_that_are_not_understood_end_the_test() {
        assert_eq!(parsed::<u64>("RUNS", "12"), 12);
        assert!(matched("TIER", "whole", "whole"));
        for text in ["", "12 ", "-1", "many"] {
            assert!(catch_unwind(|| parsed::<u64>("RUNS", text)).is_err(), "{text:?}");
        }
        for text in ["", "hole", "Whole", "1"] {
            assert!(catch_unwind(|| matched("TIER", "whole", text)).is_err(), "{text:?}");
        }
    }
}
