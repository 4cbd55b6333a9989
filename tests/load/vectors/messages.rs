//! Each mistake gives its message, and the command in the message repairs it. The command is taken
//! from the message and run.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use rustls_reload::{Error, Layer, Reload};

use crate::common::in_memory;

use super::{
    Expect, Server, Trigger, Vector, mistakes, say,
    set::{CRT, KEY, Set},
};

/// A wrong file.
pub(crate) struct Mistake {
    pub(crate) what: &'static str,
    pub(crate) file: &'static str,
    /// The file that the refusal names.
    pub(crate) blamed: &'static str,
    pub(crate) layer: Layer,
    /// Parts of the message.
    pub(crate) says: &'static [&'static str],
    /// Text that would be untrue in the message.
    pub(crate) never: &'static [&'static str],
    pub(crate) make: fn(&Set) -> Vec<u8>,
    pub(crate) mend: Mend,
}

/// The command in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// No command, or a command of a program that is not run here.
    None,
    /// The command makes a file that loads.
    Loads,
    /// The command makes another key, which loads but does not match the certificate.
    OtherKey,
}

/// Returns the output of `openssl` with this input.
pub(crate) fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    run(Command::new("openssl").args(args), input)
}

pub(crate) fn shell(command: &str, input: &[u8]) -> Vec<u8> {
    run(Command::new("sh").args(["-c", command]), input)
}

fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The command may end before it has read its whole input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Checks a message. The error names the part that is missing or untrue.
fn evaluate(mistake: &Mistake, error: &Error) -> Result<(), String> {
    let message = error.to_string();
    let missing = mistake.says.iter().find(|part| !message.contains(*part));
    let untrue = mistake.never.iter().find(|part| message.contains(*part));
    match (missing, untrue) {
        _ if error.layer() != mistake.layer => {
            Err(format!("{} should have refused: {message}", mistake.layer))
        }
        (Some(part), _) => Err(format!("no {part:?} in: {message}")),
        (_, Some(part)) => Err(format!("{part:?} is not true: {message}")),
        _ if !message.is_ascii() || message.len() > 900 => Err(format!("too long or not ASCII: {message}")),
        _ => Ok(()),
    }
}

/// Returns the first command in a message that makes `new`, extended by the passphrase that it
/// would prompt for.
fn command(message: &str) -> Option<String> {
    let mut parts = message.split('`').skip(1).step_by(2);
    let command = parts.find(|part| part.contains("new") && !part.contains("-check"))?;
    let asks = ["openssl pkey -in", "openssl pkey -inform", "openssl pkcs12 -in"];
    let asks = asks.iter().find(|begin| command.starts_with(*begin));
    Some(asks.map_or_else(
        || command.to_owned(),
        |begin| {
            let (program, rest) = begin.rsplit_once(' ').unwrap();
            command.replacen(begin, &format!("{program} -passin pass:secret {rest}"), 1)
        },
    ))
}

/// Returns the file that the command in its message makes.
fn mended(message: &str, file: &[u8]) -> Result<Vec<u8>, String> {
    let command = command(message).ok_or_else(|| format!("no command in: {message}"))?;
    let dir = in_memory();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("old"), file).unwrap();
    let output = Command::new("sh")
        .args(["-c", &command])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{command:?} fails: {why}"));
    }
    std::fs::read(path("new")).map_err(|error| format!("{command:?} wrote nothing: {error} {why}"))
}

/// Publishes this content as a file of the next set, and returns the result.
fn outcome(server: &mut Server, file: &'static str, text: &[u8]) -> Result<Reload, String> {
    let text = text.to_vec();
    let vector = Vector::file(file, "as it is", Expect::Served, move |_| text.clone());
    server.put(&vector);
    Ok(server.outcome()?.0)
}

fn apply(server: &mut Server, mistake: &Mistake) -> Result<(), String> {
    let mut text = (mistake.make)(&server.sets[1]);
    let error = match outcome(server, mistake.file, &text)? {
        Reload::Refused(error) => error,
        other => return Err(format!("{other:?}")),
    };
    evaluate(mistake, &error)?;
    let blamed = error.path().and_then(Path::file_name).is_some_and(|name| name == mistake.blamed);
    super::check(blamed, || format!("another file is blamed: {error}"))?;
    let reported = format!("{error} {error:?}");
    super::check(!server.secrets.iter().any(|windows| windows.occur_in(reported.as_bytes())), || {
        format!("a part of the key is reported: {reported}")
    })?;
    let mut came = Reload::Refused(error);
    // A file that was encoded twice has to be decoded twice.
    for _ in 0..3 {
        let Reload::Refused(error) = &came else { break };
        if mistake.mend == Mend::None || (mistake.mend == Mend::OtherKey && error.layer() == Layer::Match) {
            break;
        }
        text = mended(&error.to_string(), &text)?;
        came = outcome(server, mistake.file, &text)?;
    }
    let is_as_said = match mistake.mend {
        Mend::None => true,
        Mend::Loads => came == Reload::Reloaded,
        Mend::OtherKey => matches!(&came, Reload::Refused(error) if error.layer() == Layer::Match),
    };
    super::check(is_as_said, || format!("after the command: {came:?}"))?;
    server.recover(came == Reload::Reloaded)
}

/// Checks: INV-10, INV-16.
#[test]
fn inv16_each_mistake_gets_its_message_and_its_command_mends_it() {
    if Command::new("openssl").arg("version").output().is_err() {
        return say("no openssl on this machine: nothing to make mistakes with");
    }
    let mistakes = mistakes::all();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut server = Server::run(Trigger::ByHand, |build| build);
        let mut failed = Vec::new();
        while let Some(mistake) = mistakes.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            if let Err(why) = apply(&mut server, mistake) {
                failed.push(format!("{} ({}): {why}", mistake.what, mistake.file));
                server = Server::run(Trigger::ByHand, |build| build);
            }
        }
        failed
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let commands = mistakes.iter().filter(|mistake| mistake.mend != Mend::None).count();
    say(&format!("mistakes: {}, {commands} with a command that was run", mistakes.len()));
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), mistakes.len());
    assert!(mistakes.len() >= 100 && commands >= 50, "{} and {commands}", mistakes.len());
}

/// A wrong design: makes the message for a mistake from the error.
type Says = fn(&Error) -> String;

/// Breaks: INV-16. Designs from the field: one calls every file without an END line cut off, one
/// calls everything that the provider refuses malformed, and one names no line.
#[test]
fn inv16_a_message_that_is_untrue_or_names_no_line_is_found() {
    let wrong: [(&str, Says, &[&str]); 3] = [
        (
            "always cut off",
            |_| "line 1: the file is cut off".to_owned(),
            &["spaces for line breaks in a chain", "long dashes"],
        ),
        (
            "always malformed",
            |_| "line 1: the private key is malformed".to_owned(),
            &["ec-p-521", "rsa-1024", "an encrypted key"],
        ),
        (
            "no line",
            |error| error.why().split_once(": ").unwrap().1.to_owned(),
            &["a letter of base64 that is none", "ed448", "the key as the chain"],
        ),
    ];
    let mut server = Server::run(Trigger::ByHand, |build| build);
    for (name, says, found_by) in wrong {
        for mistake in mistakes::all().iter().filter(|mistake| found_by.contains(&mistake.what)) {
            let text = (mistake.make)(&server.sets[1]);
            let Reload::Refused(error) = outcome(&mut server, mistake.file, &text).unwrap() else {
                panic!("{name}: it loads")
            };
            assert_eq!(evaluate(mistake, &error), Ok(()), "{name}: the right message");
            let wrong = Error::new(error.layer(), says(&error)).at(error.path().unwrap());
            assert!(evaluate(mistake, &wrong).is_err(), "{name} is not found by {}", mistake.what);
        }
    }
    assert!([CRT, KEY].iter().all(|file| mistakes::all().iter().any(|mistake| mistake.file == *file)));
}
