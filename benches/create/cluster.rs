//! The private Postgres that both sides work on, how it is filled, and what it counts.

use anyhow::{Context, ensure};
use sessiond::clock::Clock;
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::store::{migrations, pool::Database};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Users that exist before anything is measured: `user-1` and up.
pub const USERS: u32 = 20_000;
/// Live sessions that each of them has.
const SESSIONS: u32 = 2;

/// The values of a session row as the server writes them, in the order of the table's columns, for
/// the caller's `session_id`, `device_id` and user.
pub const SESSION_VALUES: &str = r#"gen_random_uuid(), 'web', gen_random_uuid(), 1,
    '{"name": "Firefox on Linux", "platform": "Linux"}', '192.0.2.7',
    'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    '{"country_code": "DE", "city": "Berlin"}', 'silver', '{pwd,otp}', now(), '{sessiond}', '{}',
    now(), now(), interval '1 hour', now() + interval '24 hours', now() + interval '1 hour', 1,
    NULL, NULL, NULL, NULL, 1, 1, now(), 0, uuid_send(gen_random_uuid())"#;

/// A running Postgres with the service's tables. Dropping it stops it and removes its data.
pub struct Cluster {
    client: Client,
    postgres: DevPostgres,
    // After the server that works in it.
    dir: TempDir,
}

/// What the cluster counted up to a moment.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Transactions that wrote: each takes one transaction id.
    pub writes: i64,
    pub wal_bytes: i64,
    pub live_sessions: i64,
    pub created_activities: i64,
}

impl Cluster {
    pub async fn start() -> anyhow::Result<Cluster> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("sessiond-bench-").tempdir()?;
        // Postgres run by root drops to another user, who must be able to enter.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let data_dir = dir.path().join("home");
        let postgres = DevPostgres::start(DevPostgresOptions {
            data_dir,
            pg_bin: None,
            fsync: true,
            max_connections: MAX_CONNECTIONS,
        })?;
        let url = postgres.url("sessiond");
        migrations::run(&Database::new(&url, 2)?, Clock::system().now()).await?;
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Cluster { client, postgres, dir })
    }

    pub fn url(&self) -> String {
        self.postgres.url("sessiond")
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn programs(&self) -> &std::path::Path {
        self.postgres.bin_dir()
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        self.postgres.pid().context("Postgres is down")
    }

    /// Brings the tables back to where every measurement begins. The checkpoint comes first, so
    /// that the images of pages that follow one belong to the filling.
    pub async fn refill(&self) -> anyhow::Result<()> {
        let users = format!(
            "INSERT INTO session_users SELECT 'default', 'user-' || n, now(), now()
            FROM generate_series(1, {USERS}) n"
        );
        let sessions = format!(
            "INSERT INTO user_sessions SELECT 'default', 'user-' || n, {SESSION_VALUES}
            FROM generate_series(1, {USERS}) n, generate_series(1, {SESSIONS})"
        );
        // One by one: a vacuum does not run among others.
        for statement in [
            "TRUNCATE session_users, user_sessions, session_activities",
            "CHECKPOINT",
            &users,
            &sessions,
            "VACUUM ANALYZE session_users",
            "VACUUM ANALYZE user_sessions",
            "VACUUM ANALYZE session_activities",
        ] {
            self.client.batch_execute(statement).await.context("filling the tables")?;
        }
        Ok(())
    }

    pub async fn counts(&self) -> anyhow::Result<Counts> {
        let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
            (pg_current_wal_insert_lsn() - '0/0')::bigint,
            (SELECT count(*) FROM user_sessions WHERE state = 1),
            (SELECT count(*) FROM session_activities WHERE kind = 1)";
        let row = self.client.query_one(sql, &[]).await?;
        Ok(Counts {
            writes: row.get(0),
            wal_bytes: row.get(1),
            live_sessions: row.get(2),
            created_activities: row.get(3),
        })
    }

    pub async fn describe(&self) -> anyhow::Result<String> {
        let sql = "SELECT version(), current_setting('fsync'),
            current_setting('synchronous_commit'), current_setting('max_connections')";
        let row = self.client.query_one(sql, &[]).await?;
        let version: &str = row.get(0);
        let version = version.split(" on ").next().unwrap_or(version);
        Ok(format!(
            "{version}, fsync {}, synchronous_commit {}, max_connections {}; {USERS} users with \
             {SESSIONS} live sessions each",
            row.get::<_, &str>(1),
            row.get::<_, &str>(2),
            row.get::<_, &str>(3),
        ))
    }
}

impl Counts {
    /// Checks that exactly `creates` sessions and their activities came since `before`.
    pub fn check(&self, before: &Counts, creates: u32) -> anyhow::Result<()> {
        let sessions = self.live_sessions - before.live_sessions;
        let activities = self.created_activities - before.created_activities;
        ensure!(
            sessions == i64::from(creates) && activities == i64::from(creates),
            "{creates} creates left {sessions} sessions and {activities} activities"
        );
        Ok(())
    }
}
