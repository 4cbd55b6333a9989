//! Every flag of every command has an effect that shows from outside, and a different one without
//! the flag. Checks: INV-16.
//!
//! The flags, and the values of flags that list their values, are read from `--help`. A flag or
//! value without a row here fails. Each row changes one thing of a command line that is the same
//! for all rows, and lists exactly the observations that differ: by clients over TLS, in `/status`,
//! in the log, in the report of `check` and in the exit code. An observation that is not listed
//! must not change.

use std::collections::BTreeSet;

use crate::{
    flag_world::{Seen, World, check, demo, flags, serve},
    signals::in_lanes,
};

/// One flag with its values at one place of the command line; `None` stands for the command line
/// without the flag.
type Setting = (&'static str, Option<&'static [&'static str]>);

/// The changed settings, and the observations that change with them.
type Row = (&'static [Setting], &'static [(&'static str, &'static str)]);

/// The command line of `serve` that each row changes. A name that begins with `@` is a file of the
/// world.
const SERVE: &[Setting] = &[
    ("--cert", Some(&["@a.crt"])),
    ("--key", Some(&["@a.key"])),
    ("--listen", Some(&["127.0.0.1:0"])),
    ("--pair", Some(&["@b.crt,@b.key"])),
    ("--client-ca", Some(&["@ca.crt"])),
    ("--client-auth", Some(&["optional"])),
    ("--crl-dir", Some(&["@lists"])),
];

/// The observations of `SERVE`. A `name` is the server name that a client sends, a `client` the
/// certificate that it shows.
const SERVED: &[(&str, &str)] = &[
    ("address", "127.0.0.1"),
    ("client nobody", "in"),
    ("client good", "in"),
    ("client revoked", "CertificateRevoked"),
    ("client of an expired list", "UnknownCA"),
    ("client without a list", "UnknownCA"),
    ("client below a CA without a list", "UnknownCA"),
    ("client of another CA", "UnknownCA"),
    ("name a.test", "a.test"),
    ("name b.test", "b.test"),
    ("name given.test", "a.test"),
    ("name x.wild.test", "a.test"),
    ("name unknown.test", "a.test"),
    ("name none", "a.test"),
    ("sets", "a.crt, b.crt, lists"),
    ("expiring", "-"),
    ("warned of dates", "-"),
    ("log", "text"),
];

const SERVE_ROWS: &[Row] = &[
    (&[("--cert", None)], &[("ends", "2")]),
    (&[("--cert", Some(&["@b.crt"]))], &[("ends", "1: match: @a.key")]),
    (&[("--key", None)], &[("ends", "2")]),
    (&[("--key", Some(&["@b.key"]))], &[("ends", "1: match: @b.key")]),
    (
        &[("--cert", Some(&["@c.crt"])), ("--key", Some(&["@c.key"]))],
        &[
            ("name a.test", "c.test"),
            ("name given.test", "c.test"),
            ("name x.wild.test", "c.test"),
            ("name unknown.test", "c.test"),
            ("name none", "c.test"),
            ("sets", "c.crt, b.crt, lists"),
        ],
    ),
    (&[("--listen", Some(&["127.0.0.2:0"]))], &[("address", "127.0.0.2")]),
    // Another process may have the default port. The address is seen in both cases.
    (&[("--listen", None)], &[("address", "127.0.0.1:8443")]),
    (&[("--listen", Some(&["127.0.0.1"]))], &[("ends", "2")]),
    (&[("--pair", None)], &[("name b.test", "a.test"), ("sets", "a.crt, lists")]),
    (
        &[("--pair", Some(&["@b.crt,@b.key,given.test,*.wild.test"]))],
        &[("name b.test", "a.test"), ("name given.test", "b.test"), ("name x.wild.test", "b.test")],
    ),
    (
        &[("--pair", Some(&["@b.crt,@b.key", "@c.crt,@c.key,given.test"]))],
        &[("name given.test", "c.test"), ("sets", "a.crt, b.crt, c.crt, lists")],
    ),
    (&[("--pair", Some(&["@b.crt"]))], &[("ends", "2")]),
    (
        &[("--strict-names", Some(&[]))],
        &[
            ("name given.test", "AccessDenied"),
            ("name x.wild.test", "AccessDenied"),
            ("name unknown.test", "AccessDenied"),
            ("name none", "AccessDenied"),
        ],
    ),
    (&[("--client-ca", None)], &[("ends", "2")]),
    (
        &[("--client-ca", None), ("--client-auth", None), ("--crl-dir", None)],
        &[
            ("client revoked", "in"),
            ("client of an expired list", "in"),
            ("client without a list", "in"),
            ("client below a CA without a list", "in"),
            ("client of another CA", "in"),
            ("sets", "a.crt, b.crt"),
        ],
    ),
    (
        &[("--client-ca", Some(&["@good-ca.crt"])), ("--crl-dir", None)],
        &[("client revoked", "in"), ("sets", "a.crt, b.crt")],
    ),
    (&[("--separate-client-ca", Some(&[]))], &[("sets", "a.crt, b.crt, ca.crt, lists")]),
    (
        &[("--crl-dir", None)],
        &[
            ("client revoked", "in"),
            ("client of an expired list", "in"),
            ("client without a list", "in"),
            ("client below a CA without a list", "in"),
            ("sets", "a.crt, b.crt"),
        ],
    ),
    (&[("--crl-dir", Some(&["@missing"]))], &[("ends", "1: read: @missing")]),
    (
        &[("--crl-dir", Some(&["@lists", "@more-lists"]))],
        &[("client without a list", "in"), ("sets", "a.crt, b.crt, lists, more-lists")],
    ),
    (
        &[("--crl", Some(&["@more-lists/unlisted.crl"]))],
        &[("client without a list", "in"), ("sets", "a.crt, b.crt, more-lists/unlisted.crl, lists")],
    ),
    (
        &[("--crl-dir", None), ("--crl", Some(&["@lists/good.crl", "@lists/expired.crl"]))],
        &[("sets", "a.crt, b.crt, lists/good.crl")],
    ),
    (&[("--crls-with-client-ca", Some(&[]))], &[("sets", "a.crt, b.crt")]),
    (&[("--crl-expired", Some(&["refuse"]))], &[]),
    (&[("--crl-expired", Some(&["use"]))], &[("client of an expired list", "in")]),
    (&[("--crl-unknown", Some(&["refuse"]))], &[]),
    (
        &[("--crl-unknown", Some(&["allow"]))],
        &[("client without a list", "in"), ("client below a CA without a list", "in")],
    ),
    (&[("--crl-leaf-only", Some(&[]))], &[("client below a CA without a list", "in")]),
    (&[("--client-auth", None)], &[("client nobody", "CertificateRequired")]),
    (&[("--client-auth", Some(&["required"]))], &[("client nobody", "CertificateRequired")]),
    (&[("--client-auth", Some(&["optional"]))], &[]),
    // The leaf has been valid for an hour.
    (&[("--clock-skew", Some(&["3500"]))], &[]),
    (&[("--clock-skew", Some(&["3700"]))], &[("warned of dates", "may be wrong by 3700 s")]),
    // The leaf ends in ten and a half days, after ten of its twenty and a half.
    (&[("--expiry-days", Some(&["10"]))], &[]),
    (&[("--expiry-days", Some(&["11"]))], &[("expiring", "950400 s")]),
    (&[("--expiry-days", Some(&["9,30,11,300"]))], &[("expiring", "950400 s")]),
    (&[("--log", Some(&["text"]))], &[]),
    (&[("--log", Some(&["json"]))], &[("log", "json")]),
    (&[("--log", Some(&["ocsf"]))], &[("log", "ocsf")]),
    // This leaf ends in half a day, after 29 of its 30 days.
    (
        &[("--cert", Some(&["@late.crt"])), ("--key", Some(&["@late.key"]))],
        &[
            ("name a.test", "late.test"),
            ("name given.test", "late.test"),
            ("name x.wild.test", "late.test"),
            ("name unknown.test", "late.test"),
            ("name none", "late.test"),
            ("sets", "late.crt, b.crt, lists"),
            ("expiring", "86400 s"),
        ],
    ),
    (&[("--help", Some(&[]))], &[("ends", "0")]),
];

const CHECK: &[Setting] = &[
    ("--cert", Some(&["@a.crt"])),
    ("--key", Some(&["@a.key"])),
    ("--pair", Some(&["@b.crt,@b.key"])),
    ("--client-ca", Some(&["@ca.crt"])),
    ("--client-auth", Some(&["optional"])),
    ("--crl-dir", Some(&["@lists"])),
];

/// The observations of the `check` command line.
const CHECKED: &[(&str, &str)] = &[
    ("ends", "3"),
    ("form", "lines"),
    ("paths", "a.crt, a.key, ca.crt, lists, lists/below.crl, lists/expired.crl, lists/good.crl"),
    ("leaf", "a.test"),
    ("sets", "2"),
    ("client CAs", "4"),
    ("lists", "3"),
    ("ends soon", "a.crt"),
    ("an expired list", NONE_OF_IT),
    ("no list", NONE_OF_IT),
    ("no list above", NONE_OF_IT),
    ("a list of nobody", "lists/below.crl"),
];

const NONE_OF_IT: &str = "no client of it is let in";
const NONE_ISSUED: &str = "each client whose certificate it issued itself is rejected";

/// Flags without an effect on a check, which makes no handshake with a client.
const UNSEEN_BY_CHECK: [&str; 2] = ["--strict-names", "--client-auth"];

const CHECK_ROWS: &[Row] = &[
    (&[("--cert", None)], &[("ends", "2")]),
    (&[("--cert", Some(&["@b.crt"]))], &[("ends", "1: match: @a.key")]),
    (&[("--key", None)], &[("ends", "2")]),
    (&[("--key", Some(&["@b.key"]))], &[("ends", "1: match: @b.key")]),
    // A leaf that ends in two weeks and half a day causes no warning.
    (
        &[("--cert", Some(&["@later.crt"])), ("--key", Some(&["@later.key"]))],
        &[
            ("leaf", "later.test"),
            (
                "paths",
                "later.crt, later.key, ca.crt, lists, lists/below.crl, lists/expired.crl, lists/good.crl",
            ),
            ("ends soon", ""),
        ],
    ),
    (&[("--pair", None)], &[]),
    (&[("--pair", Some(&["@b.crt,@a.key"]))], &[("ends", "1: match: @a.key")]),
    (&[("--pair", Some(&["@late.crt,@late.key"]))], &[("ends soon", "a.crt, late.crt")]),
    (&[("--pair", Some(&["@b.crt"]))], &[("ends", "2")]),
    (&[("--strict-names", Some(&[]))], &[]),
    (&[("--client-ca", None)], &[("ends", "2")]),
    (
        &[("--client-ca", Some(&["@good-ca.crt"])), ("--crl-dir", None)],
        &[
            ("client CAs", "1"),
            ("lists", "0"),
            ("sets", "1"),
            ("paths", "a.crt, a.key, good-ca.crt"),
            ("an expired list", ""),
            ("no list", ""),
            ("no list above", ""),
            ("a list of nobody", ""),
        ],
    ),
    (&[("--separate-client-ca", Some(&[]))], &[("sets", "3")]),
    (
        &[("--crl-dir", None)],
        &[
            ("lists", "0"),
            ("sets", "1"),
            ("paths", "a.crt, a.key, ca.crt"),
            ("an expired list", ""),
            ("no list", ""),
            ("no list above", ""),
            ("a list of nobody", ""),
        ],
    ),
    (&[("--crl-dir", Some(&["@missing"]))], &[("ends", "1: read: @missing")]),
    (
        &[("--crl-dir", Some(&["@lists", "@more-lists"]))],
        &[
            ("lists", "4"),
            ("sets", "3"),
            (
                "paths",
                "a.crt, a.key, ca.crt, lists, more-lists, lists/below.crl, lists/expired.crl, lists/good.crl, \
                 more-lists/unlisted.crl",
            ),
            ("no list", ""),
        ],
    ),
    (
        &[("--crl", Some(&["@lists/good.crl"])), ("--crl-dir", None)],
        &[("lists", "1"), ("paths", "a.crt, a.key, ca.crt, lists/good.crl"), ("a list of nobody", "")],
    ),
    (&[("--crls-with-client-ca", Some(&[]))], &[("sets", "1")]),
    (&[("--crl-expired", Some(&["refuse"]))], &[]),
    (&[("--crl-expired", Some(&["use"]))], &[("an expired list", "it counts all the same")]),
    (&[("--crl-unknown", Some(&["refuse"]))], &[]),
    (&[("--crl-unknown", Some(&["allow"]))], &[("no list", ""), ("no list above", "")]),
    (
        &[("--crl-leaf-only", Some(&[]))],
        &[("an expired list", NONE_ISSUED), ("no list", NONE_ISSUED), ("no list above", NONE_ISSUED)],
    ),
    (&[("--client-auth", None)], &[]),
    (&[("--client-auth", Some(&["required"]))], &[]),
    (&[("--client-auth", Some(&["optional"]))], &[]),
    (&[("--client-auth", Some(&["perhaps"]))], &[("ends", "2")]),
    (&[("--clock-skew", Some(&["3500"]))], &[]),
    // A warning about the dates of a leaf replaces the warning that it ends soon.
    (
        &[("--clock-skew", Some(&["3700"]))],
        &[("dates for a clock an hour off", "a.crt, b.crt"), ("ends soon", "")],
    ),
    (&[("--warn-days", Some(&["10"]))], &[("ends soon", "")]),
    (&[("--warn-days", Some(&["11"]))], &[]),
    (&[("--json", Some(&[]))], &[("form", "an object")]),
    (&[("--help", Some(&[]))], &[("ends", "0")]),
];

const DEMO_ROWS: &[Row] = &[
    (&[], &[]),
    (&[("--keep", Some(&[]))], &[("goes on", "yes")]),
    (&[("--help", Some(&[]))], &[("good updates", ""), ("broken updates", "")]),
];

const DEMONSTRATED: &[(&str, &str)] = &[("ends", "0"), ("good updates", "2"), ("broken updates", "1")];

/// Returns the words of a command line that a row has changed.
fn words(world: &World, base: &[Setting], changed: &[Setting]) -> Vec<String> {
    let mut settings: Vec<Setting> = base.to_vec();
    for change in changed {
        match settings.iter_mut().find(|setting| setting.0 == change.0) {
            Some(setting) => *setting = *change,
            None => settings.push(*change),
        }
    }
    let mut words = Vec::new();
    for (flag, values) in settings {
        match values {
            None => {}
            Some([]) => words.push(flag.to_owned()),
            Some(values) => {
                words.extend(values.iter().flat_map(|value| [flag.to_owned(), world.word(value)]));
            }
        }
    }
    words
}

/// Returns the observations that a row expects. Where the command ends early, only its end is
/// expected.
fn expected(base: &[(&str, &str)], changed: &[(&str, &str)]) -> Seen {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let ends_early =
        |(name, value): &(&str, &str)| *name == "ends" && base.iter().all(|one| one != &("ends", *value));
    let is_alone = changed.iter().any(ends_early)
        || changed.iter().any(|one| one.1.ends_with(":8443") || one.1 == "an object");
    let mut all: Seen = if is_alone { Seen::new() } else { base.iter().map(owned).collect() };
    all.extend(changed.iter().map(owned));
    all.retain(|_, value| !value.is_empty());
    all
}

/// Asserts that each flag of the help has a row with an effect, and each of its values a row.
fn is_complete(command: &str, rows: &[Row]) {
    for (flag, values) in flags(command) {
        let of_flag = || rows.iter().filter(|row| row.0.iter().any(|setting| setting.0 == flag));
        let is_unseen = command == "check" && UNSEEN_BY_CHECK.contains(&flag.as_str());
        let has_effect = is_unseen || of_flag().any(|row| !row.1.is_empty());
        assert!(of_flag().next().is_some() && has_effect, "{command} {flag} has no row with an effect");
        for value in values {
            let has_value = |row: &Row| {
                row.0.iter().any(|(_, values)| values.is_some_and(|all| all.contains(&value.as_str())))
            };
            assert!(of_flag().any(has_value), "{command} {flag} {value} has no row");
        }
    }
}

/// Runs all rows, several at a time, and reports each observation that differs from the expected
/// one.
fn run(base: (&[Setting], &[(&str, &str)]), rows: &[Row], see: impl Fn(&World, &[String]) -> Seen + Sync) {
    let world = World::new();
    let wrong = std::sync::Mutex::new(Vec::new());
    let mut rows = rows.to_vec();
    rows.push((&[], &[]));
    in_lanes(&rows, 6, |(changed, differs)| {
        let words = words(&world, base.0, changed);
        let (seen, wanted) = (see(&world, &words), expected(base.1, differs));
        let names: BTreeSet<_> = seen.keys().chain(wanted.keys()).collect();
        let odd = names.into_iter().filter(|name| seen.get(*name) != wanted.get(*name));
        let odd: Vec<_> = odd
            .map(|name| (name.clone(), seen.get(name), wanted.get(name)))
            .map(|odd| format!("{odd:?}"))
            .collect();
        if !odd.is_empty() {
            wrong.lock().unwrap().push(format!("{changed:?}: name, seen, wanted: {odd:#?}"));
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} rows: {}", wrong.len(), rows.len(), wrong.join("\n"));
    println!("{} rows", rows.len());
}

#[test]
fn inv16_each_flag_of_serve_has_its_effect() {
    is_complete("serve", SERVE_ROWS);
    run((SERVE, SERVED), SERVE_ROWS, serve);
}

#[test]
fn inv16_each_flag_of_check_has_its_effect() {
    run((CHECK, CHECKED), CHECK_ROWS, check);
    is_complete("check", CHECK_ROWS);
}

#[test]
fn inv16_each_flag_of_the_demo_has_its_effect() {
    is_complete("demo", DEMO_ROWS);
    run((&[], DEMONSTRATED), DEMO_ROWS, |_, words| demo(words));
}
