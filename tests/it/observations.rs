//! The activities that the service records by itself: changed client contexts, refused tokens and refused creates.

use std::time::Duration;

use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::{TestServer, audit, start, start_with, wait};

const LONG: Duration = Duration::from_secs(3600);
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";
pub const CHANGED: i16 = 26;
pub const REFUSED: i16 = 24;
const LIMITED: i16 = 27;

pub fn from(ip: &str, agent: &str) -> Option<pb::ClientContext> {
    Some(pb::ClientContext {
        ip_address: ip.to_owned(),
        user_agent: agent.to_owned(),
        ..Default::default()
    })
}

/// Creates a session of this user from `192.0.2.1` with Firefox; returns id, access token, refresh token.
pub async fn session_of(server: &TestServer, user: &str) -> (String, String, String) {
    let client = from("192.0.2.1", FIREFOX);
    let request = pb::CreateSessionRequest { client, ..new_session(user) };
    parts(&server.try_create(request).await.expect("a session"))
}

pub async fn validate_from(
    server: &TestServer,
    token: &str,
    ip: &str,
    agent: &str,
) -> pb::ValidateSessionResponse {
    try_validate_from(server, token, ip, agent).await.expect("a judgement")
}

pub async fn try_validate_from(
    server: &TestServer,
    token: &str,
    ip: &str,
    agent: &str,
) -> Result<pb::ValidateSessionResponse, tonic::Status> {
    let request = pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        client: from(ip, agent),
        ..Default::default()
    };
    Ok(server.sessions().validate_session(request).await?.into_inner())
}

/// Of all activities of a kind: user, session, address, user agent, code and count, in order.
pub async fn noticed(server: &TestServer, kind: i16) -> Vec<[String; 6]> {
    let sql = "SELECT user_id, coalesce(session_id::text, ''), coalesce(host(ip_address), ''),
            coalesce(user_agent, ''), coalesce(error_code, ''), coalesce(metadata->>'count', '')
        FROM session_activities WHERE kind = $1 AND principal = 'system'
        ORDER BY occurred_at, activity_id";
    let rows = server.db.connect().await.query(sql, &[&kind]).await.expect("rows");
    rows.iter().map(|row| std::array::from_fn(|at| row.get(at))).collect()
}

/// The sum of the counts of all activities of a kind.
pub async fn times(server: &TestServer, kind: i16) -> i64 {
    let sql = format!(
        "SELECT coalesce(sum((metadata->>'count')::bigint), 0)::bigint
        FROM session_activities WHERE kind = {kind}"
    );
    server.db.count(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_network_or_user_agent_is_entered_once_whichever_replicas_see_it() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, access, _) = session_of(&server, "ada").await;
    let before = server.get(&id).await.expect("a session");
    let contexts = [
        ("192.0.2.1", FIREFOX, false),
        ("192.0.2.250", FIREFOX, false),
        ("", "", false),
        ("198.51.100.7", FIREFOX, true),
        ("198.51.100.8", FIREFOX, false),
        ("198.51.100.7", "", false),
        ("", "curl/8.5", true),
        ("192.0.2.9", "curl/8.5", false),
        ("2001:db8:1:2::3", "curl/8.5", true),
        ("2001:db8:1:ffff::3", "curl/8.5", false),
    ];
    for _ in 0..3 {
        for (ip, agent, _) in contexts {
            for server in [&server, &replica] {
                let judged = validate_from(server, &access, ip, agent).await;
                assert_eq!(judged.outcome(), pb::Outcome::Active);
            }
        }
        // Long enough to leave the buffers.
        server.advance(chrono::Duration::minutes(1));
    }
    wait::until(async || server.activities(CHANGED).await == 3).await;
    assert_eq!(server.get(&id).await.expect("a session").ip_address, before.ip_address);
    server.stop().await;
    let rows = noticed(&replica, CHANGED).await;
    let of = |ip: &str, agent: &str| ["ada", id.as_str(), ip, agent, "", ""].map(str::to_owned);
    let agents = |rows: &[[String; 6]]| -> Vec<String> {
        let mut seen: Vec<String> = rows.iter().map(|row| row[3].clone()).collect();
        seen.sort();
        seen
    };
    assert_eq!(agents(&rows), [FIREFOX, "curl/8.5", "curl/8.5"]);
    assert!(rows.contains(&of("192.0.2.1", "curl/8.5")), "{rows:?}");
    assert!(rows.contains(&of("2001:db8:1:2::3", "curl/8.5")), "{rows:?}");
    audit::check(&replica.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_context_is_no_change_and_nothing_is_written_before_the_flush() {
    let server = start_with(|settings| settings.intervals.flush = LONG).await;
    let (_, unknown, _) = parts(&server.create("bob").await);
    let (_, access, _) = session_of(&server, "ada").await;
    for token in [&unknown, &access] {
        validate_from(&server, token, "198.51.100.7", "curl/8.5").await;
    }
    let all = "SELECT count(*) FROM session_activities WHERE user_id <> ''";
    assert_eq!(server.db.count(all).await, 2, "the creates");
    let (db, clock) = server.stop().await;
    let server = crate::harness::start_on(db, clock, |_| {}).await;
    let rows = noticed(&server, CHANGED).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0][0].as_str(), rows[0][2].as_str()), ("ada", "198.51.100.7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_that_a_limit_refuses_are_counted_by_the_minute() {
    for (on_limit, code) in
        [(OnLimit::Reject, "SESSION_LIMIT_REACHED"), (OnLimit::Ask, "SESSION_CONFLICT")]
    {
        let server = start_with(|settings| {
            settings.policy.limits.user.max = 1;
            settings.policy.limits.user.on_limit = on_limit;
        })
        .await;
        session_of(&server, "ada").await;
        session_of(&server, "bob").await;
        let refused = async |times: usize| {
            for _ in 0..times {
                let client = from("198.51.100.7", "curl/8.5");
                let request = pb::CreateSessionRequest { client, ..new_session("ada") };
                let status = server.try_create(request).await.expect_err("no room");
                assert_eq!(reason(&status), code);
            }
        };
        refused(1).await;
        wait::until(async || server.activities(LIMITED).await == 1).await;
        refused(7).await;
        server.advance(chrono::Duration::minutes(1));
        wait::until(async || times(&server, LIMITED).await == 8).await;
        let rows = noticed(&server, LIMITED).await;
        let row =
            |count: &str| ["ada", "", "198.51.100.7", "curl/8.5", code, count].map(str::to_owned);
        assert_eq!(rows, [row("1"), row("7")]);
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_past_its_time_is_entered_with_its_user_and_where_it_came_from() {
    let server = start().await;
    let (id, access, refresh) = session_of(&server, "ada").await;
    server.advance(chrono::Duration::minutes(6));
    for ip in ["198.51.100.7", "203.0.113.9", "198.51.100.7"] {
        let judged = validate_from(&server, &access, ip, "curl/8.5").await;
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::TokenExpired);
    }
    server.advance(chrono::Duration::minutes(1));
    wait::until(async || times(&server, REFUSED).await == 3).await;
    let rows = noticed(&server, REFUSED).await;
    assert_eq!(rows[0][..5], ["ada", &id, "198.51.100.7", "curl/8.5", "TOKEN_EXPIRED"]);
    assert!(rows.len() <= 2, "{rows:?}");
    // A refusal for another reason is not recorded.
    server.refresh(&refresh).await.expect("a successor");
    server.terminate(&id).await.expect("ok");
    validate_from(&server, &access, "198.51.100.7", "curl/8.5").await;
    server.advance(chrono::Duration::minutes(1));
    let (db, clock) = server.stop().await;
    let server = crate::harness::start_on(db, clock, |_| {}).await;
    assert_eq!(times(&server, REFUSED).await, 3);
    assert_eq!(noticed(&server, CHANGED).await.len(), 0, "a refused token changes no context");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_about_nobody_and_counted_by_network() {
    let server = start_with(|settings| settings.intervals.flush = LONG).await;
    let (_, access, _) = session_of(&server, "ada").await;
    let (message, _) = access.rsplit_once('.').expect("a signature");
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.";
    for (token, ip) in [
        (format!("{message}.AAAA").as_str(), "198.51.100.7"),
        (unsigned, "198.51.100.200"),
        (unsigned, "203.0.113.9"),
        // Malformed, or without an address.
        ("nonsense", "198.51.100.7"),
        ("", "198.51.100.7"),
        (unsigned, ""),
    ] {
        let judged = validate_from(&server, token, ip, "curl/8.5").await;
        assert_eq!(judged.outcome(), pb::Outcome::Inactive);
    }
    let (db, clock) = server.stop().await;
    let server = crate::harness::start_on(db, clock, |_| {}).await;
    let rows = noticed(&server, REFUSED).await;
    let row = |ip: &str, code: &str, count: &str| {
        ["", "", ip, "curl/8.5", code, count].map(str::to_owned)
    };
    let expected =
        [row("198.51.100.7", "SIGNATURE_INVALID", "2"), row("203.0.113.9", "MALFORMED", "1")];
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(expected.iter().all(|row| rows.contains(row)), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_tokens_leaves_a_bounded_number_of_rows_and_the_others_their_room() {
    let server = start_with(|settings| settings.intervals.flush = LONG).await;
    let (_, access, _) = session_of(&server, "ada").await;
    let validations = (0..2000).map(|n| {
        let (server, ip) = (&server, format!("2001:db8:{n:x}::1"));
        async move { validate_from(server, "e30.e30.AAAA", &ip, "curl/8.5").await }
    });
    futures_util::future::join_all(validations).await;
    validate_from(&server, &access, "198.51.100.7", "curl/8.5").await;
    let (db, clock) = server.stop().await;
    let server = crate::harness::start_on(db, clock, |_| {}).await;
    assert_eq!(server.activities(REFUSED).await, 256);
    assert_eq!(server.activities(CHANGED).await, 1);
}
