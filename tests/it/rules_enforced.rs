//! Every detection rule in enforce mode, triggered by calls alone: its alert, and its effect.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::{ActionTaken, Category, SecurityAlert, Severity, Suppression};
use sessiond::model::detection::DetectionSettings;

use crate::detect::{alerts, settled, watching};
use crate::harness::calls::{new_session, parts};
use crate::harness::devices::{device_of, on, set_device, update};
use crate::harness::policies::level;
use crate::harness::{TestServer, audit, start_with, wait};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";
const CURL: &str = "curl/8.5.0";
const BERLIN: (&str, f64, f64) = ("DE", 52.52, 13.405);
const TOKYO: (&str, f64, f64) = ("JP", 35.68, 139.69);

/// Makes every rule end the session that it concerns.
fn enforced() -> pb::DetectionPolicy {
    let (mode, action) = (pb::RuleMode::Enforce.into(), pb::RuleAction::Terminate.into());
    let plain = Some(pb::PlainRule { mode, action });
    let burst = Some(pb::BurstRule { mode, action, ..Default::default() });
    pb::DetectionPolicy {
        new_device: plain,
        new_country: Some(pb::NewCountryRule { mode, action, ..Default::default() }),
        impossible_travel: Some(pb::ImpossibleTravelRule { mode, action, ..Default::default() }),
        session_hijack: plain,
        failed_logins: burst,
        failed_logins_network: burst,
        rapid_creation: burst,
        simultaneous_countries: Some(pb::SimultaneousCountriesRule {
            mode,
            action,
            ..Default::default()
        }),
        dormant_account: Some(pb::DormantAccountRule { mode, action, ..Default::default() }),
        refused_tokens: burst,
        limit_conflicts: burst,
        ..Default::default()
    }
}

async fn enforcing(server: TestServer) -> TestServer {
    server.update(pb::Policy { detection: Some(enforced()), ..level("") }).await;
    server
}

fn client(
    user_agent: &str,
    ip: &str,
    place: Option<(&str, f64, f64)>,
) -> Option<pb::ClientContext> {
    let location = place.map(|(country, latitude, longitude)| pb::Location {
        country_code: country.to_owned(),
        latitude: Some(latitude),
        longitude: Some(longitude),
        ..Default::default()
    });
    Some(pb::ClientContext {
        user_agent: user_agent.to_owned(),
        ip_address: ip.to_owned(),
        location,
        ..Default::default()
    })
}

/// A client in this country, without coordinates.
fn within(country: &str) -> Option<pb::ClientContext> {
    let location = pb::Location { country_code: country.to_owned(), ..Default::default() };
    let client = client(FIREFOX, "", None).expect("a client");
    Some(pb::ClientContext { location: Some(location), ..client })
}

/// Creates a session of ada; returns its id and refresh token.
async fn create(server: &TestServer, client: Option<pb::ClientContext>) -> (String, String) {
    let request = pb::CreateSessionRequest { client, ..new_session("ada") };
    let (id, _, refresh) = parts(&server.try_create(request).await.expect("a session"));
    (id, refresh)
}

async fn record(server: &TestServer, activities: Vec<pb::ReportedActivity>) {
    let count = activities.len();
    let request = pb::RecordActivitiesRequest { activities, ..Default::default() };
    let done = server.sessions().record_activities(request).await.expect("ok").into_inner();
    assert_eq!(done.accepted_count as usize, count);
}

fn reported(kind: pb::ActivityKind, user: &str, ip: &str) -> pb::ReportedActivity {
    pb::ReportedActivity {
        kind: kind.into(),
        user_id: user.to_owned(),
        client: client(CURL, ip, None),
        ..Default::default()
    }
}

/// Waits for the alert of this rule, about any user; there must be only one.
async fn found(server: &TestServer, rule: &str) -> SecurityAlert {
    let filter = pb::AlertFilter { rule_id: rule.to_owned(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    let mut found = Vec::new();
    wait::until(async || {
        found = server.list_alerts(request.clone()).await.expect("a list").alerts;
        !found.is_empty()
    })
    .await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Asserts the alert of a rule, and its effect on `session`, which it concerns.
async fn assert_enforced(
    server: &TestServer,
    (rule, category, severity): (&str, Category, Severity),
    session: Option<&str>,
) {
    let alert = found(server, rule).await;
    assert_eq!((alert.category(), alert.severity()), (category, severity), "{rule}");
    assert_eq!(alert.session_id, session.unwrap_or_default(), "{rule}");
    let Some(session) = session else {
        assert_eq!(alert.action_taken(), ActionTaken::None, "{rule}");
        return;
    };
    assert_eq!(alert.action_taken(), ActionTaken::SessionTerminated, "{rule}");
    let ended = server.get(session).await.expect("a session");
    assert_eq!(ended.end_reason(), pb::EndReason::SuspiciousActivity, "{rule}");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_and_a_new_country_end_their_sessions() {
    let server = enforcing(watching().await).await;
    create(&server, within("DE")).await;
    settled(&server).await;
    server.advance(Duration::days(7));
    let (elsewhere, _) = create(&server, within("FR")).await;
    let rule = ("new_country", Category::AnomalousLocation, Severity::Medium);
    assert_enforced(&server, rule, Some(&elsewhere)).await;
    let (device, _) = create(&server, client(CURL, "", None)).await;
    let rule = ("new_device", Category::NewDevice, Severity::Low);
    assert_enforced(&server, rule, Some(&device)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_travel_and_other_hands_end_their_sessions() {
    let server = enforcing(watching().await).await;
    create(&server, client(FIREFOX, "", Some(BERLIN))).await;
    settled(&server).await;
    server.advance(Duration::hours(1));
    let (far, _) = create(&server, client(FIREFOX, "", Some(TOKYO))).await;
    let rule = ("impossible_travel", Category::AnomalousLocation, Severity::High);
    assert_enforced(&server, rule, Some(&far)).await;

    let (stolen, refresh_token) = create(&server, client(FIREFOX, "192.0.2.1", None)).await;
    settled(&server).await;
    let client = client(CURL, "198.51.100.7", None);
    let request = pb::RefreshSessionRequest { refresh_token, client };
    server.sessions().refresh_session(request).await.expect("a refresh");
    let rule = ("session_hijack", Category::SessionHijack, Severity::High);
    assert_enforced(&server, rule, Some(&stolen)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenth_session_the_third_country_and_an_account_that_wakes_end_theirs() {
    let server = enforcing(watching().await).await;
    for country in ["DE", "FR"] {
        create(&server, within(country)).await;
    }
    let (third, _) = create(&server, within("IT")).await;
    let rule = ("simultaneous_countries", Category::Concurrency, Severity::High);
    assert_enforced(&server, rule, Some(&third)).await;

    for _ in 3..9 {
        create(&server, within("DE")).await;
    }
    let (tenth, _) = create(&server, within("DE")).await;
    let rule = ("rapid_creation", Category::Concurrency, Severity::Low);
    assert_enforced(&server, rule, Some(&tenth)).await;

    server.advance(Duration::days(90));
    let (woken, _) = create(&server, within("DE")).await;
    let rule = ("dormant_account", Category::AccountTakeover, Severity::Medium);
    assert_enforced(&server, rule, Some(&woken)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_without_a_session_ends_none() {
    let one = |settings: &mut sessiond::server::Settings| {
        settings.detection = DetectionSettings::default();
        settings.policy.limits.user.max = 1;
    };
    let server = enforcing(start_with(one).await).await;
    let (id, _) = create(&server, client(FIREFOX, "192.0.2.1", None)).await;
    let failed = pb::ActivityKind::LoginFailed;
    record(&server, vec![reported(failed, "ada", "192.0.2.99"); 10]).await;
    let rule = ("failed_logins", Category::BruteForce, Severity::Medium);
    assert_enforced(&server, rule, None).await;

    let users = (0..15).map(|n| reported(failed, &format!("user-{n}"), "2001:db8:7::1"));
    record(&server, users.collect()).await;
    let rule = ("failed_logins_network", Category::CredentialStuffing, Severity::High);
    assert_enforced(&server, rule, None).await;

    let refused = reported(pb::ActivityKind::TokenRefused, "ada", "192.0.2.99");
    record(&server, vec![refused; 20]).await;
    let rule = ("refused_tokens", Category::TokenTheft, Severity::Medium);
    assert_enforced(&server, rule, None).await;

    for _ in 0..10 {
        server.try_create(new_session("ada")).await.expect_err("one at a time");
    }
    // Counted observations are written a minute later.
    server.advance(Duration::minutes(1));
    let rule = ("limit_conflicts", Category::PolicyViolation, Severity::Low);
    assert_enforced(&server, rule, None).await;
    let untouched = server.get(&id).await.expect("a session");
    assert_eq!(untouched.state(), pb::SessionState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_its_user_trusts_is_spared_until_it_is_not() {
    let server = enforcing(watching().await).await;
    let create = async |country: &str| {
        let mut request = on("ada", "print", "");
        let location = pb::Location { country_code: country.to_owned(), ..Default::default() };
        request.client.as_mut().expect("a client").location = Some(location);
        let created = server.try_create(request).await.expect("a session");
        (parts(&created).0, device_of(&created.session))
    };
    let trust = async |device: &str, trusted: bool| {
        let request =
            set_device(pb::UserDevice { trusted: Some(trusted), ..update("ada", device) });
        server.update_device(request).await.expect("a device");
    };
    let (_, device) = create("DE").await;
    trust(&device, true).await;
    settled(&server).await;
    server.advance(Duration::days(7));
    let (spared, _) = create("FR").await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await, [], "nobody is told");
    let filter =
        pb::AlertFilter { suppressed: pb::SuppressedFilter::Only.into(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    let [kept] = &server.list_alerts(request).await.expect("a list").alerts[..] else {
        panic!("not one finding")
    };
    assert_eq!(kept.rule_id, "new_country");
    assert_eq!((kept.suppression(), &kept.session_id), (Suppression::TrustedDevice, &spared));
    assert_eq!(kept.action_taken(), ActionTaken::None);
    let session = server.get(&spared).await.expect("a session");
    assert_eq!(session.state(), pb::SessionState::Active);

    trust(&device, false).await;
    let (ended, _) = create("IT").await;
    settled(&server).await;
    let rules = ["new_country", "simultaneous_countries"];
    let raised = alerts(&server, "ada").await;
    assert!(!raised.is_empty() && raised.iter().all(|it| rules.contains(&it.rule_id.as_str())));
    let session = server.get(&ended).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::SuspiciousActivity);
    audit::check(&server.db).await;
}
