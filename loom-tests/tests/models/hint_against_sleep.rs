//! A hint against the driver that goes to sleep: whenever it comes, the new content gets published. Time stands still,
//! so no poll makes up for a lost wake-up. Checks: INV-05, INV-06.

use loom_tests::{Design, Disk, Shipped, Surroundings, model, spawn, started};

fn load(disk: &Disk) -> Shipped {
    let publisher = disk.clone();
    let watch = Box::new(move |hints: rustls_reload::watch::Hints| {
        let publisher = publisher.clone();
        // The watcher's own thread.
        spawn(move || {
            publisher.write(2);
            hints.lost();
        });
    });
    let surroundings = Surroundings { watch: Some(watch), ..Surroundings::default() };
    Shipped::load_in(disk, surroundings, |_, _| {})
}

fn body<D: Design>(load: impl Fn(&Disk) -> D) {
    let disk = Disk::default();
    let design = load(&disk);
    assert!(design.start());
    started();
    let published = D::wait_published(&design.handle(), 1).expect("the hint is lost");
    assert_eq!((published.generation, published.value.version()), (2, 2));
    assert!(design.stop());
}

#[test]
fn inv06_hint_against_sleep() {
    model("hint against the driver going to sleep", || body(load));
}
