//! The operator's changes in the audit trail: who, what, before and after, in each tenant that they concern.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use chrono::Duration;
use rustix::process::Signal;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::grpc::pb::ActivityKind as Kind;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

use crate::detect::settled;
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::reason;
use crate::harness::cluster::Db;
use crate::harness::process::{Place, client};
use crate::harness::{MASTER_KEY, start_with, wait};

const GRACE: &str = "operator:grace";

/// A database with a server, and commands of an operator on the same database.
struct Beside {
    db: Db,
    place: Place,
}

impl Beside {
    fn env(&self) -> [(&str, &str); 3] {
        [
            ("DATABASE_URL", &self.db.url),
            ("SESSIOND_MASTER_KEY", &MASTER_KEY),
            ("SESSIOND_OPERATOR", "grace"),
        ]
    }

    async fn run(&self, command: &str) -> String {
        let flags: Vec<&str> = command.split(' ').collect();
        let ended = self.place.spawn(&flags, &self.env()).ended().await;
        assert!(ended.status.success(), "{command}: {}", ended.err);
        ended.out
    }
}

fn input(tenant: &str) -> pb::ListActivitiesRequest {
    pb::ListActivitiesRequest {
        tenant_id: tenant.to_owned(),
        page_size: 1000,
        ..Default::default()
    }
}

/// The audit trail of a tenant, oldest first.
async fn trail(client: &mut SessionServiceClient<Channel>, tenant: &str) -> Vec<pb::Activity> {
    let page = client.list_activities(input(tenant)).await.expect("a page").into_inner();
    let mut activities = page.activities;
    activities.reverse();
    assert!(activities.iter().all(|activity| activity.tenant_id == tenant));
    activities
}

fn kinds(trail: &[pb::Activity]) -> Vec<Kind> {
    trail.iter().map(pb::Activity::kind).collect()
}

fn change(activity: &pb::Activity) -> &pb::AdministrativeChange {
    assert!(activity.user_id.is_empty() && activity.report.is_none(), "{activity:?}");
    activity.change.as_ref().expect("what was changed")
}

fn facts(facts: &[(&str, &str)]) -> BTreeMap<String, String> {
    facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The key id in the key that a command printed.
fn id_of(key: &str) -> &str {
    key.split('_').nth(1).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_by_a_command_is_in_the_trail_of_each_tenant_it_concerns() {
    let beside = Beside { db: Db::fresh().await, place: Place::new() };
    let mut server = beside.place.spawn(&[], &beside.env());
    let mut client = client(server.addr().await).await;
    beside.run("principal set edge --role gateway --tenant a --tenant b").await;
    beside.run("principal set edge --scope session.read --tenant b --audience api").await;
    let first = beside.run("api-key create edge --expires-in 1h").await;
    for _ in 0..2 {
        beside.run(&format!("api-key revoke {}", id_of(&first))).await;
    }
    let second = beside.run("api-key create edge --expires-in 1h").await;
    beside.run("principal remove edge").await;
    let third = beside.run("api-key create all --expires-in 1h --role admin --tenant *").await;

    let of_a = trail(&mut client, "a").await;
    assert_eq!(kinds(&of_a), [Kind::PrincipalSet; 2]);
    let before = facts(&[("roles", "gateway"), ("tenants", "a")]);
    let after = facts(&[("scopes", "session.read"), ("audiences", "api")]);
    assert_eq!((&change(&of_a[0]).before, &change(&of_a[0]).after), (&facts(&[]), &before));
    assert_eq!((&change(&of_a[1]).before, &change(&of_a[1]).after), (&before, &after));

    let of_b = trail(&mut client, "b").await;
    let made = [Kind::ApiKeyCreated, Kind::ApiKeyRevoked, Kind::ApiKeyCreated];
    let expected = [&[Kind::PrincipalSet; 2][..], &made, &[Kind::PrincipalRemoved]].concat();
    assert_eq!(kinds(&of_b), expected);
    assert!(of_b.iter().all(|it| it.principal == GRACE && change(it).principal == "edge"));
    let keys: Vec<&str> = of_b.iter().map(|it| change(it).key_id.as_str()).collect();
    assert_eq!(keys, ["", "", id_of(&first), id_of(&first), id_of(&second), ""]);
    assert_eq!(change(&of_b[2]).after.keys().collect::<Vec<_>>(), ["expire_time"]);
    assert_eq!(change(&of_b[3]).before, change(&of_b[2]).after);
    assert!(change(&of_b[3]).after.contains_key("revoke_time"));
    let ids = &change(&of_b[5]).before["key_ids"];
    assert!(ids.contains(id_of(&first)) && ids.contains(id_of(&second)), "{ids}");
    assert!(change(&of_b[5]).after.is_empty());

    beside.run("keys rotate").await;
    let rotated = trail(&mut client, "*").await;
    let published = change(rotated.last().expect("a row")).key_id.clone();
    beside.run(&format!("keys retire {published}")).await;
    beside.run("keys generate --purpose refresh --sign-after 30d").await;
    beside.run("keys retire refresh-1 --now").await;
    let of_all = trail(&mut client, "*").await;
    let [of_service, of_grace]: [Vec<&pb::Activity>; 2] =
        ["system", GRACE].map(|who| of_all.iter().filter(|it| it.principal == who).collect());
    assert_eq!(of_service.len() + of_grace.len(), of_all.len());
    assert!(of_service.iter().all(|it| it.kind() == Kind::SigningKeyPublished));
    assert_eq!(of_service.len(), 2, "the first keys");
    assert_eq!(change(of_grace[0]).after["tenants"], "*");
    assert_eq!((of_grace[0].kind(), of_grace[1].kind()), (Kind::PrincipalSet, Kind::ApiKeyCreated));
    let count = |kind| of_grace.iter().filter(|it| it.kind() == kind).count();
    assert_eq!(count(Kind::SigningKeyPublished), 2);
    assert_eq!(count(Kind::SigningKeyRemoved), 2);
    assert!(count(Kind::SigningKeyRescheduled) > 0);
    let is_removed = |it: &&&pb::Activity| it.kind() == Kind::SigningKeyRemoved;
    let removed = of_grace.iter().filter(is_removed).map(|it| change(it)).next_back();
    let removed = removed.expect("a removal");
    assert_eq!((removed.key_id.as_str(), removed.before.get("remove_time")), ("refresh-1", None));
    assert!(removed.after.contains_key("remove_time"));
    assert_eq!(removed.after["purpose"], "refresh");

    assert!(trail(&mut client, "default").await.is_empty());
    let said = format!("{of_a:?}{of_b:?}{of_all:?}");
    for key in [&first, &second, &third] {
        assert!(!said.contains(&key.trim_end()[21..]), "the trail holds a secret");
    }
    let sealed = "SELECT count(*) FROM session_activities a, signing_keys k, api_keys p
        WHERE a.change::text LIKE '%' || encode(k.sealed_private_key, 'hex') || '%'
            AND k.sealed_private_key <> ''
        OR a.change::text LIKE '%' || encode(p.secret_sha256, 'hex') || '%'";
    assert_eq!(beside.db.count(sealed).await, 0);
    server.signal(Signal::TERM);
    assert!(server.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_the_systems_user_unless_named() {
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str())];
    let set = ["principal", "set", "edge", "--role", "gateway", "--tenant", "a"];
    let longest = "ü".repeat(128);
    for named in [&[][..], &["--operator", &longest]] {
        let ended = place.spawn(&[&set[..], named].concat(), &env).ended().await;
        assert!(ended.status.success(), "{}", ended.err);
    }
    let whoami = std::process::Command::new("id").arg("-un").output().expect("it runs").stdout;
    let whoami = String::from_utf8(whoami).expect("a name");
    for name in [whoami.trim(), &longest] {
        let rows = "SELECT count(*) FROM session_activities WHERE principal =";
        assert_eq!(db.count(&format!("{rows} 'operator:{name}'")).await, 1, "{name}");
    }
    let too_long = "a".repeat(129);
    for wrong in ["", "a\nb", &too_long] {
        let flags = [&set[..], &["--operator", wrong]].concat();
        place.spawn(&flags, &env).ended().await.assert_refused(&["--operator", "128 characters"]);
    }
    let posing = ["principal", "set", "operator:grace", "--role", "admin", "--tenant", "a"];
    place.spawn(&posing, &env).ended().await.assert_refused(&["stands for somebody else"]);
    assert_eq!(db.count("SELECT count(*) FROM session_activities").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_leaves_the_change_and_its_row_or_neither() {
    let beside = Beside { db: Db::fresh().await, place: Place::new() };
    let mut server = beside.place.spawn(&[], &beside.env());
    server.addr().await;
    let state = "SELECT (SELECT count(*) FROM principals) + (SELECT count(*) FROM signing_keys)";
    let rows = "SELECT count(*) FROM session_activities WHERE principal = 'operator:grace'";
    for command in ["principal set edge --role gateway --tenant a", "keys rotate"] {
        let before = (beside.db.count(state).await, beside.db.count(rows).await);
        // The change is made, but its activity waits for this lock.
        let held = beside.db.hold("LOCK TABLE session_activities IN EXCLUSIVE MODE").await;
        let flags: Vec<&str> = command.split(' ').collect();
        let process = beside.place.spawn(&flags, &beside.env());
        let waiting = "SELECT count(*) FROM pg_locks w JOIN pg_locks t USING (pid)
            WHERE NOT w.granted AND w.relation = 'session_activities'::regclass AND t.granted
            AND t.mode = 'RowExclusiveLock'
            AND t.relation IN ('principals'::regclass, 'signing_keys'::regclass)";
        wait::until(async || beside.db.count(waiting).await == 1).await;
        process.signal(Signal::KILL);
        assert!(!process.ended().await.status.success());
        drop(held);
        wait::until(async || beside.db.count(waiting).await == 0).await;
        let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'
            AND relation IN ('principals'::regclass, 'signing_keys'::regclass)";
        wait::until(async || beside.db.count(locked).await == 0).await;
        let after = (beside.db.count(state).await, beside.db.count(rows).await);
        assert_eq!(after, before, "{command}");
        beside.run(command).await;
        let done = (beside.db.count(state).await, beside.db.count(rows).await);
        assert!(done.0 == before.0 + 1 && done.1 > before.1, "{command}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_all_tenants_is_shown_to_principals_of_all_tenants() {
    let server = start_with(authenticated).await;
    let of_a = server.key("of-a", &grant(Role::Admin, &["a"])).await.text;
    let of_all = server.key("of-all", &grant(Role::Security, &["*"])).await.text;
    let refused = server.sessions_as(&of_a).list_activities(input("*")).await.expect_err("refused");
    assert_eq!(reason(&refused), "TENANT_NOT_PERMITTED");
    let first = pb::ListActivitiesRequest { page_size: 1, ..input("*") };
    let page = server.sessions_as(&of_all).list_activities(first).await.expect("a page");
    let page = page.into_inner();
    assert_eq!(kinds(&page.activities), [Kind::ApiKeyCreated]);
    let elsewhere = pb::ListActivitiesRequest { page_token: page.next_page_token, ..input("a") };
    let refused = server.sessions_as(&of_all).list_activities(elsewhere).await.expect_err("bound");
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    let own = server.sessions_as(&of_a).list_activities(input("")).await.expect("a page");
    assert_eq!(kinds(&own.into_inner().activities), [Kind::ApiKeyCreated, Kind::PrincipalSet]);
    // No other method accepts `*` as a tenant.
    let all = pb::ListUsersRequest { tenant_id: "*".to_owned(), ..Default::default() };
    let refused = server.sessions_as(&of_all).list_users(all).await.expect_err("no tenant");
    assert_eq!(reason(&refused), "INVALID_FIELD");
}

#[tokio::test(flavor = "multi_thread")]
async fn detection_statistics_erasure_and_retention_pass_over_what_operators_change() {
    let server = start_with(|settings| {
        settings.key_rotation = StdDuration::from_secs(20 * 86_400);
        settings.intervals.rotate = StdDuration::from_millis(20);
        settings.activity_retention = StdDuration::from_secs(31 * 86_400);
    })
    .await;
    server.manage().set_principal("ada", &grant(Role::Login, &["default"])).await.expect("set");
    server.advance(Duration::days(20));
    let rotated = "SELECT count(*) FROM session_activities
        WHERE kind = 34 AND principal = 'system' AND tenant_id = '*'";
    wait::until(async || server.db.count(rotated).await == 4).await;
    settled(&server).await;
    let unread = "SELECT count(*) FROM session_activities a, feed_consumers c
        WHERE NOT pg_visible_in_snapshot(a.xid, c.read_to::pg_snapshot)";
    wait::until(async || server.db.count(unread).await == 0).await;
    let figures =
        "SELECT (SELECT count(*) FROM security_alerts) + (SELECT count(*) FROM user_sessions)";
    assert_eq!(server.db.count(figures).await, 0);
    let tenants = server.sessions().list_tenants(pb::ListTenantsRequest::default()).await;
    assert_eq!(tenants.expect("a page").into_inner().tenants, []);
    let erase = pb::EraseUserRequest { user_id: "ada".to_owned(), ..Default::default() };
    server.sessions().erase_user(erase).await.expect("erased");
    assert_eq!(server.activities(30).await, 1, "a principal is no user");
    server.advance(Duration::days(60));
    wait::until(async || server.activities(30).await == 0).await;
}
