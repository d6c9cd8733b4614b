//! `revocations`: reading them in the order of their commits. Writing is in `changes`.

use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::feed::{Horizon, Span};
use crate::model::ids::{TenantId, UserId};
use crate::model::revocation::{NONE, Revocation};
use crate::store::feed::horizon;
use crate::store::rows::revocation::{self, RevocationColumns};
use crate::store::{Connection, writer};

/// Times that the driver cannot take are NULL, which is damage.
macro_rules! columns {
    () => {
        "r.tenant_id, r.level, r.subject, r.below_generation,
        CASE WHEN isfinite(r.revoked_at) AND r.revoked_at < '10000-01-01' THEN r.revoked_at END AS revoked_at,
        CASE WHEN isfinite(r.evict_at) AND r.evict_at < '10000-01-01' THEN r.evict_at END AS evict_at"
    };
}

type Row = (
    Text,
    Timestamptz,
    Nullable<Text>,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Integer>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

statement! {
    /// One statement, so one snapshot: it gives the next position, and shows all that committed before it. A position
    /// beyond it is of another cluster. As in `feed`, rows that a dump brought are not new. The timeline is read after
    /// the snapshot was taken: a server that takes the writes then has shown a current snapshot.
    Since {
        next: &'a str as Text,
        first: &'a str as Text,
        pending: &'a [String] as Array<Text>,
        limit: i64 as BigInt,
    } -> (Row, Text),
    concat!(
        "SELECT now.snapshot, now.at, ", columns!(), ", now.timeline
        FROM (
            SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at, ", timeline!(), " AS timeline
        ) now LEFT JOIN (
            SELECT ", columns!(), " FROM revocations r
            WHERE r.xid >= ?::xid8 AND r.xid < pg_snapshot_xmax(pg_current_snapshot()) AND r.xmin = r.xid::xid
            UNION ALL
            SELECT ", columns!(), " FROM revocations r
            WHERE r.xid < ?::xid8 AND r.xid = ANY (?::xid8[]) AND r.xmin = r.xid::xid
            LIMIT ?
        ) r ON true"
    )
}

statement! {
    /// In the order of the primary key, from a row on. Keys are those of all tenants.
    InForce {
        tenant: &'a str as Text,
        none: i32 as Integer,
        now: Time as Timestamptz,
        xid: &'a str as Text,
        of: &'a str as Text,
        level: i16 as SmallInt,
        subject: &'a str as Text,
        limit: i64 as BigInt,
    } -> (Row, Nullable<Text>),
    concat!(
        "SELECT now.snapshot, now.at, ", columns!(), ", r.xid::text
        FROM (SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at) now LEFT JOIN (
            SELECT ", columns!(), ", r.xid FROM revocations r
            WHERE (r.tenant_id = ? OR r.level = 5) AND r.below_generation > ? AND r.evict_at > ?
                AND (r.xid, r.tenant_id, r.level, r.subject) > (?::xid8, ?, ?, ?)
            ORDER BY r.xid, r.tenant_id, r.level, r.subject LIMIT ?
        ) r ON true"
    )
}

statement! {
    Prune { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH slice AS (
        SELECT xid, tenant_id, level, subject FROM revocations WHERE evict_at < ? LIMIT ? FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM revocations USING slice
        WHERE revocations.xid = slice.xid AND revocations.tenant_id = slice.tenant_id
            AND revocations.level = slice.level AND revocations.subject = slice.subject
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

statement! {
    /// The id of each session, and when its newest token was issued at the latest. No clock is beyond the year 9999: that
    /// is damage, which must not keep a user from being erased.
    LockSessions { tenant: &'a str as Text, user: &'a str as Text, limit: i64 as BigInt } -> (Text, Nullable<Timestamptz>),
    "SELECT session_id::text, CASE
        WHEN greatest(created_at, rotated_at, last_active_at) BETWEEN '1970-01-01' AND '9999-12-31'
        THEN greatest(created_at, rotated_at, last_active_at)
    END
    FROM user_sessions WHERE tenant_id = ? AND user_id = ? ORDER BY session_id LIMIT ? FOR UPDATE"
}

statement! {
    LockDevices { tenant: &'a str as Text, user: &'a str as Text, limit: i64 as BigInt } -> Text,
    "SELECT device_id::text FROM devices WHERE tenant_id = ? AND user_id = ?
    ORDER BY device_id LIMIT ? FOR UPDATE"
}

statement! {
    Forget { tenant: &'a str as Text, subjects: &'a [String] as Array<Text> } -> BigInt,
    "WITH gone AS (
        DELETE FROM revocations WHERE tenant_id = ? AND level IN (1, 2) AND subject = ANY (?) RETURNING 1
    )
    SELECT count(*) FROM gone"
}

/// Deletes what names the first `limit` sessions and devices of a user by their ids, which it locks. Only together with
/// a revocation of all of the user that replaces them. Returns when the newest token of these sessions was issued, by
/// the clock of that time, which may have been ahead.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn forget(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    limit: i64,
) -> Result<Option<Time>> {
    let (tenant, user) = (tenant.as_str(), user.as_str());
    let sessions: Vec<(String, Option<Time>)> =
        LockSessions::new(tenant, user, limit).load(conn).await?;
    let newest = sessions.iter().filter_map(|(_, issued_at)| *issued_at).max();
    let mut ids: Vec<String> = sessions.into_iter().map(|(id, _)| id).collect();
    let devices: Vec<String> = LockDevices::new(tenant, user, limit).load(conn).await?;
    ids.extend(devices);
    // In a statement of its own, which sees the commits that the lock waited for.
    Forget::new(tenant, &ids).get_result::<i64>(conn).await?;
    Ok(newest)
}

/// Revocations since a position.
pub struct NewRevocations {
    /// The next position.
    pub to: Horizon,
    pub revocations: Vec<Revocation>,
    /// There are more, which are not listed, or some that cannot be read here, as those that a newer release wrote.
    pub too_many: bool,
    /// The time of the database, read by the same statement.
    pub at: Time,
}

/// What was committed since `from`, at most `limit`; more are not listed.
///
/// # Errors
/// [`crate::error::Error::Unavailable`], also if another server takes the writes by now.
pub async fn since(conn: &mut Connection, from: &Horizon, limit: usize) -> Result<NewRevocations> {
    let next = from.next().to_string();
    let pending: Vec<String> = from.pending().iter().map(u64::to_string).collect();
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let since = Since::new(&next, &next, &pending, most);
    let rows: Vec<(Found, String)> = since.load(conn).await?;
    writer::judge(conn, rows.as_slice().first().map_or("", |(_, timeline)| timeline))?;
    news(rows.into_iter().map(|(row, _)| row).collect(), limit)
}

/// The last row of a page, after which the next begins.
pub struct After {
    xid: String,
    tenant: String,
    level: i16,
    subject: String,
}

/// Those of a tenant that concern tokens which may be in date at `now`: a page of them, and where the next begins.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn in_force(
    conn: &mut Connection,
    tenant: &TenantId,
    now: Time,
    after: Option<After>,
    limit: usize,
) -> Result<(NewRevocations, Option<After>)> {
    let nothing =
        || After { xid: "0".to_owned(), tenant: String::new(), level: 0, subject: String::new() };
    let After { xid, tenant: of, level, subject } = after.unwrap_or_else(nothing);
    let (none, most) = (i32::try_from(NONE).unwrap_or(1), i64::try_from(limit).unwrap_or(i64::MAX));
    let page = InForce::new(tenant.as_str(), none, now, &xid, &of, level, &subject, most);
    let rows: Vec<(Found, Option<String>)> = page.load(conn).await?;
    let last = rows.as_slice().last().filter(|_| rows.len() == limit);
    let next = last.and_then(|(row, xid)| {
        let (tenant, level, subject) = (row.2.clone()?, row.3?, row.4.clone()?);
        Some(After { xid: xid.clone()?, tenant, level, subject })
    });
    Ok((news(rows.into_iter().map(|(row, _)| row).collect(), limit)?, next))
}

/// Deletes up to `limit` that expired before `before`; returns how many.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn prune(conn: &mut Connection, before: Time, limit: i64) -> Result<i64> {
    Ok(Prune::new(before, limit).get_result(conn).await?)
}

type Found = (
    String,
    Time,
    Option<String>,
    Option<i16>,
    Option<String>,
    Option<i32>,
    Option<Time>,
    Option<Time>,
);

impl NewRevocations {
    /// True if the database is at an earlier transaction than the position: another cluster, or a restored one.
    pub fn is_before(&self, from: &Horizon) -> bool {
        Span::new(from.clone(), self.to.clone()).is_none()
    }
}

fn news(mut rows: Vec<Found>, limit: usize) -> Result<NewRevocations> {
    let first = rows.as_slice().first().ok_or_else(|| anyhow::anyhow!("no snapshot"))?;
    let (to, at) = (horizon(&first.0)?, first.1);
    let too_many = rows.len() > limit;
    rows.truncate(limit);
    let (mut revocations, mut damaged) = (Vec::with_capacity(rows.len()), 0_u64);
    // A row without a tenant has only the snapshot.
    for row in rows.into_iter().filter(|row| row.2.is_some()) {
        let columns = columns(row).ok_or_else(|| anyhow::anyhow!("a column has no value").into());
        match columns.and_then(revocation::read) {
            Ok(revocation) => revocations.push(revocation),
            Err(error) => {
                if damaged == 0 {
                    tracing::error!(%error, "a revocation cannot be read: everything that is cached is invalidated");
                }
                damaged += 1;
            }
        }
    }
    Ok(NewRevocations { to, revocations, too_many: too_many || damaged > 0, at })
}

/// `None` if one has no value.
fn columns(row: Found) -> Option<RevocationColumns> {
    Some((row.2?, row.3?, row.4?, row.5?, row.6?, row.7?))
}
