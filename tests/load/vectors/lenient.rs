//! Wrong build steps, which are more lenient than the shipped one or report refusals badly. The
//! vectors catch them.

use rustls::RootCertStore;
use rustls_reload::{
    Build, Built, Context, Error, Files, Layer, ServerTls,
    internal::{ServerBuild, pem},
};

use super::{
    apply,
    set::{CA, CRT, KEY},
};

type Outcome = Result<Built<ServerTls>, Error>;
type How = fn(&mut Lenient, &Files, &Context<'_, ServerTls>) -> Outcome;

/// A wrong build step around the shipped one.
struct Lenient {
    right: ServerBuild,
    how: How,
    /// The files of the last successful build.
    good: Option<Files>,
}

impl Build for Lenient {
    type Value = ServerTls;

    fn build(&mut self, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
        (self.how)(self, files, context)
    }
}

/// Returns the blocks of a text, each with the text before it.
fn blocks(text: &str) -> Vec<&str> {
    text.split_inclusive("-----\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|pair| {
            let from = pair[0].as_ptr() as usize - text.as_ptr() as usize;
            &text[from..from + pair.iter().map(|part| part.len()).sum::<usize>()]
        })
        .collect()
}

/// Returns the files with the text of one of them changed.
fn with(files: &Files, name: &str, change: impl Fn(&str) -> String) -> Files {
    Files::new(files.iter().map(|(path, bytes)| {
        let changed = std::str::from_utf8(bytes).ok().filter(|_| path.ends_with(name)).map(&change);
        (path, changed.map_or_else(|| bytes.to_vec(), String::into_bytes))
    }))
}

/// Breaks: INV-02. Uses only those CAs of a bundle that are usable.
fn passes_over_cas(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    let usable = |block: &&&str| {
        pem::ca_bundle(block.as_bytes()).is_ok_and(|cas| RootCertStore::empty().add(cas[0].clone()).is_ok())
    };
    let files = with(files, CA, |text| blocks(text).iter().filter(usable).copied().collect());
    build.right.build(&files, context)
}

/// Breaks: INV-02. Uses the first of several keys.
fn takes_the_first_key(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    let key = |block: &&&str| pem::key(block.as_bytes()).is_ok();
    let files = with(files, KEY, |text| {
        blocks(text).iter().find(key).map_or_else(String::new, |block| (*block).to_owned())
    });
    build.right.build(&files, context)
}

/// Breaks: INV-02. Treats a marker with typographic dashes as text, as OpenSSL does, and with it
/// the whole section.
fn takes_damaged_markers_for_text(
    build: &mut Lenient,
    files: &Files,
    context: &Context<'_, ServerTls>,
) -> Outcome {
    let files = with(files, CRT, |text| {
        text.lines().filter(|line| !line.contains('\u{2014}')).map(|line| format!("{line}\n")).collect()
    });
    build.right.build(&files, context)
}

/// Breaks: INV-02. Assumes that a key without its public part belongs to the certificate.
fn takes_any_key_without_its_public_part(
    build: &mut Lenient,
    files: &Files,
    context: &Context<'_, ServerTls>,
) -> Outcome {
    let built = build.right.build(files, context).or_else(|error| {
        let is_half = error.layer() == Layer::Match && error.why().contains("without its public part");
        let good = build.good.as_ref().filter(|_| is_half).ok_or(error)?;
        build.right.build(good, context)
    });
    if built.is_ok() {
        build.good = Some(files.clone());
    }
    built
}

/// Breaks: INV-02, INV-03. Combines the valid files of an update with the last good version of the
/// others.
fn takes_what_it_can(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    let built = build.right.build(files, context).or_else(|error| {
        let good = build.good.as_ref().ok_or(error)?;
        let mixed = files
            .iter()
            .zip(good.iter())
            .map(|((path, new), (_, old))| (path, if path.ends_with(CA) { new } else { old }));
        build.right.build(&Files::new(mixed), context)
    });
    if built.is_ok() {
        build.good = Some(files.clone());
    }
    built
}

/// Breaks: INV-02. Ignores the dates of the leaf, as a first load does.
fn asks_for_no_dates(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    build.right.build(files, &Context::new(context.wall, None))
}

/// Breaks: INV-11. Names no file in the error.
fn names_no_file(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    build.right.build(files, context).map_err(|error| Error::new(error.layer(), error.why()))
}

/// Breaks: INV-11. Names the layer of the configuration in every error.
fn names_one_layer(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    build.right.build(files, context).map_err(|error| {
        let path = error.path().map(ToOwned::to_owned).unwrap_or_default();
        Error::new(Layer::Config, error.why()).at(path)
    })
}

/// Breaks: INV-10. Repeats the unreadable text in the error.
fn repeats_the_line(build: &mut Lenient, files: &Files, context: &Context<'_, ServerTls>) -> Outcome {
    build.right.build(files, context).map_err(|error| {
        let path = error.path().map(ToOwned::to_owned).unwrap_or_default();
        let text =
            files.iter().find(|(file, _)| *file == path).map(|(_, bytes)| String::from_utf8_lossy(bytes));
        let line = text.and_then(|text| text.lines().nth(2).map(str::to_owned)).unwrap_or_default();
        Error::new(error.layer(), format!("{}: {line}", error.why())).at(path)
    })
}

/// Each wrong build step, with the vectors of which at least one catches it.
const WRONG: [(&str, How, &[&str]); 9] = [
    ("passes_over_cas", passes_over_cas, &["ca.crt: a malformed block between two"]),
    ("takes_the_first_key", takes_the_first_key, &["tls.key: another key behind it"]),
    (
        "takes_damaged_markers_for_text",
        takes_damaged_markers_for_text,
        &["tls.crt: dashes of an editor around the second label"],
    ),
    (
        "takes_any_key_without_its_public_part",
        takes_any_key_without_its_public_part,
        &["tls.key: without its public half, another number", "tls.key: of the kind ec-no-public"],
    ),
    ("takes_what_it_can", takes_what_it_can, &["the key of another set", "tls.key: empty"]),
    ("asks_for_no_dates", asks_for_no_dates, &["tls.crt: expired a year ago"]),
    ("names_no_file", names_no_file, &["tls.crt: empty"]),
    ("names_one_layer", names_one_layer, &["ca.crt: empty"]),
    ("repeats_the_line", repeats_the_line, &["tls.key: a letter of base64 that is none"]),
];

#[test]
fn each_lenient_build_is_caught_by_its_vectors() {
    for (name, how, vectors) in WRONG {
        let named = |vector: &super::Vector| vectors.contains(&vector.name.as_str());
        let (tried, failed) = apply(named, |right| Lenient { right, how, good: None });
        super::say(&format!("{name}: {} of {tried} vectors: {}", failed.len(), failed.join("; ")));
        assert!(tried == vectors.len() && failed.len() == tried, "{name} is not caught");
        let (_, failed) = apply(named, |right| right);
        assert_eq!(failed, Vec::<String>::new(), "{name}: the shipped one is caught too");
    }
}
