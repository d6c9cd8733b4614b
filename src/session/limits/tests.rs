//! The guarantees of a limit, for any sessions.

use std::collections::BTreeMap;

use chrono::Duration;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::*;
use crate::model::device::{Device, DeviceType};
use crate::model::ids::{ClientId, SessionKey};
use crate::model::session::tests::{session, start};

const ALL: [OnLimit; 5] = [
    OnLimit::Reject,
    OnLimit::TerminateOldest,
    OnLimit::TerminateLeastRecentlyUsed,
    OnLimit::TerminateSameDevice,
    OnLimit::Ask,
];
const SCOPES: [LimitScope; 3] = [LimitScope::User, LimitScope::Client, LimitScope::DeviceType];

/// The properties of a session here: client, device type, device, age in minutes, last use.
type Traits = (bool, bool, u8, u16, u16);

fn traits() -> impl Strategy<Value = Traits> {
    (any::<bool>(), any::<bool>(), 0u8..3, any::<u16>(), any::<u16>())
}

fn one(id: u128, (client, kind, device, created, used): Traits) -> Session {
    let at = |minutes: u16| start() + Duration::minutes(i64::from(minutes));
    let plain = session();
    Session {
        key: SessionKey { session: Uuid::from_u128(id), ..plain.key },
        client: ClientId::parse(if client { "web" } else { "tv" }).unwrap(),
        device: Device {
            id: Uuid::from_u128(device.into()),
            kind: if kind { DeviceType::Web } else { DeviceType::Tv },
            details: Default::default(),
        },
        created_at: at(created),
        last_active_at: at(used),
        idle_timeout: Some(Duration::hours(1)),
        absolute_expires_at: start() + Duration::days(100),
        ..plain
    }
}

fn sessions(traits: &[Traits]) -> Vec<Session> {
    traits.iter().enumerate().map(|(i, traits)| one(1 + i as u128, *traits)).collect()
}

fn limit() -> impl Strategy<Value = Limit> {
    (0u32..6, select(&ALL)).prop_map(|(max, on_limit)| Limit { max, on_limit })
}

fn only(scope: LimitScope, limit: Limit) -> SessionLimits {
    let mut limits = SessionLimits::default();
    match scope {
        LimitScope::User => limits.user = limit,
        LimitScope::Client => limits.client = limit,
        LimitScope::DeviceType => {
            limits.device_types = [(DeviceType::Web, limit), (DeviceType::Tv, limit)].into();
        }
    }
    limits
}

proptest! {
    #[test]
    fn every_limit_holds_after_a_create(
        traits in vec(traits(), 0..20), new in traits(), now in any::<u16>(),
        user in limit(), client in limit(), web in limit(), chosen in vec(1u128..25, 0..5),
    ) {
        let now = start() + Duration::minutes(i64::from(now));
        let sessions: Vec<Session> =
            sessions(&traits).into_iter().map(|session| session.seen_at(now)).collect();
        let new = one(0, new);
        let limits = SessionLimits { user, client, device_types: BTreeMap::from([(DeviceType::Web, web)]) };
        let chosen: BTreeSet<Uuid> = chosen.into_iter().map(Uuid::from_u128).collect();
        let live = |i: &usize| counts(&sessions[*i]);
        let Ok(ending) = admit(&limits, &new, &sessions, &chosen) else { return Ok(()) };
        prop_assert!(ending.iter().all(live), "only what lives ends");
        prop_assert_eq!(ending.iter().collect::<BTreeSet<_>>().len(), ending.len(), "each once");
        for i in (0..sessions.len()).filter(live) {
            prop_assert!(ending.contains(&i) || !chosen.contains(&sessions[i].key.session));
        }
        for (scope, limit) in applicable(&limits, &new) {
            let after = (0..sessions.len())
                .filter(|i| live(i) && !ending.contains(i) && scope.counts(&sessions[*i], &new));
            prop_assert!(after.count() < limit.max as usize, "{scope:?} {limit:?}");
        }
    }

    #[test]
    fn a_single_limit_ends_exactly_the_right_ones(
        traits in vec(traits(), 0..20), new in traits(), now in any::<u16>(),
        scope in select(&SCOPES), max in 1u32..6, on_limit in select(&ALL),
    ) {
        let now = start() + Duration::minutes(i64::from(now));
        let sessions: Vec<Session> =
            sessions(&traits).into_iter().map(|session| session.seen_at(now)).collect();
        let new = one(0, new);
        let counted: Vec<usize> = (0..sessions.len())
            .filter(|i| counts(&sessions[*i]) && scope.counts(&sessions[*i], &new))
            .collect();
        let surplus = (counted.len() + 1).saturating_sub(max as usize);
        let candidates: Vec<usize> = counted
            .iter()
            .copied()
            .filter(|i| {
                on_limit != OnLimit::TerminateSameDevice || sessions[*i].device.id == new.device.id
            })
            .collect();
        let limits = only(scope, Limit { max, on_limit });
        let ending = match admit(&limits, &new, &sessions, &BTreeSet::new()) {
            Ok(ending) => ending,
            Err(Refused { breach, choice }) => {
                prop_assert_eq!(breach, LimitBreach { scope, max, active: counted.len() });
                prop_assert_eq!(breach.must_end(), surplus);
                match on_limit {
                    OnLimit::Reject => prop_assert!(surplus > 0),
                    OnLimit::Ask => {
                        let mut choice = choice.clone().expect("a choice");
                        let used = |i: &usize| sessions[*i].last_active_at;
                        prop_assert!(choice.windows(2).all(|w| used(&w[0]) <= used(&w[1])));
                        choice.sort_unstable();
                        prop_assert_eq!(choice, counted);
                    }
                    OnLimit::TerminateSameDevice => prop_assert!(candidates.len() < surplus),
                    other => prop_assert!(false, "{other:?} refuses nobody"),
                }
                prop_assert_eq!(choice.is_some(), on_limit == OnLimit::Ask);
                return Ok(());
            }
        };
        prop_assert_eq!(ending.len(), surplus);
        prop_assert!(ending.iter().all(|i| candidates.contains(i)));
        let by = |i: usize| match on_limit {
            OnLimit::TerminateOldest => sessions[i].created_at,
            _ => sessions[i].last_active_at,
        };
        for spared in candidates.iter().filter(|i| !ending.contains(i)) {
            prop_assert!(ending.iter().all(|i| by(*i) <= by(*spared)));
        }
    }
}

const NEW: Traits = (true, true, 0, 0, 0);

#[test]
fn zero_means_unlimited() {
    let many = sessions(&[NEW; 50]);
    let limits = only(LimitScope::User, Limit { max: 0, on_limit: OnLimit::Reject });
    assert_eq!(admit(&limits, &one(0, NEW), &many, &BTreeSet::new()), Ok(Vec::new()));
    assert_eq!(lowest(&limits, &one(0, NEW)), None);
}

#[test]
fn a_victim_of_one_limit_makes_room_under_the_next() {
    // The oldest session is of the new one's client, which is at its limit.
    let some = sessions(&[NEW, (false, true, 0, 1, 1)]);
    let limits = SessionLimits {
        user: Limit { max: 2, on_limit: OnLimit::TerminateOldest },
        client: Limit { max: 1, on_limit: OnLimit::Reject },
        ..SessionLimits::default()
    };
    assert_eq!(admit(&limits, &one(0, NEW), &some, &BTreeSet::new()), Ok(vec![0]));
    // Here it is not, so the client's limit refuses, and the oldest session stays.
    let some = sessions(&[(false, true, 0, 0, 0), (true, true, 0, 1, 1)]);
    let refused = admit(&limits, &one(0, NEW), &some, &BTreeSet::new());
    let breach = LimitBreach { scope: LimitScope::Client, max: 1, active: 1 };
    assert_eq!(refused, Err(Refused { breach, choice: None }));
    assert_eq!(lowest(&limits, &one(0, NEW)), Some(1));
}

#[test]
fn a_choice_makes_room_and_one_that_is_too_small_asks_for_all_again() {
    let some = sessions(&[NEW; 4]);
    let limits = only(LimitScope::Client, Limit { max: 2, on_limit: OnLimit::Ask });
    let admit = |chosen: &[u128]| {
        let chosen = chosen.iter().copied().map(Uuid::from_u128).collect();
        super::admit(&limits, &one(0, NEW), &some, &chosen)
    };
    let breach = LimitBreach { scope: LimitScope::Client, max: 2, active: 4 };
    assert_eq!(breach.must_end(), 3);
    let refused = Refused { breach, choice: Some(vec![0, 1, 2, 3]) };
    assert_eq!(admit(&[]), Err(refused));
    assert!(admit(&[2, 3, 99]).is_err());
    assert_eq!(admit(&[2, 3, 4]), Ok(vec![1, 2, 3]));
    assert_eq!(admit(&[1, 2, 3, 4]), Ok(vec![0, 1, 2, 3]), "all that were chosen");
}
