//! Paging: the size and order of pages, and their tokens.

use std::collections::BTreeSet;

use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, start};

fn page(size: i32, token: &str) -> pb::ListSessionsRequest {
    let page_token = token.to_owned();
    pb::ListSessionsRequest { page_size: size, page_token, ..Default::default() }
}

fn of_user(user: &str, size: i32, token: &str) -> pb::ListSessionsRequest {
    let filter = pb::SessionFilter { user_id: user.to_owned(), ..Default::default() };
    pb::ListSessionsRequest { filter: Some(filter), ..page(size, token) }
}

fn alert_page(size: i32, token: &str) -> pb::ListAlertsRequest {
    let page_token = token.to_owned();
    pb::ListAlertsRequest { page_size: size, page_token, ..Default::default() }
}

fn ids(sessions: &[pb::Session]) -> Vec<String> {
    sessions.iter().map(|session| session.session_id.clone()).collect()
}

const SIZES: [(i32, usize); 6] =
    [(0, 50), (1, 1), (999, 999), (1000, 1000), (1001, 1000), (i32::MAX, 1000)];

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_sessions_has_50_unless_asked_and_never_more_than_1000() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.copy_session(&id, &server.ids(1001)).await;
    for (asked, got) in SIZES {
        let answer = server.list_sessions(page(asked, "")).await.expect("a page");
        assert_eq!(answer.sessions.len(), got, "page_size {asked}");
        assert!(!answer.next_page_token.is_empty(), "page_size {asked}: more follow");
    }
    for asked in [-1, i32::MIN] {
        let refused = server.list_sessions(page(asked, "")).await.expect_err("a refusal");
        assert_eq!(violations(&refused), ["page_size"]);
        assert_eq!(reason(&refused), "INVALID_FIELD");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_alerts_has_50_unless_asked_and_never_more_than_1000() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    server.copy_alert(&alert.alert_id, &server.ids(1001)).await;
    for (asked, got) in SIZES {
        let answer = server.list_alerts(alert_page(asked, "")).await.expect("a page");
        assert_eq!(answer.alerts.len(), got, "page_size {asked}");
        assert!(!answer.next_page_token.is_empty(), "page_size {asked}: more follow");
    }
    for asked in [-1, i32::MIN] {
        let refused = server.list_alerts(alert_page(asked, "")).await.expect_err("a refusal");
        assert_eq!(violations(&refused), ["page_size"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_just_full_is_the_last() {
    let server = start().await;
    for _ in 0..3 {
        server.create("ada").await;
    }
    let full = server.list_sessions(page(3, "")).await.expect("a page");
    assert_eq!((full.sessions.len(), full.next_page_token.as_str()), (3, ""));
    let none = server.list_sessions(of_user("bob", 3, "")).await.expect("a page");
    assert_eq!((none.sessions.len(), none.next_page_token.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_alerts_are_listed_newest_first() {
    let server = start().await;
    let mut made = Vec::new();
    for i in 0..8 {
        // Some within one microsecond, some later.
        server.advance(chrono::Duration::microseconds(i % 3 * 700));
        made.push(server.steal_from(&format!("user {i}")).await);
    }
    made.reverse();
    let listed = server.list_sessions(page(0, "")).await.expect("a page").sessions;
    let expected: Vec<String> = made.iter().map(|alert| alert.session_id.clone()).collect();
    assert_eq!(ids(&listed), expected);
    let alerts = server.list_alerts(alert_page(0, "")).await.expect("a page").alerts;
    assert_eq!(alerts, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_pages_shows_every_session_once_while_others_are_created() {
    let server = start().await;
    let mut expected = Vec::new();
    for i in 0..25 {
        expected.push(parts(&server.create(["ada", "bob"][i % 2]).await).0);
        server.advance(chrono::Duration::milliseconds(1));
    }
    expected.reverse();
    let (mut seen, mut token) = (Vec::new(), String::new());
    for size in [1, 7, 3].into_iter().cycle() {
        let answer = server.list_sessions(page(size, &token)).await.expect("a page");
        assert!(answer.sessions.len() <= size as usize);
        seen.extend(ids(&answer.sessions));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        server.create("carol").await;
    }
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_pages_of_alerts_shows_every_alert_once() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    server.copy_alert(&alert.alert_id, &server.ids(9)).await;
    let (mut seen, mut token) = (BTreeSet::new(), String::new());
    for _ in 0..4 {
        let answer = server.list_alerts(alert_page(3, &token)).await.expect("a page");
        for alert in answer.alerts {
            assert!(seen.insert(alert.alert_id.clone()), "{} came twice", alert.alert_id);
        }
        token = answer.next_page_token;
    }
    assert_eq!((seen.len(), token.as_str()), (10, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_holds_on_every_replica_and_for_every_size() {
    let server = start().await;
    for _ in 0..4 {
        server.create("ada").await;
    }
    let first = server.list_sessions(page(1, "")).await.expect("a page");
    let replica = server.replica().await;
    let rest = replica.list_sessions(page(9, &first.next_page_token)).await.expect("the rest");
    assert_eq!(rest.sessions.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_page_token_is_refused() {
    let server = start().await;
    for _ in 0..2 {
        server.create("ada").await;
    }
    let token = server.list_sessions(page(1, "")).await.expect("a page").next_page_token;
    let mut forged: Vec<String> = (1..token.len()).map(|at| token[..at].to_owned()).collect();
    for at in 0..token.len() {
        let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut changed = token.clone();
        changed.replace_range(at..=at, other);
        forged.push(changed);
    }
    let ends = ["A", "=", " ", "\0"].map(|end| format!("{token}{end}"));
    forged.extend(ends);
    forged.extend([NOBODY.to_owned(), "x".repeat(10_000), "\u{202e}ñ".to_owned()]);
    for token in forged {
        refused(&server, page(1, &token)).await;
    }
    server.list_sessions(page(1, &token)).await.expect("the token itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_another_tenant_filter_or_list_is_refused() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    server.copy_alert(&alert.alert_id, &server.ids(1)).await;
    server.create("ada").await;
    let token = server.list_sessions(page(1, "")).await.expect("a page").next_page_token;
    let tenant_id = "other".to_owned();
    refused(&server, pb::ListSessionsRequest { tenant_id, ..page(1, &token) }).await;
    refused(&server, of_user("ada", 1, &token)).await;
    refused(&server, of_user("bob", 1, &token)).await;
    let of_ada = server.list_sessions(of_user("ada", 1, "")).await.expect("a page");
    refused(&server, page(1, &of_ada.next_page_token)).await;
    refused(&server, of_user("bob", 1, &of_ada.next_page_token)).await;

    let of_alerts = server.list_alerts(alert_page(1, "")).await.expect("a page").next_page_token;
    refused(&server, page(1, &of_alerts)).await;
    let refusal = server.list_alerts(alert_page(1, &token)).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "PAGE_TOKEN_INVALID");
    assert_eq!(violations(&refusal), ["page_token"]);
}

async fn refused(server: &TestServer, request: pb::ListSessionsRequest) {
    let shown = format!("{request:?}");
    let refusal = server.list_sessions(request).await.expect_err(&shown);
    assert_eq!(reason(&refusal), "PAGE_TOKEN_INVALID", "{shown}");
    assert_eq!(violations(&refusal), ["page_token"], "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_session_answers_exactly_like_an_absent_one() {
    let server = start().await;
    let tenant_id = "acme".to_owned();
    let request = pb::CreateSessionRequest { tenant_id, ..new_session("ada") };
    let (id, access, _) = parts(&server.try_create(request).await.expect("a session"));

    let foreign = server.get(&id).await.expect_err("not of this tenant");
    let absent = server.get(NOBODY).await.expect_err("of nobody");
    assert_eq!(foreign.code(), absent.code());
    assert_eq!(foreign.message().replace(&id, NOBODY), absent.message());
    assert_eq!(reason(&foreign), reason(&absent));

    assert_eq!(server.terminate(&id).await.expect("ok"), None);
    assert_eq!(server.terminate(NOBODY).await.expect("ok"), None);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);

    assert_eq!(server.list("ada").await, []);
    let of_acme = pb::ListSessionsRequest { tenant_id: "acme".to_owned(), ..page(0, "") };
    let listed = server.list_sessions(of_acme).await.expect("a page").sessions;
    assert_eq!(ids(&listed), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_alert_answers_exactly_like_an_absent_one() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    let get = async |alert_id: &str| {
        let (tenant_id, alert_id) = ("acme".to_owned(), alert_id.to_owned());
        let request = pb::GetAlertRequest { tenant_id, alert_id };
        server.alerts().get_alert(request).await.expect_err("not of this tenant")
    };
    let (foreign, absent) = (get(&alert.alert_id).await, get(NOBODY).await);
    assert_eq!((foreign.code(), reason(&foreign)), (absent.code(), reason(&absent)));
    assert_eq!(foreign.message().replace(&alert.alert_id, NOBODY), absent.message());

    let tenant_id = "acme".to_owned();
    let request = pb::AcknowledgeAlertRequest {
        tenant_id: tenant_id.clone(),
        alert_id: alert.alert_id.clone(),
        ..Default::default()
    };
    let refusal = server.acknowledge(request).await.expect_err("not of this tenant");
    assert_eq!(reason(&refusal), "ALERT_NOT_FOUND");
    let request = pb::ListAlertsRequest { tenant_id, ..alert_page(0, "") };
    assert_eq!(server.list_alerts(request).await.expect("a page").alerts, []);
    assert_eq!(server.get_alert(&alert.alert_id).await.expect("an alert"), alert);
}
