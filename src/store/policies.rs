//! `policies`: the levels over the built-in policy, and what is still to be done for them. A change of
//! what they say is written with the other `changes` of its transaction.

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::policy::overrides::{PolicyLevel, PolicyScope};
use crate::store::Connection;
use crate::store::changes::array;
use crate::store::rows::policy::{NO_CLIENT, PolicyRow};
use crate::store::schema::policies;

statement! {
    /// By primary key, several at once.
    Find {
        tenants: &'a [&'a str] as Array<Text>,
        clients: &'a [&'a str] as Array<Text>,
    } -> policies::SqlType,
    concat!(
        "SELECT ", policy_columns!(), "
        FROM unnest(?, ?) AS k (t, c)
        JOIN policies p ON p.tenant_id = k.t AND p.client_id = k.c"
    )
}

statement! {
    OfTenant { tenant: &'a str as Text } -> policies::SqlType,
    concat!("SELECT ", policy_columns!(), " FROM policies p WHERE p.tenant_id = ?")
}

statement! {
    /// The second parts make the first page begin with the level whose client is the empty text.
    PageOfTenant {
        tenant: &'a str as Text,
        after: &'a str as Text,
        follows: i32 as Integer,
        limit: i64 as BigInt,
    } -> policies::SqlType,
    concat!(
        "SELECT ", policy_columns!(), " FROM policies p
        WHERE p.tenant_id = ? AND (p.client_id, 1) > (?, ?) AND p.revision > 0
        ORDER BY p.client_id LIMIT ?"
    )
}

statement! {
    /// The row of the tenant's own level stands for all of them, and is made if it is missing.
    Lock { tenant: &'a str as Text } -> BigInt,
    "WITH locked AS (
        INSERT INTO policies AS p (tenant_id, client_id, revision) VALUES (?, '', 0)
        ON CONFLICT (tenant_id, client_id) DO UPDATE SET revision = p.revision
        RETURNING 1
    )
    SELECT count(*) FROM locked"
}

statement! {
    Decide { levels: &'a str as Text } -> BigInt,
    concat!("WITH decided AS (
        INSERT INTO policies (", policy_columns!(), ")
        SELECT ", policy_columns!(), " FROM json_populate_recordset(NULL::policies, ?::json)
        ON CONFLICT (tenant_id, client_id) DO UPDATE SET
            preset = excluded.preset, idle_timeout = excluded.idle_timeout,
            absolute_timeout = excluded.absolute_timeout,
            access_token_ttl = excluded.access_token_ttl, refresh_grace = excluded.refresh_grace,
            lost_response_window = excluded.lost_response_window,
            user_max = excluded.user_max, user_on_limit = excluded.user_on_limit,
            client_max = excluded.client_max, client_on_limit = excluded.client_on_limit,
            device_type_limits = excluded.device_type_limits, acr_levels = excluded.acr_levels,
            revision = excluded.revision, updated_at = excluded.updated_at,
            updated_by = excluded.updated_by, apply_at = excluded.apply_at,
            detection = excluded.detection
        RETURNING 1
    )
    SELECT count(*) FROM decided")
}

statement! {
    /// SKIP LOCKED: replicas share the work. What is due, or was postponed by a clock that was ahead: no replica
    /// postpones for more than half a minute.
    Claim {
        until: Time as Timestamptz,
        now: Time as Timestamptz,
        ahead: Time as Timestamptz,
    } -> policies::SqlType,
    concat!(
        "UPDATE policies p SET apply_at = ? FROM (
            SELECT tenant_id AS t, client_id AS c FROM policies
            WHERE apply_at <= ? OR apply_at > ?::timestamptz + interval '1 minute'
            ORDER BY apply_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) due
        WHERE p.tenant_id = due.t AND p.client_id = due.c
        RETURNING ", policy_columns!()
    )
}

statement! {
    Settle {
        next: Option<Time> as Nullable<Timestamptz>,
        tenant: &'a str as Text,
        client: &'a str as Text,
        claimed: Option<Time> as Nullable<Timestamptz>,
    } -> BigInt,
    "WITH settled AS (
        UPDATE policies SET apply_at = ?
        WHERE tenant_id = ? AND client_id = ? AND apply_at = ?
        RETURNING 1
    )
    SELECT count(*) FROM settled"
}

/// Those of these levels that were ever written, in any order. `scopes` holds each at most once.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find(conn: &mut Connection, scopes: &[&PolicyScope]) -> Result<Vec<PolicyLevel>> {
    let tenants: Vec<&str> = scopes.iter().map(|scope| scope.tenant.as_str()).collect();
    let clients: Vec<&str> = scopes.iter().map(|scope| scope.client_name()).collect();
    levels(Find::new(&tenants, &clients).load(conn).await?)
}

/// All levels of a tenant that were ever written, in any order.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn of_tenant(conn: &mut Connection, tenant: &TenantId) -> Result<Vec<PolicyLevel>> {
    levels(OfTenant::new(tenant.as_str()).load(conn).await?)
}

/// A page of the levels of a tenant: its own, then those of its clients by name.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(
    conn: &mut Connection,
    tenant: &TenantId,
    page: PageRequest<String>,
) -> Result<Page<PolicyLevel, String>> {
    let limit = i64::try_from(page.size + 1).unwrap_or(i64::MAX);
    let (after, follows) = page.after.as_deref().map_or((NO_CLIENT, 0), |after| (after, 1));
    let rows = PageOfTenant::new(tenant.as_str(), after, follows, limit).load(conn).await?;
    let mut items = levels(rows)?;
    let follows = items.len() > page.size;
    items.truncate(page.size);
    let next = items.last().filter(|_| follows).map(|last| last.scope.client_name().to_owned());
    Ok(Page { items, next })
}

/// Locks the levels of a tenant, written or not, until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, tenant: &TenantId) -> Result<()> {
    Lock::new(tenant.as_str()).get_result::<i64>(conn).await?;
    Ok(())
}

/// Writes what levels state by now; the caller has the tenant locked. Separate from the statement for sessions, which
/// runs often.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn decide(conn: &mut Connection, levels: &[PolicyLevel]) -> Result<()> {
    let rows = array(levels.iter().map(PolicyRow::from));
    Decide::new(&rows).get_result::<i64>(conn).await?;
    Ok(())
}

/// A level that is to be applied by `now`, leased until `until`, which is then its `apply_at`.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn claim(conn: &mut Connection, now: Time, until: Time) -> Result<Option<PolicyLevel>> {
    let rows: Vec<PolicyRow> = Claim::new(until, now, now).load(conn).await?;
    Ok(levels(rows)?.pop())
}

/// Postpones the next application of a claimed level to `next`, or for ever. A level that was changed or claimed since
/// stays as it is.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn settle(
    conn: &mut Connection,
    claimed: &PolicyLevel,
    next: Option<Time>,
) -> Result<()> {
    let PolicyLevel { scope, apply_at, .. } = claimed;
    let settle = Settle::new(next, scope.tenant.as_str(), scope.client_name(), *apply_at);
    settle.get_result::<i64>(conn).await?;
    Ok(())
}

fn levels(rows: Vec<PolicyRow>) -> Result<Vec<PolicyLevel>> {
    rows.into_iter().map(PolicyLevel::try_from).collect()
}
