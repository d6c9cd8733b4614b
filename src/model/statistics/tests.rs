//! Counting, adding up and cutting into buckets.

use chrono::Duration;

use super::*;
use crate::model::activity::ActivityReport;
use crate::model::statistics::window::{Stored, Window};

fn at(hour: i64) -> Time {
    Time::from_timestamp(1_800_000_000 + hour * 3600, 0).unwrap()
}

fn activity(kind: ActivityKind) -> Activity {
    let tenant = TenantId::parse("").unwrap();
    Activity::new(uuid::Uuid::nil(), at(0), kind, "test", &tenant, None)
}

#[test]
fn names_beyond_the_hundredth_are_counted_together() {
    let mut counts = Counts::default();
    for client in 0..MAX_NAMES {
        add_name(&mut counts.clients, &client.to_string(), 1);
    }
    assert_eq!(counts.clients.get(""), None);
    let mut other = Counts::default();
    for client in ["0", "100", "101", "0"] {
        add_name(&mut other.clients, client, 1);
    }
    counts.add(&other);
    assert_eq!((counts.clients.len(), counts.clients[""], counts.clients["0"]), (101, 2, 3));
}

#[test]
fn the_level_follows_the_sessions_and_an_hour_without_any_has_that_before_the_next() {
    let mut standing = OpenCounts { live: 3, ..OpenCounts::default() };
    let mut counts = Counts::from(standing.live);
    for kind in [ActivityKind::Created, ActivityKind::Created, ActivityKind::Expired] {
        standing.note(&activity(kind));
        counts.note(&activity(kind), standing.live);
    }
    assert_eq!(counts.level, StandingLevel { first: 3, peak: 5, last: 4 });
    let window = Window::new(at(0), at(3), Duration::hours(1));
    let stored = Stored { standing, hours: vec![(at(1), counts)], as_of: at(2) };
    let figures = window.sum(stored);
    let peaks: Vec<i64> = figures.buckets.iter().map(|b| b.counts.level.peak).collect();
    assert_eq!((peaks, figures.total.level.peak), (vec![3, 5, 4], 5));
    assert_eq!((figures.total.created, figures.buckets[1].counts.created), (2, 2));
}

#[test]
fn a_window_is_widened_to_whole_hours_and_its_last_bucket_may_be_shorter() {
    let minute = Duration::minutes(1);
    let window = Window::new(at(0) + minute, at(2) + minute, Duration::hours(2));
    assert_eq!((window.start, window.end, window.buckets()), (at(0), at(3), 2));
    let exact = Window::new(at(0), at(2), Duration::hours(1));
    assert_eq!((exact.end, exact.buckets()), (at(2), 2));
    let stored = Stored { standing: OpenCounts::default(), hours: vec![], as_of: at(0) };
    let ends: Vec<Time> = window.sum(stored).buckets.iter().map(|b| b.end).collect();
    assert_eq!(ends, [at(2), at(3)]);
}

#[test]
fn what_others_report_is_counted_and_what_the_service_notices_is_not() {
    let report = Some(ActivityReport { success: true, ..ActivityReport::default() });
    let told = Activity { report, ..activity(ActivityKind::ApiRequest) };
    let observed = Activity {
        report: Some(ActivityReport::default()),
        principal: SYSTEM.to_owned(),
        ..activity(ActivityKind::TokenRefused)
    };
    assert!(is_counted(&told) && !is_counted(&observed));
    let mut counts = Counts::default();
    counts.note(&told, 0);
    counts.note(&observed, 0);
    assert_eq!((counts.succeeded, counts.failed), (1, 0));
}

#[test]
fn an_alert_moves_between_states() {
    let mut standing = OpenCounts::default();
    standing.move_alert(None, 1);
    standing.move_alert(Some(1), 2);
    assert_eq!((standing.open_alerts, standing.acknowledged_alerts), (0, 1));
    standing.move_alert(Some(2), 3);
    assert_eq!(standing, OpenCounts::default());
}

#[test]
fn counts_survive_being_stored() {
    let mut counts = Counts::from(2);
    let ended = Activity {
        end_reason: Some(crate::model::session::EndReason::Logout),
        ..activity(ActivityKind::Terminated)
    };
    counts.note(&ended, 1);
    counts.note(&activity(ActivityKind::Created), 2);
    let stored = serde_json::to_string(&counts).unwrap();
    assert_eq!(serde_json::from_str::<Counts>(&stored).unwrap(), counts);
    assert!(stored.len() < 160, "{stored}");
}
