//! Paths that become another kind of file, relative paths, and paths with dots.

use super::*;

pub fn kinds() -> Scenario {
    Scenario::of(22, "a path changes kind", PLAIN, |run| {
        run.start();
        for kind in 0..5 {
            file_becomes(run, kind);
        }
        linked_files(run);
        for kind in 0..5 {
            directory_becomes(run, kind);
        }
        linked_directory(run);
    })
}

/// Returns the steps that put something unreadable at `path` (a FIFO, a dangling link, a link to
/// itself, or a file and a directory exchanged) and that remove it; `None` for no entry at all.
fn other(path: &str, kind: usize, is_dir: bool) -> Option<[Op; 2]> {
    let path = || PathBuf::from(path);
    match kind {
        0 => None,
        1 => Some([Op::Mkfifo(path()), Op::Unlink(path())]),
        2 => Some([Op::Symlink("nowhere".into(), path()), Op::Unlink(path())]),
        3 => Some([Op::Symlink(path().file_name()?.into(), path()), Op::Unlink(path())]),
        _ if is_dir => Some([Op::Create(path()), Op::Unlink(path())]),
        _ => Some([Op::Mkdir(path()), Op::Rmdir(path())]),
    }
}

/// Replaces a file of the set for a while, a different one for each kind.
fn file_becomes(run: &mut Run<'_>, kind: usize) {
    let path = format!("vol/{}", NAMES[kind % 3]);
    let other = other(&path, kind, false);
    becomes(run, Op::Unlink(path.into()), other, |files| rewrite("vol", files));
}

/// Replaces the directory for a while.
fn directory_becomes(run: &mut Run<'_>, kind: usize) {
    let away = format!("away{}", run.number);
    let away = Op::Rename("vol".into(), away.into());
    becomes(run, away, other("vol", kind, true), |files| fill("vol", 1, files));
}

/// Puts the other entry in the place of the removed one, waits for the refusal, removes the entry, and waits until the files that `remake` makes
/// are served.
fn becomes(run: &mut Run<'_>, removal: Op, other: Option<[Op; 2]>, remake: impl Fn(&Files) -> Vec<Op>) {
    let (mut steps, mut ops) = (vec![removal], Vec::new());
    if let Some([make, remove]) = other {
        steps.push(make);
        ops.push(remove);
    }
    // A run in which these steps are held up is no run.
    run.steps(&steps);
    run.refused(Layer::Read);
    let set = run.next();
    ops.extend(remake(&run.files(set)));
    run.write(Pace::Settle, set, &ops);
}

/// Replaces the files by links to valid files, and then by files again.
fn linked_files(run: &mut Run<'_>) {
    let set = run.next();
    let mut ops = fill("elsewhere", 1, &run.files(set));
    ops.extend(unlink("vol"));
    for name in NAMES {
        ops.push(Op::Symlink(Path::new("../elsewhere").join(name), Path::new("vol").join(name)));
    }
    run.write(Pace::Settle, set, &ops);
    let set = run.next();
    let ops = [unlink("vol"), rewrite("vol", &run.files(set))].concat();
    run.write(Pace::Settle, set, &ops);
}

/// Replaces the directory by a link to a valid one, and then by a directory again.
fn linked_directory(run: &mut Run<'_>) {
    let set = run.next();
    let mut ops = fill("beside", 1, &run.files(set));
    ops.push(Op::Rename("vol".into(), "away".into()));
    ops.push(Op::Symlink("beside".into(), "vol".into()));
    run.commit(Pace::Soon, set, &ops);
    let set = run.next();
    let mut ops = fill("back", 1, &run.files(set));
    ops.extend([Op::Unlink("vol".into()), Op::Rename("back".into(), "vol".into())]);
    run.write(Pace::Settle, set, &ops);
}

/// Paths with `.` and `..` in them. The simulation resolves them to absolute ones.
pub fn dotted() -> Scenario {
    let scenario = Scenario::of(24, "a path with dots", KUBELET, committed(KUBELET));
    let paths = NAMES.iter().map(|name| Path::new("/vol/../vol/.").join(name)).collect();
    Scenario { paths, ..scenario }
}

/// The files by paths that begin at the working directory, which contains the volume.
pub fn relative(name: &'static str) -> Scenario {
    Scenario::of(24, name, KUBELET, committed(KUBELET))
}

/// The files in the working directory itself, by their bare names.
pub fn bare() -> Scenario {
    let rotate = |number: u32, files: &Files| {
        let keyed: Vec<_> = NAMES.iter().zip(files).map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let (here, stamp) = (Path::new(""), |number: u32| format!("..{number}"));
        if number == 1 {
            rustls_reload_testkit::kubelet_first(here, &stamp(1), &keyed)
        } else {
            rustls_reload_testkit::kubelet_update(here, &stamp(number - 1), &stamp(number), &keyed)
        }
    };
    Scenario::new(
        24,
        "a bare file name",
        "",
        move |files| rotate(1, files),
        move |run| {
            run.start();
            for _ in 0..run.rounds {
                let set = run.next();
                let ops = rotate(run.number, &run.files(set));
                run.commit(Pace::Commit, set, &ops);
            }
        },
    )
}
