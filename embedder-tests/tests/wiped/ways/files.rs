//! Ways with files of the set missing, damaged or exchanged.

use std::fs;

use super::{Bench, through};
use crate::forms::Form;
use rustls_reload::{Layer, Reload};

impl Bench<'_> {
    /// Takes ways with files of the set missing, damaged or exchanged.
    pub(super) fn files(&mut self) {
        let Form { damaged, is_taken, .. } = self.form;
        let whole = self.way("nothing is wrong", Self::publish, through());
        assert_eq!(matches!(whole, Some(Reload::Reloaded)), *is_taken, "{}: {whole:?}", self.form.name);
        for name in ["tls.crt", "ca.crt", "ca.crl", "other.crt", "other.key"] {
            let away = self.path("away");
            let path = self.path(name);
            let missing = |bench: &Self| {
                bench.publish();
                fs::rename(&path, &away).unwrap();
            };
            self.ways += 1;
            missing(self);
            let answer = self.reloader.reload_now();
            self.note(format!("{answer:?}"));
            assert!(matches!(answer, Reload::Refused(_)), "{}: without {name}: {answer:?}", self.form.name);
            fs::rename(&away, &path).unwrap();
            let text = &self.form.text;
            if name.starts_with("ca") {
                let was = fs::read(&path).unwrap();
                self.put(name, text);
                let answer = self.reloader.reload_now();
                self.note(format!("{answer:?}"));
                assert!(matches!(answer, Reload::Refused(_)), "{}: as {name}: {answer:?}", self.form.name);
                self.put(name, was);
            } else {
                self.way(&format!("the key as {name}"), |bench| bench.put(name, text), through());
            }
        }
        for (what, text) in damaged {
            let put = |bench: &Self| {
                bench.publish();
                bench.put("tls.key", text);
            };
            self.way(what, put, through());
        }
        // The second pair has the key of another certificate.
        self.refused(
            if self.form.is_taken && !self.form.name.contains("without") {
                Layer::Match
            } else {
                self.foreign()
            },
            "the key of another pair",
            |bench| bench.put("other.key", &bench.form.text),
            through(),
        );
    }

    /// Returns the layer that refuses the key beside a certificate of another key.
    fn foreign(&self) -> Layer {
        if self.form.name.ends_with("DER") || self.form.name == "dsa-old" {
            Layer::Pem
        } else if self.form.is_taken {
            Layer::Match
        } else {
            Layer::Key
        }
    }
}
