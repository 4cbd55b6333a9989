//! Each file set has series of its own.

use std::{fs, path::Path};

use rustls_reload::{
    Build, Builder, Built, Context, Error, Files, Reload, ServerReloader, internal::described_leaf,
};

use super::{
    DAY, Nothing, changes,
    common::{Volume, generations},
    mismatched, of,
    recorder::METRICS,
    seen,
};

#[test]
fn each_file_set_has_gauges_of_its_own() {
    let generations = generations(4);
    let (mut first, mut second) = (Volume::of(&generations[0]), Volume::of(&generations[1]));
    METRICS.install();
    let names = ["second.test"];
    let builder = first.server().pair_for(names, second.path("tls.crt"), second.path("tls.key"));
    let reloader = builder.metrics_name("two").load().unwrap();
    let [at_first, at_second] =
        [&first, &second].map(|volume| volume.path("tls.crt").to_str().unwrap().to_owned());
    let look = || seen("two", Path::new("/nowhere"));
    let before = look();
    second.publish(&mismatched(&generations[2..]));
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    let wanted = [
        (format!("tls_reload_refused{{set=\"{at_second}\"}}"), 1.0),
        (format!("tls_reload_total{{set=\"{at_second}\",result=\"refused\",reason=\"match\"}}"), 1.0),
        (format!("tls_served_matches_disk{{set=\"{at_second}\"}}"), 0.0),
    ];
    let refused = look();
    assert_eq!(changes(&before, &refused), wanted.into());
    // The other set is reloaded all the same.
    first.publish(&generations[2].files());
    reloader.reload_now();
    let changed = changes(&refused, &look());
    assert_eq!(changed["tls_generation"], 2.0);
    let count = format!("tls_reload_total{{set=\"{at_first}\",result=\"reloaded\",reason=\"none\"}}");
    assert_eq!(changed[&count], 1.0);
    assert!(!changed.keys().any(|series| series.contains(&at_second)), "{changed:?}");
}

/// Each of two sets with one first path has series of its own, also where it has the same files.
#[test]
fn sets_with_the_same_first_path_have_labels_of_their_own() {
    let generations = generations(3);
    let mut volume = Volume::of(&generations[0]);
    METRICS.install();
    let [chain, key, other] = ["tls.crt", "tls.key", "other.key"].map(|name| volume.path(name));
    fs::copy(&key, &other).unwrap();
    let builder = ServerReloader::builder(&chain, &key).pair_for(["b.test"], &chain, &other);
    let reloader = builder.metrics_name("alike").load().unwrap();
    let look = || seen("alike", &volume.dir());
    let before = look();
    // The key of the second set alone is replaced.
    fs::write(&other, &generations[1].server.key).unwrap();
    assert!(matches!(reloader.reload_now(), Reload::Refused(_)));
    let wanted = of([
        ("tls_reload_refused{set=\"DIR/tls.crt#2\"}", 1.0),
        ("tls_reload_total{set=\"DIR/tls.crt#2\",result=\"refused\",reason=\"match\"}", 1.0),
        ("tls_served_matches_disk{set=\"DIR/tls.crt#2\"}", 0.0),
    ]);
    assert_eq!(changes(&before, &look()), wanted);
    let durations = look();
    let count = |set: &str| durations[&format!("tls_build_duration_seconds_count{{set=\"DIR/{set}\"}}")];
    assert_eq!(count("tls.crt#2"), 1.0);
    assert!(!durations.contains_key("tls_build_duration_seconds_count{set=\"DIR/tls.crt\"}"));
    volume.publish(&generations[2].files());
}

/// Paths that differ only in bytes that are no text, and a path that looks like a numbered label.
#[cfg(unix)]
#[test]
fn labels_that_would_be_equal_are_numbered() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    METRICS.install();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let [one, other, plain, numbered] = [&b"\xff"[..], b"\xfe", b"a", b"a#2"].map(path);
    for path in [&one, &other, &plain, &numbered] {
        fs::write(path, "").unwrap();
    }
    let builder = Builder::new([&one], Nothing).set([&other]).set([&plain]).set([&plain, &one]);
    let _reloader = builder.set([&numbered]).metrics_name("labels").load().unwrap();
    let series = seen("labels", dir.path()).into_keys();
    let labels: Vec<_> = series
        .filter_map(|series| Some(series.strip_prefix("tls_reload_refused{set=\"DIR/")?.to_owned()))
        .collect();
    assert_eq!(labels, ["a\"}", "a#2\"}", "a#2#2\"}", "\u{fffd}\"}", "\u{fffd}#2\"}"].map(String::from));
}

/// A build whose value has a leaf while its file says so.
struct Sometimes;

impl Build for Sometimes {
    type Value = ();

    fn build(&mut self, files: &Files, _: &Context<'_, ()>) -> Result<Built<()>, Error> {
        let has_leaf = files.get(0).unwrap().1 == b"leaf";
        let leaf = has_leaf.then(|| described_leaf([1; 32], DAY, 2 * DAY));
        let mut built = Built::new(());
        built.leaf = leaf;
        Ok(built)
    }
}

#[test]
fn dates_of_a_leaf_that_is_gone_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    METRICS.install();
    fs::write(&path, "leaf").unwrap();
    let reloader = Builder::new([&path], Sometimes).metrics_name("undated").load().unwrap();
    let dates = || {
        ["before", "after"].map(|edge| {
            seen("undated", dir.path())
                [&format!("tls_certificate_not_{edge}_timestamp_seconds{{set=\"DIR/file\"}}")]
        })
    };
    assert_eq!(dates(), [DAY, 2 * DAY].map(|date| date.as_secs_f64()));
    for (content, is_dated) in [("nothing", false), ("none", false), ("leaf", true)] {
        fs::write(&path, content).unwrap();
        assert_eq!(reloader.reload_now(), Reload::Reloaded);
        assert!(dates().iter().all(|date| date.is_nan() != is_dated), "{content}: {:?}", dates());
    }
}
