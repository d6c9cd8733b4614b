//! The limits of the ring, at their edges and one beyond.

use super::*;
use crate::clock::Time;
use crate::model::activity::ActivityKind;
use crate::model::alert::{Category, MAX_NOTES, Severity};
use crate::model::ids::TenantId;

/// A batch of one activity, about an alert with a note of so many bytes.
fn batch(note: usize) -> ActivityBatch {
    let (at, tenant) = (Time::UNIX_EPOCH, TenantId::default());
    let (rule, kind) = (("rule", 1), (Category::TokenTheft, Severity::High));
    let mut alert = Alert::opened(Uuid::from_u128(1), tenant.clone(), at, rule, kind);
    alert.notes.push(Note { text: "n".repeat(note), by: "ada".to_owned(), at });
    let kind = ActivityKind::AlertRaised;
    let mut activity = Activity::new(Uuid::from_u128(2), at, kind, "test", &tenant, None);
    activity.alert = Some(alert.id);
    let horizon = |text: &str| text.parse::<Horizon>().expect("a snapshot");
    let span = Span::new(horizon("1:1:"), horizon("2:2:")).expect("forward");
    ActivityBatch::new(span, vec![activity], vec![alert])
}

fn ring(activities: usize, bytes: usize) -> Ring {
    Ring::new(Backlog { activities, bytes })
}

fn is_gone(ring: &Ring, number: u64) -> bool {
    matches!(ring.find(number), NextBatch::Gone)
}

#[test]
fn the_oldest_batch_is_dropped_beyond_the_limit_of_activities() {
    let ring = ring(3, usize::MAX);
    (0..3).for_each(|_| ring.push(batch(0)));
    assert!(!is_gone(&ring, 0));
    ring.push(batch(0));
    assert!(is_gone(&ring, 0) && !is_gone(&ring, 1));
}

#[test]
fn the_oldest_batch_is_dropped_beyond_the_limit_of_bytes() {
    let note = MAX_NOTES * 1000;
    let one = batch(note).bytes;
    assert!(one > note, "{one}");
    for (bytes, fits) in [(3 * one, true), (3 * one - 1, false)] {
        let ring = ring(usize::MAX, bytes);
        (0..3).for_each(|_| ring.push(batch(note)));
        assert_eq!(is_gone(&ring, 0), !fits, "{bytes}");
        assert!(!is_gone(&ring, 1));
        assert_eq!(ring.lock().held.bytes, if fits { 3 * one } else { 2 * one });
    }
}

#[test]
fn the_last_two_batches_stay_however_large() {
    let ring = ring(1, 1);
    (0..4).for_each(|_| ring.push(batch(1000)));
    assert!(is_gone(&ring, 1) && !is_gone(&ring, 2) && !is_gone(&ring, 3));
}
