//! What is inserted, what is counted, and what is dropped.

use super::*;
use crate::model::activity::{ActivityKind, SYSTEM};
use crate::model::ids::{TenantId, UserId};
use crate::model::session::tests::start;

fn note(buffer: &mut ObservationBuffer, key: ObservationKey, now: Time) {
    let tenant = TenantId::parse("").unwrap();
    let kind = ActivityKind::TokenRefused;
    let make = || (Activity::new(Uuid::nil(), now, kind, SYSTEM, &tenant, None), None);
    buffer.note(key, now, make);
}

fn forged(n: u16) -> ObservationKey {
    let [a, b] = n.to_be_bytes();
    ObservationKey::Forged(
        TenantId::parse("").unwrap(),
        ipnet::IpNet::new([10, a, b, 0].into(), 24).unwrap(),
    )
}

fn context(session: u128, agent: u32) -> ObservationKey {
    ObservationKey::Context(Uuid::from_u128(session), (None, Some(agent.to_string())))
}

fn limit(user: &str) -> ObservationKey {
    ObservationKey::Limit(TenantId::parse("").unwrap(), UserId::parse(user).unwrap())
}

/// The counts of the observations that are due.
fn collect(buffer: &mut ObservationBuffer, now: Time, all: bool) -> Vec<u32> {
    buffer.collect(now, all);
    buffer.ready.drain(..).map(|observation| observation.count).collect()
}

#[test]
fn the_first_is_due_at_once_and_the_same_again_a_minute_later_with_its_count() {
    let (mut buffer, now) = (ObservationBuffer::default(), start());
    note(&mut buffer, limit("ada"), now);
    assert_eq!(collect(&mut buffer, now, false), [1]);
    (0..5).for_each(|_| note(&mut buffer, limit("ada"), now));
    assert!(collect(&mut buffer, now + PAUSE - Duration::microseconds(1), false).is_empty());
    assert_eq!(collect(&mut buffer, now + PAUSE, false), [5]);
    note(&mut buffer, limit("ada"), now + PAUSE);
    assert!(collect(&mut buffer, now + PAUSE, false).is_empty());
    assert_eq!(collect(&mut buffer, now + PAUSE, true), [1], "at a stop all is due");
}

#[test]
fn a_context_is_due_once() {
    let (mut buffer, now) = (ObservationBuffer::default(), start());
    (0..5).for_each(|_| note(&mut buffer, context(1, 1), now));
    assert_eq!(collect(&mut buffer, now, false).len(), 1);
    note(&mut buffer, context(1, 1), now + KNOWN - Duration::seconds(1));
    assert!(collect(&mut buffer, now + KNOWN - Duration::seconds(1), true).is_empty());
    assert!(!buffer.keys.is_empty());
    assert!(collect(&mut buffer, now + KNOWN, true).is_empty());
    assert!(buffer.keys.is_empty(), "nothing is kept for ever");
}

#[test]
fn a_session_has_room_for_so_many_contexts_and_forged_tokens_for_so_many_networks() {
    let (mut buffer, now) = (ObservationBuffer::default(), start());
    for n in 0..2000 {
        note(&mut buffer, context(7, n), now);
        note(&mut buffer, forged(n as u16), now);
    }
    note(&mut buffer, context(8, 1), now);
    note(&mut buffer, limit("ada"), now);
    assert_eq!(buffer.keys.len(), CONTEXTS + FORGED + 2);
    assert_eq!(buffer.take_dropped(), 4000 - (CONTEXTS + FORGED) as u64);
    assert_eq!(buffer.take_dropped(), 0);
}

#[test]
fn a_full_buffer_drops_and_what_was_entered_makes_room() {
    let (mut buffer, now) = (ObservationBuffer::default(), start());
    for n in 0..CAPACITY as u128 + 10 {
        note(&mut buffer, context(n, 1), now);
    }
    assert_eq!((buffer.keys.len(), buffer.take_dropped()), (CAPACITY, 10));
    buffer.collect(now, false);
    assert_eq!((buffer.ready.len(), buffer.keys.len()), (CAPACITY, CAPACITY));
    note(&mut buffer, limit("ada"), now);
    assert_eq!((buffer.keys.len(), buffer.take_dropped()), (1, 0));
    // Without the database, the queue for it is bounded too.
    buffer.collect(now, false);
    assert_eq!((buffer.ready.len(), buffer.take_dropped()), (CAPACITY, 1));
}

#[test]
fn what_was_noted_by_a_clock_that_was_ahead_holds_nothing_up() {
    let (mut buffer, now) = (ObservationBuffer::default(), start());
    let ahead = now + Duration::days(365);
    for n in 0..FORGED as u16 {
        note(&mut buffer, forged(n), ahead);
    }
    assert_eq!(collect(&mut buffer, ahead, false).len(), FORGED);
    note(&mut buffer, forged(0), now);
    assert_eq!(collect(&mut buffer, now, false), [1]);
    note(&mut buffer, forged(FORGED as u16), now);
    assert_eq!(collect(&mut buffer, now, false), [1], "there is room again");
}
