#![allow(clippy::unwrap_used)] // reason: a test

use std::time::Duration;

use super::*;
use crate::drill::model::{Lane, Version};

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A valid publication of this chain, done 10 ms after its begin.
fn publication(chain: usize, begun: u64) -> Publication {
    Publication {
        chain,
        serial: String::new(),
        valid: true,
        admits: vec![Who::Member],
        begun: ms(begun),
        done: Some(ms(begun + 10)),
        seen: None,
    }
}

/// A handshake of 10 ms that a member makes, and that shows this chain.
fn shows(chain: usize, begun: u64) -> Record {
    Record {
        lane: Lane { who: Who::Member, version: Version::Tls13, resuming: false },
        begun: ms(begun),
        ended: ms(begun + 10),
        resumed: false,
        shown: Shown::Chain(chain),
        outcome: Outcome::Accepted,
    }
}

fn of(who: Who, record: Record) -> Record {
    Record { lane: Lane { who, ..record.lane }, ..record }
}

fn refused(record: Record) -> Record {
    Record { outcome: Outcome::Refused("an alert".to_owned()), ..record }
}

fn resumed(record: Record) -> Record {
    Record { resumed: true, shown: Shown::Nothing, ..record }
}

/// Three sets, the second and the third at 100 and 200 ms.
fn three() -> Vec<Publication> {
    [0, 1, 2].map(|number| publication(number, 100 * number as u64)).to_vec()
}

/// Asserts what the records are accused of.
#[track_caller]
fn accused(records: &[Record], publications: &[Publication], wanted: &[Expectation]) {
    let found = violations(records, publications);
    let seen: Vec<_> = found.iter().map(|one| one.expectation).collect();
    assert_eq!(seen, wanted, "{found:?}");
}

#[test]
fn each_set_after_the_one_before_is_right() {
    let records = [shows(0, 50), shows(0, 105), shows(1, 150), shows(1, 205), shows(2, 250)];
    accused(&records, &three(), &[]);
    // A set may be passed over.
    accused(&[shows(0, 50), shows(2, 250)], &three(), &[]);
}

#[test]
fn an_older_set_after_a_newer_one_is_wrong() {
    accused(&[shows(1, 150), shows(0, 170)], &three(), &[Expectation::Ordered]);
    accused(&[shows(2, 250), shows(1, 270), shows(2, 290)], &three(), &[Expectation::Ordered]);
}

#[test]
fn handshakes_at_one_time_have_no_order() {
    accused(&[shows(1, 150), shows(0, 155)], &three(), &[]);
}

#[test]
fn a_set_that_is_published_again_is_not_an_older_one() {
    let mut publications = three();
    publications[2].chain = 0;
    accused(&[shows(0, 50), shows(1, 150), shows(0, 250)], &publications, &[]);
    accused(&[shows(1, 150), shows(0, 250), shows(1, 300)], &publications, &[Expectation::Ordered]);
}

#[test]
fn a_set_before_its_end_is_wrong() {
    let mut publications = three();
    publications[1].done = Some(ms(180));
    accused(&[shows(1, 150)], &publications, &[Expectation::Unfinished]);
    accused(&[shows(1, 175)], &publications, &[]);
    publications[1].done = None;
    accused(&[shows(1, 150)], &publications, &[Expectation::Unfinished]);
    let half = Record { shown: Shown::Half(1), ..shows(1, 150) };
    accused(&[half], &three(), &[Expectation::Unfinished]);
}

#[test]
fn an_invalid_set_is_wrong() {
    let mut publications = three();
    publications[1].valid = false;
    accused(&[shows(0, 150)], &publications, &[]);
    accused(&[shows(1, 150)], &publications, &[Expectation::Harmless]);
}

#[test]
fn parts_of_two_sets_are_wrong() {
    for shown in [Shown::Altered(1), Shown::WrongKey(Some(1)), Shown::WrongKey(None), Shown::Unknown] {
        accused(&[Record { shown, ..shows(1, 150) }], &three(), &[Expectation::Whole]);
    }
}

#[test]
fn a_handshake_that_fails_is_wrong() {
    let failed = Record { outcome: Outcome::Failed("reset".to_owned()), ..shows(1, 150) };
    accused(&[failed], &three(), &[Expectation::Completed]);
    accused(&[refused(shows(1, 150))], &three(), &[Expectation::Completed]);
    let closed = Record { outcome: Outcome::Closed("end".to_owned()), ..shows(1, 150) };
    accused(&[closed], &three(), &[Expectation::Completed]);
}

#[test]
fn a_client_is_accepted_by_sets_that_admit_it_alone() {
    let foreign = |record| of(Who::Foreign, record);
    accused(&[refused(foreign(shows(1, 150)))], &three(), &[]);
    accused(&[foreign(shows(1, 150))], &three(), &[Expectation::Refused]);
}

/// The client CAs change without the pair, so that the chain does not tell the sets apart.
#[test]
fn sets_of_one_chain_are_distinguished_by_their_clients() {
    let mut publications = three();
    publications.iter_mut().for_each(|one| one.chain = 0);
    publications[1].admits = vec![Who::Member, Who::OfB];
    let other = |begun| of(Who::OfB, shows(0, begun));
    accused(&[refused(other(50)), other(150), refused(other(250))], &publications, &[]);
    accused(&[other(50)], &publications, &[Expectation::Refused]);
    accused(&[other(150), refused(other(170))], &publications, &[Expectation::Ordered]);
}

#[test]
fn a_session_ends_with_the_trust_that_it_was_made_under() {
    let mut publications = three();
    publications[0].admits.push(Who::OfB);
    let other = |begun| of(Who::OfB, resumed(shows(0, begun)));
    accused(&[other(50)], &publications, &[]);
    // Until a handshake has shown the second set, the first one may be served.
    accused(&[other(150)], &publications, &[]);
    accused(&[shows(1, 120), other(150)], &publications, &[Expectation::Ends]);
    accused(&[shows(1, 120), refused(other(150))], &publications, &[]);
}

#[test]
fn a_resumed_session_that_is_not_served_is_wrong() {
    accused(&[refused(resumed(shows(0, 50)))], &three(), &[Expectation::Completed]);
}

#[test]
fn a_connection_may_be_closed_when_a_later_set_trusts_less() {
    let closed = |record| Record { outcome: Outcome::Closed("end".to_owned()), ..record };
    let mut publications = three();
    publications[0].admits.push(Who::OfB);
    publications[1].seen = Some(ms(120));
    accused(&[closed(shows(0, 95))], &publications, &[]);
    accused(&[closed(resumed(shows(0, 95)))], &publications, &[]);
    accused(&[closed(shows(0, 50))], &publications, &[Expectation::Completed]);
    accused(&[closed(shows(1, 121))], &publications, &[Expectation::Completed]);
    accused(&[closed(shows(0, 95))], &three(), &[Expectation::Completed]);
}
