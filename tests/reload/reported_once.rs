//! Which rejections are one, so that a repetition is counted and not reported.
//!
//! Checks: INV-11.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustls_reload::{
    Build, Builder, Built, Context, Error, Event, Events, Files, Layer, Reload, Reloader,
    internal::snapshot::FILE_LIMIT,
};

use crate::common::{drain, quick};

/// Accepts "good", and rejects other files with the next of these texts.
struct Texts(Vec<&'static str>);

impl Build for Texts {
    type Value = ();

    fn build(&mut self, files: &Files, _: &Context<'_, ()>) -> Result<Built<()>, Error> {
        match files.iter().all(|(_, bytes)| bytes == b"good") {
            true => Ok(Built::new(())),
            false => Err(Error::new(Layer::Config, self.0.remove(0))),
        }
    }
}

/// Loads a reloader of these files, which takes snapshots only when it is asked to.
fn load(paths: &[&PathBuf], texts: &[&'static str]) -> (Reloader<()>, Events<()>) {
    paths.iter().for_each(|path| fs::write(path, "good").unwrap());
    let reloader = Builder::new(paths, Texts(texts.to_vec())).timing(quick()).load().unwrap();
    let events = reloader.events();
    (reloader, events)
}

/// Reloads. Returns the error that rejects the files, and whether it was reported.
fn rejected(reloader: &Reloader<()>, events: &mut Events<()>) -> (Error, bool) {
    let Reload::Refused(error) = reloader.reload_now() else { panic!("not rejected") };
    let status = reloader.status().refused.unwrap();
    assert_eq!(status.error.to_string(), error.to_string(), "the status has the latest text");
    let reported = drain(events);
    let refused = reported.iter().filter(|event| matches!(***event, Event::Refused { .. })).count();
    assert_eq!(refused, reported.len(), "{reported:?}");
    assert!(refused < 2, "{reported:?}");
    (error, refused == 1)
}

fn set_length(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn inv11_file_that_keeps_growing_beyond_the_limit_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    let (reloader, mut events) = load(&[&one, &other], &[]);
    for (grown, is_new) in [(1, true), (2, false), (3, false)] {
        set_length(&one, FILE_LIMIT + grown);
        let (error, reported) = rejected(&reloader, &mut events);
        assert!(error.why().starts_with(&(FILE_LIMIT + grown).to_string()), "{error}");
        assert_eq!((error.layer(), error.path(), reported), (Layer::Read, Some(&*one), is_new), "{error}");
    }
    assert_eq!(reloader.status().refused.unwrap().count, 3);

    // Another failure of that file, and the same failure of another file.
    fs::remove_file(&one).unwrap();
    let (error, reported) = rejected(&reloader, &mut events);
    assert_eq!(
        (error.io_kind(), error.path(), reported),
        (Some(std::io::ErrorKind::NotFound), Some(&*one), true)
    );
    fs::write(&one, "good").unwrap();
    set_length(&other, FILE_LIMIT + 1);
    let (error, reported) = rejected(&reloader, &mut events);
    assert_eq!((error.path(), reported), (Some(&*other), true), "{error}");
    set_length(&one, FILE_LIMIT + 1);
    let (error, reported) = rejected(&reloader, &mut events);
    assert_eq!((error.path(), reported), (Some(&*one), true), "{error}");
    assert_eq!(reloader.status().refused.unwrap().count, 1);
}

#[cfg(unix)]
#[test]
fn inv11_the_same_failure_behind_another_link_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let [path, a, b] = ["path", "a", "b"].map(|name| dir.path().join(name));
    let (reloader, mut events) = load(&[&path], &[]);
    for (target, grown, is_new) in [(&a, 1, true), (&a, 2, false), (&b, 2, true)] {
        fs::write(target, "").unwrap();
        set_length(target, FILE_LIMIT + grown);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        let (error, reported) = rejected(&reloader, &mut events);
        assert!(error.why().contains(target.to_str().unwrap()), "{error}");
        assert_eq!((error.path(), reported), (Some(&*path), is_new), "{error}");
    }
}

#[test]
fn inv11_the_text_of_an_embedders_rejection_is_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one");
    let texts = ["attempt 1", "attempt 1", "attempt 2", "attempt 2"];
    let (reloader, mut events) = load(&[&path], &texts);
    fs::write(&path, "bad").unwrap();
    for (text, is_new) in texts.into_iter().zip([true, false, true, false]) {
        let (error, reported) = rejected(&reloader, &mut events);
        assert_eq!((error.why(), reported), (text, is_new));
    }
}
