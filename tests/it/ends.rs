//! An end is final where ends, limits and deadlines coincide: in one batch, past an idle deadline, at the edge of a
//! second, after a clock was set back.

use std::collections::HashSet;
use std::time::Duration;

use chrono::Duration as Length;
use futures_util::future::join_all;
use sessiond::clock::Clock;
use sessiond::gateway::{Gateway, GatewayOptions, Verdict};
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;

use crate::harness::calls::{new_session, parts, reason, refusal, successor};
use crate::harness::cluster::Db;
use crate::harness::conflicts::{SCOPES, conflict, limit, settling};
use crate::harness::devices::set_device;
use crate::harness::requests::{NOBODY, length};
use crate::harness::{TestServer, audit, start_on, start_with, wait};

/// A create on one device, client and type.
fn on_one_device(user: &str) -> pb::CreateSessionRequest {
    let identity = pb::device_context::Identity::Fingerprint("one".to_owned());
    let device = pb::DeviceContext {
        identity: Some(identity),
        r#type: pb::DeviceType::Mobile.into(),
        ..Default::default()
    };
    let client = pb::ClientContext { device: Some(device), ..Default::default() };
    pb::CreateSessionRequest { client: Some(client), ..new_session(user) }
}

/// Those of `tokens` that this server validates as active.
async fn active(server: &TestServer, tokens: &[String]) -> HashSet<String> {
    let calls = tokens.iter().map(|token| server.validate(token));
    let judged = join_all(calls).await;
    let good = tokens.iter().zip(judged);
    good.filter(|(_, answer)| answer.outcome() == pb::Outcome::Active)
        .map(|(token, _)| token.clone())
        .collect()
}

/// The access tokens of the sessions that the table has as active.
async fn live(db: &Db, created: &[pb::CreateSessionResponse]) -> Vec<String> {
    let sql = "SELECT session_id::text FROM user_sessions WHERE user_id = 'ada' AND state = 1";
    let rows = db.connect().await.query(sql, &[]).await.expect("rows");
    let live: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let of = created.iter().map(parts).filter(|(id, ..)| live.contains(id));
    of.map(|(_, access, _)| access).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_creates_and_ends_is_over_on_every_replica() {
    use OnLimit::{TerminateLeastRecentlyUsed, TerminateOldest, TerminateSameDevice};
    for scope in SCOPES {
        for on_limit in [TerminateOldest, TerminateLeastRecentlyUsed, TerminateSameDevice] {
            let change = |settings: &mut Settings| limit(settings, scope, 1, on_limit);
            let server = start_with(change).await;
            let other = server.replica_with(change).await;
            for _ in 0..3 {
                let calls = (0..32).map(|i| {
                    let bystander = server.create(if i % 2 == 0 { "bob" } else { "eve" });
                    async {
                        let (created, _) =
                            tokio::join!(server.try_create(on_one_device("ada")), bystander);
                        created.expect("room is made")
                    }
                });
                let created = join_all(calls).await;
                let tokens: Vec<String> = created.iter().map(|c| parts(c).1).collect();
                let live: HashSet<String> = live(&server.db, &created).await.into_iter().collect();
                assert_eq!(live.len(), 1, "{scope:?} {on_limit:?}");
                // The ends are committed: this server refuses the tokens at once, the other one soon.
                assert_eq!(active(&server, &tokens).await, live, "{scope:?} {on_limit:?}");
                wait::until(async || active(&other, &tokens).await == live).await;
                assert_eq!(active(&server, &tokens).await, live, "it stays so");
            }
            audit::check(&server.db).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_reads_expired_counts_for_no_limit() {
    use OnLimit::{Ask, Reject, TerminateOldest, TerminateSameDevice};
    for scope in SCOPES {
        for on_limit in [Reject, Ask, TerminateOldest, TerminateSameDevice] {
            let server = start_with(|settings| {
                settings.policy.idle_timeout = Some(Length::seconds(2));
                settings.intervals.sweep = Duration::from_secs(3600);
                limit(settings, scope, 1, on_limit);
            })
            .await;
            let (first, token, refresh) =
                parts(&server.try_create(on_one_device("ada")).await.expect("a session"));
            server.advance(Length::seconds(2));
            let expired = server.validate(&token).await.inactive_reason();
            assert_eq!(expired, pb::InactiveReason::SessionExpiredIdle);
            let second = server.try_create(on_one_device("ada")).await;
            let second =
                second.unwrap_or_else(|status| panic!("{scope:?} {on_limit:?}: {status:?}"));
            assert!(second.terminated_sessions.is_empty(), "it had expired: nobody ended it");
            // The end is final, so the limit holds whatever activity another replica has still to write.
            let ended = server.get(&first).await.expect("a session");
            assert_eq!(ended.end_reason(), pb::EndReason::IdleTimeout);
            assert_eq!(refusal(server.refresh(&refresh).await), "SESSION_EXPIRED");
            audit::check(&server.db).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_lists_no_expired_session_and_is_settled_among_the_others() {
    let server = start_with(|settings| limit(settings, LimitScope::User, 2, OnLimit::Ask)).await;
    let request =
        pb::CreateSessionRequest { idle_timeout: length(Length::seconds(2)), ..new_session("ada") };
    let (short, ..) = parts(&server.try_create(request).await.expect("a session"));
    server.advance(Length::seconds(2));
    let (one, ..) = parts(&server.create("ada").await);
    let (two, ..) = parts(&server.create("ada").await);
    let asked = conflict(server.try_create(new_session("ada")).await);
    let named: HashSet<String> = asked.sessions.into_iter().map(|s| s.session_id).collect();
    assert_eq!(named, HashSet::from([one.clone(), two]), "not {short}");
    let settled = settling(new_session("ada"), &asked.conflict_token, &[&one]);
    let created = server.try_create(settled).await.expect("room was made");
    assert_eq!(created.terminated_sessions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_second_is_good_for_a_second() {
    let server = start_with(|settings| {
        settings.policy.access_token_ttl = Length::seconds(1);
    })
    .await;
    for micros in [1, 333_333, 999_999] {
        server.advance(Length::microseconds(micros));
        let (_, token, refresh) = parts(&server.create("ada").await);
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
        let next = successor(server.refresh(&refresh).await);
        server.advance(Length::seconds(1) - Length::microseconds(1));
        for token in [&token, &next.access_token] {
            assert_eq!(server.validate(token).await.outcome(), pb::Outcome::Active);
        }
        server.advance(Length::seconds(1));
        let expired = server.validate(&token).await.inactive_reason();
        assert_eq!(expired, pb::InactiveReason::TokenExpired);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn near_its_absolute_deadline_a_session_gives_a_pair_that_works_or_is_expired() {
    let server = start_with(|_| {}).await;
    let (mut given, mut refused) = (0, 0);
    for millis in (0..1000).step_by(37) {
        server.advance(Length::milliseconds(37));
        let request = pb::CreateSessionRequest {
            absolute_timeout: length(Length::seconds(5)),
            ..new_session("ada")
        };
        let (_, _, refresh) = parts(&server.try_create(request).await.expect("a session"));
        server.advance(Length::seconds(4) + Length::milliseconds(millis));
        match server.refresh(&refresh).await {
            Ok(answer) => {
                let tokens = answer.tokens.expect("tokens");
                assert_eq!(
                    server.validate(&tokens.access_token).await.outcome(),
                    pb::Outcome::Active
                );
                given += 1;
            }
            Err(status) => {
                assert_eq!(reason(&status), "SESSION_EXPIRED");
                refused += 1;
            }
        }
    }
    assert!(given > 0 && refused > 0, "{given} pairs, {refused} refusals");
}

/// A gateway; its server must use the real clock.
async fn gateway(server: &TestServer) -> Gateway {
    Gateway::connect(server.channel(), GatewayOptions::new("sessiond")).await.expect("a gateway")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_outlives_the_idle_deadline_for_those_who_verify_it_themselves() {
    let server = start_on(Db::fresh().await, Clock::system(), |settings| {
        settings.policy.idle_timeout = Some(Length::seconds(2));
        settings.policy.access_token_ttl = Length::hours(1);
    })
    .await;
    let gateway = gateway(&server).await;
    let (id, token, _) = parts(&server.create("ada").await);
    assert!(matches!(gateway.validate(&token), Verdict::Active(_)));
    wait::until(async || !matches!(gateway.validate(&token), Verdict::Active(_) | Verdict::Stale))
        .await;
    // The explicit end of an idle session withdraws its tokens, swept or not: an older release issued longer ones.
    let withdrawn = format!(
        "SELECT count(*) FROM revocations WHERE subject = '{id}' AND below_generation = 2147483647"
    );
    assert_eq!(server.db.count(&withdrawn).await, 0);
    let expired = "SELECT count(*) FROM user_sessions WHERE state = 3 AND end_reason = 8";
    wait::until(async || server.db.count(expired).await == 1).await;
    server.terminate(&id).await.expect("ok");
    assert_eq!(server.db.count(&withdrawn).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_all_of_a_tenant_withdraws_its_tokens_as_one() {
    let server = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let gateway = gateway(&server).await;
    let (_, token, _) = parts(&server.create("ada").await);
    assert!(matches!(gateway.validate(&token), Verdict::Active(_)));
    let all = pb::TerminateSessionsRequest {
        whole_tenant: true,
        reason: pb::EndReason::Admin.into(),
        ..Default::default()
    };
    server.terminate_many(all).await.expect("ok");
    let level = "SELECT count(*) FROM revocations WHERE level = 4 AND tenant_id = 'default'";
    assert_eq!(server.db.count(level).await, 1);
    wait::until(async || gateway.validate(&token) == Verdict::Ask).await;
    let judged = server.validate(&token).await.inactive_reason();
    assert_eq!(judged, pb::InactiveReason::SessionTerminated);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_from_before_a_clock_was_set_back_are_judged_by_their_session() {
    let ahead = start_with(|_| {}).await;
    ahead.advance(Length::hours(1));
    let (_, good, refresh) = parts(&ahead.create("ada").await);
    let (_, erased, _) = parts(&ahead.create("bob").await);
    ahead.advance(Length::hours(-1));
    assert_eq!(ahead.validate_now(&good).await.outcome(), pb::Outcome::Active, "never inactive");
    successor(ahead.refresh(&refresh).await);
    ahead.erase("bob").await.expect("ok");
    let judged = ahead.validate(&erased).await.inactive_reason();
    assert_eq!(judged, pb::InactiveReason::SessionUnknown);
    // The revocation of the user covers tokens up to their issue time, an hour ahead.
    let reaches = format!(
        "SELECT count(*) FROM revocations WHERE level = 3 AND revoked_at >= '{}'::timestamptz",
        (ahead.clock.now() + Length::minutes(59)).to_rfc3339()
    );
    assert_eq!(ahead.db.count(&reaches).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mutation_costs_no_connection() {
    let server = start_with(|settings| settings.database_connections = 2).await;
    let refused = async || {
        let request = set_device(pb::UserDevice {
            user_id: "ada".to_owned(),
            device_id: NOBODY.to_owned(),
            display_name: "none".to_owned(),
            ..Default::default()
        });
        server.sessions().update_device(request).await.expect_err("there is no such device");
    };
    // Fills the connection pool.
    join_all((0..4).map(|_| refused())).await;
    // The connections of the pool, which serve calls.
    let sql = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'sessiond'";
    let backends = async || {
        let row = server.db.connect().await.query_one(sql, &[]).await.expect("a row");
        row.get::<_, Vec<i32>>(0)
    };
    let before = backends().await;
    for _ in 0..20 {
        refused().await;
    }
    let after = backends().await;
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}");
}
