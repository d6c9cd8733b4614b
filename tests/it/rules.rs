//! The detection rules with the real server. Reports of gateways are inserted into the database directly.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::evidence::Typed;
use sessiond::model::detection::DetectionSettings;

use crate::detect::{alerts, settled, watching};
use crate::harness::calls::{new_session, parts};
use crate::harness::{TestServer, audit, start_with, wait};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";
const NEWER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";
const CURL: &str = "curl/8.5.0";

/// A row of the audit trail, as a service reports it.
struct Line {
    kind: i16,
    user: &'static str,
    session: Option<String>,
    ip: &'static str,
    user_agent: &'static str,
}

const REFUSED: Line =
    Line { kind: 24, user: "", session: None, ip: "2001:db8:7::1", user_agent: CURL };

/// Writes a row so many times, a second apart, the last of them now.
async fn report(server: &TestServer, line: &Line, times: i32) {
    let sql = "INSERT INTO session_activities (tenant_id, user_id, occurred_at, activity_id, kind,
            principal, session_id, ip_address, user_agent, success)
        SELECT 'default', $1, $2::text::timestamptz - t * interval '1 second', gen_random_uuid(), $3,
            'gateway', $4::text::uuid, $5::text::inet, $6, false
        FROM generate_series(0, $7::int - 1) t";
    let now = server.clock.now().to_rfc3339();
    let Line { kind, user, session, ip, user_agent } = line;
    let client = server.db.connect().await;
    client.execute(sql, &[user, &now, kind, session, ip, user_agent, &times]).await.expect("rows");
}

fn client(user_agent: &str, ip: &str, country: &str) -> Option<pb::ClientContext> {
    let country_code = country.to_owned();
    let place = pb::Location { country_code, ..Default::default() };
    Some(pb::ClientContext {
        user_agent: user_agent.to_owned(),
        ip_address: ip.to_owned(),
        location: Some(place).filter(|_| !country.is_empty()),
        ..Default::default()
    })
}

async fn create(
    server: &TestServer,
    user_agent: &str,
    ip: &str,
    country: &str,
) -> pb::CreateSessionResponse {
    let client = client(user_agent, ip, country);
    let request = pb::CreateSessionRequest { client, ..new_session("ada") };
    server.try_create(request).await.expect("a session")
}

/// The rules whose alerts ada has, newest first.
async fn rules(server: &TestServer) -> Vec<String> {
    settled(server).await;
    alerts(server, "ada").await.into_iter().map(|alert| alert.rule_id).collect()
}

fn typed(alert: &pb::SecurityAlert) -> Typed {
    alert.evidence.clone().expect("evidence").typed.expect("evidence of the rule")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_device_raises_an_alert_after_the_first_week() {
    let server = watching().await;
    create(&server, FIREFOX, "192.0.2.1", "").await;
    create(&server, CURL, "192.0.2.1", "").await;
    assert!(rules(&server).await.is_empty(), "devices are learnt in the first days");
    server.advance(Duration::days(7));
    create(&server, NEWER, "192.0.2.1", "").await;
    assert!(rules(&server).await.is_empty(), "an update makes no device");
    let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
        (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
    let created = create(&server, chrome, "192.0.2.1", "").await.session.expect("a session");
    assert_eq!(rules(&server).await, ["new_device"]);
    let found = &alerts(&server, "ada").await[0];
    let device_id = created.device.expect("a device").device_id;
    assert_eq!(found.device_id, device_id);
    assert_eq!(found.category(), pb::Category::NewDevice);
    assert_eq!(typed(found), Typed::NewDevice(pb::NewDeviceEvidence { device_id, known_count: 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_other_hands_raises_one_alert_and_a_move_or_an_update_none() {
    let server = watching().await;
    let (id, _, token) = parts(&create(&server, FIREFOX, "192.0.2.1", "").await);
    let refresh = async |token: String, client| {
        let request = pb::RefreshSessionRequest { refresh_token: token, client };
        let answer = server.sessions().refresh_session(request).await.expect("a refresh");
        answer.into_inner().tokens.expect("tokens").refresh_token
    };
    let token = refresh(token, client(FIREFOX, "198.51.100.1", "")).await;
    let token = refresh(token, client(NEWER, "203.0.113.1", "")).await;
    assert!(rules(&server).await.is_empty(), "people move, and browsers are updated");
    refresh(token, client(CURL, "192.0.2.99", "")).await;
    assert_eq!(rules(&server).await, ["session_hijack"]);
    let found = &alerts(&server, "ada").await[0];
    assert_eq!((&found.session_id, found.severity()), (&id, pb::Severity::High));
    let Typed::SessionHijack(evidence) = typed(found) else { panic!("{found:?}") };
    let (before, after) = (evidence.before.expect("before"), evidence.after.expect("after"));
    assert_eq!((before.ip_address.as_str(), before.browser.as_str()), ("203.0.113.1", "Firefox"));
    assert_eq!((after.ip_address.as_str(), after.browser.as_str()), ("192.0.2.99", "curl"));
    // The user and the thief both continue, seen by a gateway and by validations.
    for (kind, ip, user_agent) in [(20, "203.0.113.1", NEWER), (26, "192.0.2.99", CURL)] {
        server.advance(Duration::seconds(1));
        let line = Line { kind, user: "ada", session: Some(id.clone()), ip, user_agent };
        report(&server, &line, 1).await;
    }
    assert_eq!(rules(&server).await, ["session_hijack"]);
    let again = &alerts(&server, "ada").await[0];
    assert_eq!((&again.alert_id, again.occurrence_count), (&found.alert_id, 3));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_country_at_the_same_time_raises_an_alert_unless_a_session_ended() {
    let server = watching().await;
    create(&server, FIREFOX, "", "DE").await;
    let (second, ..) = parts(&create(&server, FIREFOX, "", "FR").await);
    server.terminate(&second).await.expect("an end");
    create(&server, FIREFOX, "", "IT").await;
    assert!(rules(&server).await.is_empty());
    create(&server, FIREFOX, "", "ES").await;
    assert_eq!(rules(&server).await, ["simultaneous_countries"]);
    let Typed::SimultaneousCountries(found) = typed(&alerts(&server, "ada").await[0]) else {
        panic!("another evidence")
    };
    assert_eq!(
        (found.country_codes, found.threshold),
        (vec!["DE", "ES", "IT"].into_iter().map(str::to_owned).collect(), 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_wakes_after_ninety_days_raises_an_alert() {
    let server = watching().await;
    create(&server, FIREFOX, "192.0.2.1", "").await;
    let seen = server.clock.now();
    server.advance(Duration::days(89));
    report(&server, &Line { kind: 22, user: "ada", ..REFUSED }, 1).await;
    settled(&server).await;
    server.advance(Duration::days(1));
    create(&server, FIREFOX, "192.0.2.1", "").await;
    assert_eq!(rules(&server).await, ["dormant_account"]);
    let Typed::DormantAccount(found) = typed(&alerts(&server, "ada").await[0]) else {
        panic!("another evidence")
    };
    assert_eq!(found.last_seen_time.expect("a time").seconds, seen.timestamp());
    assert_eq!(found.threshold.expect("a length").seconds, 90 * 86_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_raise_alerts_by_user_and_those_of_no_user_by_network() {
    let server = watching().await;
    report(&server, &Line { user: "ada", ..REFUSED }, 19).await;
    report(&server, &REFUSED, 19).await;
    let all = pb::ListAlertsRequest::default();
    settled(&server).await;
    assert_eq!(server.list_alerts(all.clone()).await.expect("a list").alerts, []);
    report(&server, &Line { user: "ada", ..REFUSED }, 1).await;
    report(&server, &Line { ip: "2001:db8:7::2", ..REFUSED }, 1).await;
    settled(&server).await;
    let found = server.list_alerts(all).await.expect("a list").alerts;
    assert!(found.iter().all(|alert| alert.rule_id == "refused_tokens"), "{found:?}");
    let mut about: Vec<(&str, &str)> =
        found.iter().map(|alert| (alert.user_id.as_str(), alert.dedup_key.as_str())).collect();
    about.sort_unstable();
    assert_eq!(
        about,
        [("", "refused_tokens:2001:db8:7::/64"), ("ada", "refused_tokens")],
        "one of the network, one of the user"
    );
    let Typed::Burst(burst) = typed(&found[0]) else { panic!("another evidence") };
    assert_eq!((burst.count, burst.threshold), (20, 20));
    assert_eq!(burst.window.expect("a length").seconds, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn meeting_a_limit_again_and_again_raises_one_alert() {
    let server = watching().await;
    let line = Line { kind: 27, user: "ada", ..REFUSED };
    report(&server, &line, 9).await;
    assert!(rules(&server).await.is_empty());
    report(&server, &line, 5).await;
    assert_eq!(rules(&server).await, ["limit_conflicts"]);
    let found = &alerts(&server, "ada").await[0];
    assert_eq!((found.occurrence_count, found.rule_version), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_and_refused_creates_raise_alerts_from_observations() {
    let server = start_with(|settings| {
        settings.detection = DetectionSettings::default();
        settings.policy.limits.user.max = 1;
    })
    .await;
    let created = create(&server, FIREFOX, "192.0.2.1", "").await;
    let (_, access, _) = parts(&created);
    let (message, _) = access.rsplit_once('.').expect("a signature");
    for n in 0..20 {
        let forged = pb::ValidateSessionRequest {
            access_token: format!("{message}.{n}AAA"),
            client: client(CURL, "198.51.100.7", ""),
            ..Default::default()
        };
        server.sessions().validate_session(forged).await.expect("a judgement");
        if n % 2 == 0 {
            server.try_create(new_session("ada")).await.expect_err("one at a time");
        }
    }
    // Counted observations are written a minute later.
    server.advance(Duration::minutes(1));
    let all = async || {
        let list = server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a list");
        let mut rules: Vec<String> = list.alerts.into_iter().map(|alert| alert.rule_id).collect();
        rules.sort();
        rules
    };
    wait::until(async || all().await == ["limit_conflicts", "refused_tokens"]).await;
}
