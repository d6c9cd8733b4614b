//! `requests`: what a `request_id` did.

use diesel::SelectableHelper;
use diesel::prelude::{OptionalExtension, QueryDsl};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::ids::TenantId;
use crate::model::request::{Progress, REMEMBERED_FOR, RecordedRequest, RequestId};
use crate::store::Connection;
use crate::store::rows::request::RequestRow;
use crate::store::schema::requests;

statement! {
    /// By primary key, several at once.
    Find {
        tenants: &'a [&'a str] as Array<Text>,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> requests::SqlType,
    "SELECT r.tenant_id, r.request_id, r.fingerprint, r.user_id, r.subject_id, r.related_ids,
        r.created_at, r.done_count, r.complete
    FROM unnest(?, ?) AS k (tenant_id, request_id)
    JOIN requests r ON r.tenant_id = k.tenant_id AND r.request_id = k.request_id"
}

statement! {
    /// The row is locked, or the transaction has just made it.
    Advance {
        count: i64 as BigInt,
        complete: bool as Bool,
        next: Option<Uuid> as Nullable<SqlUuid>,
        related: &'a [Uuid] as Array<SqlUuid>,
        tenant: &'a str as Text,
        id: Uuid as SqlUuid,
    } -> BigInt,
    "WITH advanced AS (
        UPDATE requests SET done_count = ?, complete = ?, subject_id = ?, related_ids = ?
        WHERE tenant_id = ? AND request_id = ?
        RETURNING 1
    )
    SELECT count(*) FROM advanced"
}

statement! {
    /// SKIP LOCKED: replicas that prune at once share the work.
    Prune { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH old AS (
        SELECT tenant_id, request_id FROM requests WHERE created_at <= ?
        ORDER BY created_at LIMIT ? FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM requests r USING old
        WHERE r.tenant_id = old.tenant_id AND r.request_id = old.request_id
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

/// What these requests did before, if they are stored, in any order.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find(
    conn: &mut Connection,
    ids: &[(&TenantId, Uuid)],
) -> Result<Vec<RecordedRequest>> {
    let tenants: Vec<&str> = ids.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let requests: Vec<Uuid> = ids.iter().map(|(_, id)| *id).collect();
    let rows: Vec<RequestRow> = Find::new(&tenants, &requests).load(conn).await?;
    rows.into_iter().map(RecordedRequest::try_from).collect()
}

/// What one request did before, if that is still valid at `now`.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn before(
    conn: &mut Connection,
    tenant: &TenantId,
    request: RequestId,
    now: Time,
) -> Result<Option<RecordedRequest>> {
    let known = find(conn, &[(tenant, request.id)]).await?;
    Ok(known.into_iter().find(|known| known.holds_at(now)))
}

/// The progress of this request, if it is stored, locked until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, tenant: &TenantId, id: Uuid) -> Result<Option<Progress>> {
    requests::table
        .find((tenant.as_str(), id))
        .select(RequestRow::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?
        .map(Progress::try_from)
        .transpose()
}

/// Stores the progress of a request. The caller has its row locked.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn advance(conn: &mut Connection, progress: &Progress) -> Result<()> {
    let Progress { request, count, complete } = progress;
    let count = i64::try_from(*count).unwrap_or(i64::MAX);
    let (tenant, id) = (request.tenant.as_str(), request.request.id);
    let advance = Advance::new(count, *complete, request.subject, &request.related, tenant, id);
    match advance.get_result::<i64>(conn).await? {
        1 => Ok(()),
        _ => Err(Error::Internal(anyhow::anyhow!("a locked request was not there to change"))),
    }
}

/// Deletes at most `limit` requests that have expired at `now`; returns how many.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn prune(conn: &mut Connection, now: Time, limit: i64) -> Result<i64> {
    Ok(Prune::new(now - REMEMBERED_FOR, limit).get_result(conn).await?)
}
