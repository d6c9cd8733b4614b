//! Runs the steps of a scenario on a real server, with the script's clock.

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::{DateTime, Duration, Utc};
use futures_util::future::join_all;
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;

use super::month::{LIFE, Step};
use super::score::Found;
use super::script::{Act, Script};
use super::world::settings;
use crate::detect::settled;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::{TestServer, audit, start_on, wait};

/// The most sessions of a user.
const LIMIT: u32 = 20;

/// Tokens by the number of their login.
type Tokens = Mutex<BTreeMap<usize, Tokened>>;

#[derive(Clone)]
struct Tokened {
    id: String,
    access: String,
    /// The first access token of the session, which expires soon.
    stale: String,
    refresh: String,
}

/// The incidents that the service reports.
pub async fn replay(script: &Script, steps: &[Step]) -> Vec<Found> {
    let first = steps.first().map_or(script.start, |step| step.at);
    let clock = Clock::manual(first - Duration::hours(1));
    let server = start_on(Db::fresh().await, clock, |set| {
        set.detection = settings(script);
        set.policy.idle_timeout = None;
        set.policy.absolute_timeout = LIFE;
        set.policy.limits.user.max = LIMIT;
        set.policy.limits.user.on_limit = OnLimit::Reject;
        // Only the jobs at the end of a day delay the replay.
        set.intervals.sweep = std::time::Duration::from_secs(1);
        set.intervals.flush = std::time::Duration::from_millis(250);
        set.intervals.detect = std::time::Duration::from_millis(250);
        set.intervals.roll_up = std::time::Duration::from_secs(1);
    })
    .await;
    let tokens = Tokens::default();
    let mut reports = server.db.connect().await;
    let mut rest = steps;
    while let Some(step) = rest.first() {
        // Events within a minute happen at its start.
        let minute = step.at.timestamp().div_euclid(60);
        let count = rest.iter().take_while(|step| step.at.timestamp().div_euclid(60) == minute);
        let (now, later) = rest.split_at(count.count());
        go_to(&server, step.at).await;
        report(&mut reports, now).await;
        let mut of_users: BTreeMap<&Option<String>, Vec<&Step>> = BTreeMap::new();
        now.iter().for_each(|step| of_users.entry(&step.user).or_default().push(step));
        join_all(of_users.into_values().map(async |steps| {
            for step in steps {
                act(&server, &tokens, step).await;
            }
        }))
        .await;
        rest = later;
    }
    // Counted observations are written a minute later.
    server.advance(Duration::minutes(2));
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, |set| set.detection = settings(script)).await;
    settled(&server).await;
    audit::check(&server.db).await;
    alerts(&server).await
}

/// Moves the clock; to another day only when detection has read everything of the day before.
async fn go_to(server: &TestServer, at: DateTime<Utc>) {
    let ahead = at - server.clock.now();
    let day = |time: DateTime<Utc>| time.date_naive();
    if day(at) == day(server.clock.now()) {
        return server.advance(ahead.max(Duration::zero()));
    }
    settled(server).await;
    server.advance(ahead);
    let name = at.format("session_activities_%Y_%m");
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'");
    wait::until(async || server.db.count(&sql).await == 1).await;
}

/// Inserts the reports of login services.
async fn report(client: &mut tokio_postgres::Client, steps: &[Step]) {
    let failed: Vec<&Step> = steps.iter().filter(|step| step.act == Act::Fail).collect();
    if failed.is_empty() {
        return;
    }
    let text = |of: fn(&Step) -> String| failed.iter().map(|step| of(step)).collect::<Vec<_>>();
    let users = text(|step| step.user.clone().expect("somebody"));
    let times = text(|step| step.at.to_rfc3339());
    let (ips, agents) = (text(|step| step.ip.to_string()), text(|step| step.agent.clone()));
    let sql = "INSERT INTO session_activities (tenant_id, user_id, occurred_at, activity_id, kind,
            principal, ip_address, user_agent, success)
        SELECT 'default', u, t::timestamptz, gen_random_uuid(), 22, 'login', i::inet, a, false
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k (u, t, i, a)";
    client.execute(sql, &[&users, &times, &ips, &agents]).await.expect("rows");
}

async fn act(server: &TestServer, tokens: &Tokens, step: &Step) {
    let known = || {
        let number = step.session.expect("a session");
        let tokens = tokens.lock().expect("whole");
        (number, tokens.get(&number).expect("a login").clone())
    };
    let keep = |number, kept| tokens.lock().expect("whole").insert(number, kept);
    match step.act {
        // Inserted by `report`.
        Act::Fail => {}
        Act::Login => {
            let created = server.try_create(login(step)).await.expect("a session");
            let (id, access, refresh) = parts(&created);
            let number = step.session.expect("a number");
            keep(number, Tokened { id, stale: access.clone(), access, refresh });
        }
        Act::Refused => {
            server.try_create(login(step)).await.expect_err("no room");
        }
        Act::Refresh => {
            let (number, known) = known();
            let (refresh_token, client) = (known.refresh, Some(client(step)));
            let request = pb::RefreshSessionRequest { refresh_token, client };
            let next = server.sessions().refresh_session(request).await.expect("a successor");
            let next = next.into_inner().tokens.expect("tokens");
            let (access, refresh) = (next.access_token, next.refresh_token);
            keep(number, Tokened { access, refresh, ..known });
        }
        Act::Use => {
            let (number, known) = known();
            let outcome = validate(server, step, &known.access).await;
            if outcome != pb::Outcome::Active {
                // The gateway's client has to refresh first, from its known address.
                let next = server.refresh(&known.refresh).await.expect("a successor");
                let next = next.tokens.expect("tokens");
                let (access, refresh) = (next.access_token, next.refresh_token);
                assert_eq!(validate(server, step, &access).await, pb::Outcome::Active);
                keep(number, Tokened { access, refresh, ..known });
            }
        }
        Act::Stale => _ = validate(server, step, &known().1.stale).await,
        Act::Forged => {
            let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.";
            assert_eq!(validate(server, step, token).await, pb::Outcome::Inactive);
        }
        Act::Logout => _ = server.terminate(&known().1.id).await.expect("ok"),
    }
}

async fn validate(server: &TestServer, step: &Step, token: &str) -> pb::Outcome {
    let request = pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        client: Some(client(step)),
        ..Default::default()
    };
    let judged = server.sessions().validate_session(request).await.expect("a judgement");
    judged.into_inner().outcome()
}

fn login(step: &Step) -> pb::CreateSessionRequest {
    let user = step.user.as_deref().expect("somebody");
    pb::CreateSessionRequest { client: Some(client(step)), ..new_session(user) }
}

fn client(step: &Step) -> pb::ClientContext {
    pb::ClientContext {
        ip_address: step.ip.to_string(),
        user_agent: step.agent.clone(),
        location: step.place.as_ref().map(|place| pb::Location {
            country_code: place.country.clone(),
            latitude: Some(place.coordinates.0),
            longitude: Some(place.coordinates.1),
            asn: Some(step.asn).filter(|asn| *asn != 0),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// All alerts of a list.
async fn alerts(server: &TestServer) -> Vec<Found> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAlertsRequest { page_token, page_size: 1000, ..Default::default() };
        let page = server.list_alerts(request).await.expect("a list");
        found.extend(page.alerts.into_iter().map(|alert| {
            let at = alert.first_seen_time.expect("a time");
            Found {
                rule: alert.rule_id,
                user: Some(alert.user_id).filter(|user| !user.is_empty()),
                at: DateTime::from_timestamp(at.seconds, 0).expect("a time"),
            }
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}
