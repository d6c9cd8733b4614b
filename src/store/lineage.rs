//! `database_position` and `database_restores`: whether the database was restored, and what remains to be done about
//! it.

use diesel::OptionalExtension;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::lineage::DatabasePosition;
use crate::store::Connection;
use crate::store::rows::corrupt;

statement! {
    /// As in `feed`: Postgres keeps in `xmin` the transaction that wrote the row.
    Lock {} -> (SqlUuid, SqlUuid, BigInt, Bool),
    "SELECT origin, lineage, beat, xmin <> xid::xid FROM database_position FOR NO KEY UPDATE"
}

statement! {
    HasEnded { lineage: Uuid as SqlUuid } -> Bool,
    "SELECT EXISTS (SELECT 1 FROM database_restores WHERE lineage = ?)"
}

statement! {
    Advance { lineage: Uuid as SqlUuid } -> BigInt,
    "WITH moved AS (
        UPDATE database_position SET lineage = ?, beat = beat + 1, xid = pg_current_xact_id() RETURNING beat
    )
    SELECT beat FROM moved"
}

statement! {
    End { lineage: Uuid as SqlUuid, at: Time as Timestamptz, end_all: bool as Bool, complete: bool as Bool } -> BigInt,
    "WITH ended AS (
        INSERT INTO database_restores (lineage, noticed_at, end_all, complete) VALUES (?, ?, ?, ?) RETURNING 1
    )
    SELECT count(*) FROM ended"
}

statement! {
    Cutoff {} -> Nullable<Timestamptz>, "SELECT max(noticed_at) FROM database_restores WHERE NOT complete"
}

statement! {
    FirstUnfinished {} -> (SqlUuid, Timestamptz, Text, Bool, Text),
    "SELECT lineage, noticed_at, withdrawn_through, withdrawn, ended_through FROM database_restores
    WHERE NOT complete ORDER BY noticed_at LIMIT 1 FOR UPDATE"
}

statement! {
    /// One row is read for each tenant, however many sessions it has.
    Tenants { after: &'a str as Text, limit: i64 as BigInt } -> Text,
    "WITH RECURSIVE t AS (
        (SELECT tenant_id FROM user_sessions WHERE tenant_id > ? ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT s.tenant_id FROM user_sessions s WHERE s.tenant_id > t.tenant_id ORDER BY s.tenant_id LIMIT 1)
        FROM t WHERE t.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL LIMIT ?"
}

statement! {
    Progress {
        withdrawn_through: &'a str as Text,
        withdrawn: bool as Bool,
        ended_through: &'a str as Text,
        complete: bool as Bool,
        lineage: Uuid as SqlUuid,
    } -> BigInt,
    "WITH moved AS (
        UPDATE database_restores SET withdrawn_through = greatest(withdrawn_through, ?), withdrawn = withdrawn OR ?,
            ended_through = greatest(ended_through, ?), complete = complete OR ?
        WHERE lineage = ? RETURNING 1
    )
    SELECT count(*) FROM moved"
}

/// A restore after which sessions are still to be ended.
pub struct Unfinished {
    /// The lineage that ended.
    pub lineage: Uuid,
    pub noticed_at: Time,
    /// Tenants up to this one have their revocation.
    pub withdrawn_through: String,
    /// All tenants have their revocation.
    pub withdrawn: bool,
    /// All sessions of tenants up to this one are ended.
    pub ended_through: String,
    pub complete: bool,
}

/// The position, locked until the transaction ends, and whether a dump brought it here.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection) -> Result<(DatabasePosition, bool)> {
    let (origin, lineage, beat, from_dump) = Lock::new().get_result(conn).await?;
    Ok((DatabasePosition { origin, lineage, beat }, from_dump))
}

/// Whether a lineage ended by a detected restore.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn has_ended(conn: &mut Connection, lineage: Uuid) -> Result<bool> {
    Ok(HasEnded::new(lineage).get_result(conn).await?)
}

/// Counts the locked position up, as one of this lineage; the beat.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn advance(conn: &mut Connection, lineage: Uuid) -> Result<i64> {
    Ok(Advance::new(lineage).get_result(conn).await?)
}

/// Stores that a lineage ended by a restore, and whether the sessions from before are to end.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn end(conn: &mut Connection, lineage: Uuid, at: Time, end_all: bool) -> Result<()> {
    End::new(lineage, at, end_all, !end_all).get_result::<i64>(conn).await?;
    Ok(())
}

/// Sessions created before this are still to be ended; `None` = none is.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn cutoff(conn: &mut Connection) -> Result<Option<Time>> {
    Ok(Cutoff::new().get_result(conn).await?)
}

/// The first restore after which there is something to end, locked until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn unfinished(conn: &mut Connection) -> Result<Option<Unfinished>> {
    let found = FirstUnfinished::new().get_result(conn).await.optional()?;
    Ok(found.map(|(lineage, noticed_at, withdrawn_through, withdrawn, ended_through)| Unfinished {
        lineage,
        noticed_at,
        withdrawn_through,
        withdrawn,
        ended_through,
        complete: false,
    }))
}

/// Up to `limit` tenants with sessions, in order, after one.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn tenants(conn: &mut Connection, after: &str, limit: i64) -> Result<Vec<TenantId>> {
    let found: Vec<String> = Tenants::new(after, limit).load(conn).await?;
    let parse = |tenant: &String| {
        TenantId::parse(tenant).map_err(|_| corrupt("user_sessions", "tenant_id", tenant))
    };
    found.iter().map(parse).collect()
}

/// Stores the progress.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn progress(conn: &mut Connection, to: &Unfinished) -> Result<()> {
    let through = (to.withdrawn_through.as_str(), to.ended_through.as_str());
    Progress::new(through.0, to.withdrawn, through.1, to.complete, to.lineage)
        .get_result::<i64>(conn)
        .await?;
    Ok(())
}
