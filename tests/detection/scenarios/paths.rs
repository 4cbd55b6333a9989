//! Paths: of another kind, relative, with dots.

use super::*;

pub fn kinds() -> Scenario {
    let file = |path: &str, kind: usize| match kind {
        0 => None,
        1 => Some((Op::Mkdir(path.into()), Op::Rmdir(path.into()))),
        2 => Some((Op::Mkfifo(path.into()), Op::Unlink(path.into()))),
        3 => Some((Op::Symlink("nowhere".into(), path.into()), Op::Unlink(path.into()))),
        _ => Some((Op::Create(path.into()), Op::Unlink(path.into()))),
    };
    Scenario::of(22, "a path changes kind", PLAIN, move |run| {
        run.start();
        for round in 0..10 {
            let kind = round % 5;
            let set = run.next();
            let files = run.files(set);
            if round < 5 {
                // A file: nothing, a directory, a FIFO, a link to nothing, and last a link to a good file.
                let path = format!("vol/{}", NAMES[round % 3]);
                run.steps(&[Op::Unlink(path.clone().into())]);
                if kind < 4 {
                    let other = file(&path, kind);
                    other.iter().for_each(|(make, _)| run.world.apply(std::slice::from_ref(make)));
                    run.refused(Layer::Read);
                    let mut ops: Vec<_> = other.map(|(_, remove)| remove).into_iter().collect();
                    ops.extend(rewrite("vol", &files));
                    run.write(Pace::Settle, set, &ops);
                } else {
                    let mut ops = fill("elsewhere", 1, &files);
                    ops.extend(unlink("vol").into_iter().filter(|op| *op != Op::Unlink(path.clone().into())));
                    for name in NAMES {
                        ops.push(Op::Symlink(
                            format!("../elsewhere/{name}").into(),
                            format!("vol/{name}").into(),
                        ));
                    }
                    run.write(Pace::Settle, set, &ops);
                    let set = run.next();
                    let ops = [unlink("vol"), rewrite("vol", &run.files(set))].concat();
                    run.write(Pace::Settle, set, &ops);
                }
                continue;
            }
            // The directory: nothing, a FIFO, a link to nothing, a file, and a link to a good directory.
            let away = Op::Rename("vol".into(), format!("away{}", run.number).into());
            if kind == 1 {
                let mut ops = fill("beside", 1, &files);
                ops.extend([away, Op::Symlink("beside".into(), "vol".into())]);
                run.commit(Pace::Soon, set, &ops);
                let set = run.next();
                let mut ops = fill("back", 1, &run.files(set));
                ops.extend([Op::Unlink("vol".into()), Op::Rename("back".into(), "vol".into())]);
                run.write(Pace::Settle, set, &ops);
            } else {
                run.steps(&[away]);
                let other = file("vol", kind);
                other.iter().for_each(|(make, _)| run.world.apply(std::slice::from_ref(make)));
                run.refused(Layer::Read);
                let mut ops: Vec<_> = other.map(|(_, remove)| remove).into_iter().collect();
                ops.extend(fill("vol", 1, &files));
                run.write(Pace::Settle, set, &ops);
            }
        }
    })
}

/// A path with `.` and `..` in it, of which the simulation knows the absolute ones.
pub fn dotted() -> Scenario {
    let scenario = Scenario::of(24, "a path with dots", KUBELET, committed(KUBELET));
    let paths = NAMES.iter().map(|name| Path::new("/vol/../vol/.").join(name)).collect();
    Scenario { paths, ..scenario }
}

/// The same files by paths that begin at the working directory, which is the one above them.
pub fn relative(name: &'static str) -> Scenario {
    Scenario::of(24, name, KUBELET, committed(KUBELET))
}

/// The files in the working directory itself.
pub fn bare() -> Scenario {
    let rotate = |number: u32, files: &Files| {
        let keyed: Vec<_> = NAMES.iter().zip(files).map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let (here, stamp) = (Path::new(""), |number: u32| format!("..{number}"));
        if number == 1 {
            rustls_reload::testkit::kubelet_first(here, &stamp(1), &keyed)
        } else {
            rustls_reload::testkit::kubelet_update(here, &stamp(number - 1), &stamp(number), &keyed)
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
