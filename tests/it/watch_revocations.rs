//! WatchRevocations, for gateways that validate tokens themselves: all revocations in force, then all new ones.

use std::collections::BTreeSet;
use std::time::Duration;

use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use tonic::{Code, Streaming};

use crate::harness::calls::{parts, reason, refusal, successor, violations};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start, start_with, wait};

/// A stream of revocations, and everything received from it.
pub struct Gateway {
    stream: Streaming<pb::WatchRevocationsResponse>,
    received: Vec<pb::Revocation>,
    pub cursor: String,
    pub resyncs: usize,
}

impl Gateway {
    /// Opens a stream and reads its snapshot.
    pub async fn open(server: &TestServer, cursor: &str) -> Gateway {
        let request =
            pb::WatchRevocationsRequest { cursor: cursor.to_owned(), ..Default::default() };
        let stream = server.sessions().watch_revocations(request).await.expect("a stream");
        let mut gateway = Gateway {
            stream: stream.into_inner(),
            received: Vec::new(),
            cursor: String::new(),
            resyncs: 0,
        };
        while gateway.cursor.is_empty() {
            gateway.take().await.expect("a message");
        }
        gateway
    }

    async fn take(&mut self) -> Result<(), tonic::Status> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.stream.message());
        let message =
            next.await.expect("a message, within a minute")?.expect("a status at the end");
        assert_eq!(message.checked_time.is_some(), !message.cursor.is_empty());
        assert_eq!(message.checked_time.is_some(), !message.watermark.is_empty());
        if message.resync {
            self.resyncs += 1;
            self.received.clear();
        }
        self.received.extend(message.revocations);
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        Ok(())
    }

    /// Waits for a revocation of this subject; returns the highest generation.
    pub async fn until_told(
        &mut self,
        level: pb::RevocationLevel,
        subject: &str,
    ) -> pb::Revocation {
        loop {
            let found = self.received.iter().rfind(|r| r.level() == level && r.subject == subject);
            if let Some(found) = found {
                return found.clone();
            }
            self.take().await.expect("a message");
        }
    }

    /// Waits for the revocation of the session.
    pub async fn until_ended(&mut self, id: &str) {
        let revocation = self.until_told(pb::RevocationLevel::Session, id).await;
        assert_eq!(revocation.below_generation, 0, "all tokens");
    }

    fn subjects(&self) -> BTreeSet<&str> {
        self.received.iter().map(|revocation| revocation.subject.as_str()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_comes_first_and_then_what_is_revoked_anywhere() {
    let server = start().await;
    let replica = server.replica().await;
    let (before, ..) = parts(&server.create("ada").await);
    server.terminate(&before).await.expect("ok");
    let mut gateway = Gateway::open(&server, "").await;
    assert_eq!((gateway.resyncs, gateway.subjects()), (1, BTreeSet::from([before.as_str()])));
    // Without a resync, unless the server had to reconnect.
    wait::until(async || {
        let (later, ..) = parts(&server.create("ada").await);
        let resyncs = gateway.resyncs;
        replica.terminate(&later).await.expect("ok");
        gateway.until_ended(&later).await;
        gateway.resyncs == resyncs
    })
    .await;
    // A day later all of their tokens have expired.
    server.advance(chrono::Duration::hours(24));
    assert_eq!(Gateway::open(&replica, "").await.subjects(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_withdraws_the_tokens_that_it_is_about() {
    let server = start_with(|settings| {
        settings.policy.limits.user.max = 2;
        settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
    })
    .await;
    let mut gateway = Gateway::open(&server, "").await;
    use pb::RevocationLevel::{Device, Session, User};
    // Ends by a limit, and by reuse.
    let (evicted, ..) = parts(&server.create("ada").await);
    let (stolen, _, refresh) = parts(&server.create("ada").await);
    server.create("ada").await;
    gateway.until_ended(&evicted).await;
    let next = successor(server.refresh(&refresh).await);
    successor(server.refresh(&next.refresh_token).await);
    assert_eq!(refusal(server.refresh(&refresh).await), "REFRESH_TOKEN_REUSED");
    gateway.until_ended(&stolen).await;
    // A re-authentication withdraws earlier tokens; a refresh withdraws nothing.
    let (stepped, _, refresh) = parts(&server.create("bob").await);
    successor(server.refresh(&refresh).await);
    server.reauthenticate(second_factor(&stepped)).await.expect("a step up");
    assert_eq!(gateway.until_told(Session, &stepped).await.below_generation, 3);
    // A shorter policy: the deadlines in issued tokens are too late.
    let created = server.create("carol").await;
    let (held, ..) = parts(&created);
    let shorter = pb::Policy {
        client_id: "web".to_owned(),
        absolute_timeout: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdatePolicyRequest { policy: Some(shorter), ..Default::default() };
    server.sessions().update_policy(request).await.expect("a policy");
    assert_eq!(gateway.until_told(Session, &held).await.below_generation, 2);
    // A revoked device, and an erased user.
    let device = created.session.expect("a session").device.expect("a device").device_id;
    let request = pb::RevokeDeviceRequest {
        user_id: "carol".to_owned(),
        device_id: device.clone(),
        ..Default::default()
    };
    server.sessions().revoke_device(request).await.expect("ok");
    gateway.until_told(Device, &device).await;
    server.erase("bob").await.expect("an erasure");
    // printf 'default\0bob' | sha256sum
    let digest = "141d43ca1539ee0bc69bb7a35bcce78b3774ad93f9393469de2d088d636906ed";
    gateway.until_told(User, digest).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_gateway_receives_missed_and_late_revocations() {
    let server = start().await;
    let mut cursor = String::new();
    // On a busy machine the server may lose its database connection, and then sends a resync.
    wait::until(async || {
        let (late, ..) = parts(&server.create("ada").await);
        let (missed, ..) = parts(&server.create("ada").await);
        let open = server.db.connect().await;
        let sql = format!(
            "BEGIN; INSERT INTO revocations (tenant_id, level, subject, below_generation, revoked_at, evict_at)
            VALUES ('default', 1, '{late}', 2147483647, '2026-03-14 12:00Z', '2026-03-15 12:00Z')"
        );
        open.batch_execute(&sql).await.expect("a revocation that is not committed yet");
        let gateway = Gateway::open(&server, "").await;
        assert!(!gateway.subjects().contains(late.as_str()));
        server.terminate(&missed).await.expect("ok");
        let mut gateway = Gateway::open(&server, &gateway.cursor).await;
        gateway.until_ended(&missed).await;
        cursor.clone_from(&gateway.cursor);
        open.batch_execute("COMMIT").await.expect("committed");
        gateway.until_ended(&late).await;
        let mut again = Gateway::open(&server, &cursor).await;
        again.until_ended(&late).await;
        (gateway.resyncs, again.resyncs) == (0, 0)
    })
    .await;
    // A cursor that is too old causes a resync, not an error.
    server.advance(chrono::Duration::days(8));
    assert_eq!(Gateway::open(&server, &cursor).await.resyncs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_feed_ends_the_stream() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let deaf = server
        .replica_with(|settings| {
            settings.database_url = proxy.url.clone();
            settings.watch.outage = Duration::from_millis(700);
        })
        .await;
    let mut gateway = Gateway::open(&deaf, "").await;
    gateway.take().await.expect("a heartbeat");
    proxy.set(Mode::MuteListeners);
    let mut heartbeats = 0;
    let end = loop {
        match gateway.take().await {
            Ok(()) => heartbeats += 1,
            Err(end) => break end,
        }
    };
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    assert!(heartbeats < 20, "{heartbeats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_stream_so_that_it_goes_on_elsewhere() {
    let mut server = start().await;
    let replica = server.replica().await;
    let mut gateway = Gateway::open(&server, "").await;
    server.begin_stop();
    let end = loop {
        if let Err(end) = gateway.take().await {
            break end;
        }
    };
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "STOPPING"));
    let (id, ..) = parts(&replica.create("ada").await);
    replica.terminate(&id).await.expect("ok");
    let mut gateway = Gateway::open(&replica, &gateway.cursor).await;
    gateway.until_ended(&id).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_its_limits_is_refused_by_name() {
    let server = start().await;
    let length = |millis: i32| {
        Some(prost_types::Duration {
            seconds: i64::from(millis / 1000),
            nanos: millis % 1000 * 1_000_000,
        })
    };
    let request = |heartbeat_interval, cursor: &str| pb::WatchRevocationsRequest {
        heartbeat_interval,
        cursor: cursor.to_owned(),
        ..Default::default()
    };
    for millis in [99, 60_001, -1] {
        let refused = server.sessions().watch_revocations(request(length(millis), "")).await;
        assert_eq!(violations(&refused.expect_err("refused")), ["heartbeat_interval"]);
    }
    for millis in [100, 60_000] {
        server.sessions().watch_revocations(request(length(millis), "")).await.expect("a stream");
    }
    let refused = server.sessions().watch_revocations(request(None, &"x".repeat(20_481))).await;
    assert_eq!(violations(&refused.expect_err("refused")), ["cursor"]);
    let refused = server.sessions().watch_revocations(request(None, "forged")).await;
    assert_eq!(reason(&refused.expect_err("refused")), "CURSOR_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_makes_no_sense_holds_up_no_other() {
    let server = start().await;
    let replica = server.replica().await;
    let mut gateway = Gateway::open(&replica, "").await;
    let (before, after) = (gateway.resyncs, gateway.cursor.clone());
    // A row that this release cannot read, as a newer one may write it.
    let sql = "INSERT INTO revocations (tenant_id, level, subject, below_generation, revoked_at, evict_at)
        VALUES ('default', 1, 'no session', 2147483647, now(), now() + interval '1 day')";
    server.db.connect().await.batch_execute(sql).await.expect("a row");
    let (id, access, _) = parts(&server.create("ada").await);
    assert_eq!(replica.validate(&access).await.outcome(), pb::Outcome::Active);
    server.terminate(&id).await.expect("ok");
    gateway.until_ended(&id).await;
    assert_eq!(replica.validate(&access).await.outcome(), pb::Outcome::Inactive);
    assert!(gateway.resyncs > before, "what the row revokes is not known");
    // A stream that begins then, with or without an earlier cursor, receives the rest.
    Gateway::open(&replica, "").await.until_ended(&id).await;
    Gateway::open(&replica, &after).await.until_ended(&id).await;
}
