//! Two reloads by hand and a reader: publications are in order, none is lost, and each caller's answer is true: what it
//! wrote before it asked is served when it is told so. Checks: INV-04, INV-11.

use loom_tests::{Design, Disk, Reload, Shipped, model, spawn};

fn body<D: Design>() {
    let disk = Disk::default();
    let design = D::load(&disk, |_, _| {});
    let caller = |version: u64| {
        let (disk, handle) = (disk.clone(), design.handle());
        spawn(move || {
            disk.write(version);
            let answer = D::reload_now(&handle);
            let served = D::current(&handle).value.version();
            assert!(served >= version, "told {answer:?} while {served} is served");
            answer
        })
    };
    let callers = [caller(2), caller(3)];
    let first = D::current(&design.handle());
    let then = D::current(&design.handle());
    let seen = [(first.generation, first.value.version()), (then.generation, then.value.version())];
    assert!(seen.is_sorted(), "went back: {seen:?}");
    let answers = callers.map(|caller| caller.join().unwrap());
    let last = D::current(&design.handle());
    assert_eq!(last.value.version(), 3);
    // Each publication was asked for by somebody who is told of it; two who asked together may share one.
    let told = answers.iter().filter(|answer| **answer == Reload::Reloaded).count() as u64;
    assert!((1..=told).contains(&(last.generation - 1)), "{answers:?} at generation {}", last.generation);
    assert_eq!(D::status(&design.handle()), last.generation);
}

#[test]
fn inv04_two_reloads_and_a_reader() {
    model("two reloads and a reader", body::<Shipped>);
}
