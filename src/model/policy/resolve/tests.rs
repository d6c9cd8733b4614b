//! Resolution of levels.

use chrono::Duration;
use proptest::option::of;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_assume, proptest};

use super::*;
use crate::model::policy::tests::policy;

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration::seconds(seconds))
}

fn idle(idle: i64) -> Overrides {
    Overrides { idle_timeout: seconds(idle), ..Overrides::default() }
}

fn absolute(absolute: i64) -> Overrides {
    Overrides { absolute_timeout: seconds(absolute), ..Overrides::default() }
}

fn preset(preset: Preset) -> Overrides {
    Overrides { preset: Some(preset), ..Overrides::default() }
}

fn overrides() -> impl Strategy<Value = Overrides> {
    let preset = of((1i32..=3).prop_map(|n| Preset::from_number(n).unwrap()));
    let length = || of((0i64..100_000).prop_map(Duration::seconds));
    let positive = of((1i64..100_000).prop_map(Duration::seconds));
    (preset, length(), positive, length(), length()).prop_map(
        |(preset, idle_timeout, absolute_timeout, refresh_grace, lost_response_window)| Overrides {
            preset,
            idle_timeout,
            absolute_timeout,
            refresh_grace,
            lost_response_window,
            ..Overrides::default()
        },
    )
}

proptest! {
    #[test]
    fn whatever_comes_out_can_be_lived_by(tenant in overrides(), client in overrides()) {
        let Effective { policy: got, origins, preset } = resolve(&policy(), &tenant, &client);
        prop_assert!(got.idle_timeout.is_none_or(|idle| idle <= got.absolute_timeout));
        prop_assert!(got.idle_timeout.is_none_or(|idle| got.access_token_ttl <= idle));
        prop_assert!(got.refresh_grace <= got.lost_response_window);
        prop_assert_eq!(origins.len(), Field::ALL.len());
        prop_assert_eq!(preset, client.preset.or(tenant.preset));
        if let Some(stated) = client.absolute_timeout {
            prop_assert_eq!(got.absolute_timeout, stated);
        }
        // What passed the check is taken as stated.
        if let (Some(stated), Ok(())) = (client.idle_timeout, check(&policy(), &tenant, Some(&client))) {
            prop_assert_eq!(got.idle_timeout.unwrap_or_default(), stated);
        }
    }

    #[test]
    fn a_client_that_states_its_timeouts_does_not_feel_its_tenant(
        one in overrides(),
        other in overrides(),
        client in overrides(),
    ) {
        prop_assume!(client.decides_timeouts());
        let timeouts = |tenant| {
            let policy = resolve(&policy(), tenant, &client).policy;
            (policy.idle_timeout, policy.absolute_timeout)
        };
        prop_assert_eq!(timeouts(&one), timeouts(&other));
    }
}

#[test]
fn the_nearest_level_wins_field_by_field_and_is_named() {
    let none = Overrides::default();
    let origin = |effective: &Effective, field| effective.origins[&field];
    let plain = resolve(&policy(), &none, &none);
    assert_eq!(plain.policy, policy());
    assert!(plain.origins.values().all(|origin| *origin == Origin::BuiltIn));

    let tenant = resolve(&policy(), &idle(600), &none);
    assert_eq!(tenant.policy.idle_timeout, seconds(600));
    assert_eq!(origin(&tenant, Field::IdleTimeout), Origin::Tenant);
    assert_eq!(origin(&tenant, Field::AbsoluteTimeout), Origin::BuiltIn);

    let client = resolve(&policy(), &idle(600), &idle(0));
    assert_eq!(client.policy.idle_timeout, None, "0 is never");
    assert_eq!(origin(&client, Field::IdleTimeout), Origin::Client);
}

#[test]
fn a_preset_gives_what_its_level_does_not_state() {
    let tenant = Overrides { absolute_timeout: seconds(3600), ..preset(Preset::Aal3) };
    let got = resolve(&policy(), &tenant, &Overrides::default());
    assert_eq!(got.policy.absolute_timeout, Duration::hours(1));
    assert_eq!(got.policy.idle_timeout, Some(Duration::minutes(15)));
    assert_eq!(got.origins[&Field::AbsoluteTimeout], Origin::Tenant);
    assert_eq!(got.origins[&Field::IdleTimeout], Origin::TenantPreset);

    let got = resolve(&policy(), &tenant, &preset(Preset::Aal1));
    assert_eq!((got.preset, got.policy.idle_timeout), (Some(Preset::Aal1), None));
    assert_eq!(got.policy.absolute_timeout, Duration::days(30));
    assert_eq!(got.origins[&Field::AbsoluteTimeout], Origin::ClientPreset);
}

#[test]
fn what_is_inherited_is_cut_and_what_is_stated_is_refused() {
    let none = Overrides::default();
    let got = resolve(&policy(), &absolute(60), &none);
    assert_eq!(got.policy.idle_timeout, seconds(60));
    assert_eq!(got.origins[&Field::IdleTimeout], Origin::Tenant);
    assert_eq!(check(&policy(), &absolute(60), None), Ok(()));

    let fields = |tenant: &Overrides, client: Option<&Overrides>| {
        let broken = check(&policy(), tenant, client).expect_err("a refusal");
        broken.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let both = Overrides { idle_timeout: seconds(61), ..absolute(60) };
    assert_eq!(fields(&both, None), ["policy.idle_timeout"]);
    assert_eq!(fields(&absolute(60), Some(&idle(61))), ["policy.idle_timeout"]);
    assert_eq!(check(&policy(), &both, Some(&none)), Ok(()), "it is not the client's fault");
    let ttl = |ttl| Overrides { access_token_ttl: seconds(ttl), ..Overrides::default() };
    let got = resolve(&policy(), &ttl(120), &idle(60));
    assert_eq!(got.policy.access_token_ttl, Duration::minutes(1));
    assert_eq!(got.origins[&Field::AccessTokenTtl], Origin::Client);
    assert_eq!(check(&policy(), &ttl(60), Some(&idle(60))), Ok(()));
    assert_eq!(check(&policy(), &ttl(120), Some(&idle(60))), Ok(()), "it is inherited");
    assert_eq!(fields(&idle(60), Some(&ttl(61))), ["policy.access_token_ttl"]);
    let never = Overrides { idle_timeout: seconds(0), ..ttl(86_400) };
    assert_eq!(check(&policy(), &never, None), Ok(()));
    let grace = Overrides { lost_response_window: seconds(5), ..Overrides::default() };
    assert_eq!(resolve(&policy(), &grace, &none).policy.refresh_grace, Duration::seconds(5));
    let grace = Overrides { refresh_grace: seconds(6), ..grace };
    assert_eq!(fields(&grace, None), ["policy.refresh_grace"]);
}

#[test]
fn more_than_the_preset_must_have_is_refused_also_by_inheritance() {
    let twelve = 12 * 3600;
    let tenant = preset(Preset::Aal3);
    assert_eq!(check(&policy(), &tenant, Some(&absolute(twelve))), Ok(()));
    let broken = check(&policy(), &tenant, Some(&absolute(twelve + 1))).expect_err("a refusal");
    assert_eq!(broken[0].field, "policy.absolute_timeout");
    assert!(broken[0].rule.contains("43200s at AAL3"), "{}", broken[0].rule);
    let own = Overrides { preset: Some(Preset::Aal2), ..absolute(twelve + 1) };
    assert_eq!(check(&policy(), &tenant, Some(&own)), Ok(()), "its own preset counts");
    let idle = Overrides { idle_timeout: seconds(901), ..preset(Preset::Aal3) };
    assert_eq!(check(&policy(), &idle, None), Ok(()), "only a SHOULD");
    let said = resolve(&policy(), &idle, &Overrides::default()).exceeded();
    assert!(said[0].text.starts_with("should be at most 900s"), "{said:?}");
}
