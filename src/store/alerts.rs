//! `security_alerts`: reading and locking. Writing is in `changes`.

use diesel::SelectableHelper;
use diesel::prelude::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::alert::{Alert, AlertFilter};
use crate::model::ids::{TenantId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::store::Connection;
use crate::store::rows::alert::{AlertRow, stored_key};
use crate::store::rows::found::{self, Found, sound};
use crate::store::schema::security_alerts as a;

/// The alert with this id.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find(conn: &mut Connection, tenant: &TenantId, id: Uuid) -> Result<Option<Alert>> {
    a::table
        .filter(a::tenant_id.eq(tenant.as_str()))
        .filter(a::alert_id.eq(id))
        .select(AlertRow::as_select())
        .first(conn)
        .await
        .optional()?
        .map(Alert::try_from)
        .transpose()
}

/// Locks a dedup key of no single user until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock_key(conn: &mut Connection, tenant: &TenantId, key: &str) -> Result<()> {
    LockKey::new(&format!("{tenant}/{key}")).get_result::<String>(conn).await?;
    Ok(())
}

/// The same, locked until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, tenant: &TenantId, id: Uuid) -> Result<Option<Alert>> {
    a::table
        .filter(a::tenant_id.eq(tenant.as_str()))
        .filter(a::alert_id.eq(id))
        .select(AlertRow::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?
        .map(Alert::try_from)
        .transpose()
}

statement! {
    /// Waits for the lock, which ends with the transaction.
    LockKey { key: &'a str as Text } -> Text,
    "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))::text"
}

statement! {
    /// Every transaction locks in this order.
    Current {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        keys: &'a [String] as Array<Text>,
    } -> a::SqlType,
    concat!(
        "SELECT ", alert_columns!(), " FROM security_alerts
        WHERE (tenant_id, user_id, dedup_key) IN (SELECT t, u, d FROM unnest(?, ?, ?) AS k (t, u, d))
        ORDER BY tenant_id, user_id, dedup_key FOR UPDATE"
    )
}

statement! {
    /// As `stored_key` writes the key of an incident that is over.
    Close {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> BigInt,
    "WITH closed AS (
        UPDATE security_alerts a SET dedup_key = a.dedup_key || '#' || a.alert_id
        FROM unnest(?, ?, ?) AS k (t, u, i)
        WHERE a.tenant_id = k.t AND a.user_id = k.u AND a.alert_id = k.i
        RETURNING 1
    )
    SELECT count(*) FROM closed"
}

statement! {
    Named {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> a::SqlType,
    concat!(
        "SELECT ", alert_columns!(), " FROM security_alerts
        WHERE (tenant_id, user_id, alert_id) IN (SELECT t, u, i FROM unnest(?, ?, ?) AS k (t, u, i))"
    )
}

/// The alerts that these activities concern, as they are now, in any order. One that is gone or damaged is skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn of_activities(conn: &mut Connection, activities: &[Activity]) -> Result<Vec<Alert>> {
    let named = || activities.iter().filter(|activity| activity.alert.is_some());
    let ids: Vec<Uuid> = named().filter_map(|activity| activity.alert).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<&str> = named().map(|activity| activity.tenant.as_str()).collect();
    let users: Vec<&str> =
        named().map(|activity| activity.user.as_ref().map_or("", UserId::as_str)).collect();
    Ok(sound(Named::new(&tenants, &users, &ids).load::<Found<AlertRow>>(conn).await?).0)
}

statement! {
    Silencing {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        after: Time as Timestamptz,
    } -> a::SqlType,
    concat!(
        "SELECT ", alert_columns!(), " FROM security_alerts
        WHERE (tenant_id, user_id) IN (SELECT t, u FROM unnest(?, ?) AS k (t, u))
            AND suppressed_until > ?"
    )
}

/// The unfinished incidents under the keys of `alerts`, which are about to be raised, locked until the transaction
/// ends, in any order.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn current(conn: &mut Connection, alerts: &[&Alert]) -> Result<Vec<Alert>> {
    let (tenants, users) = owners(alerts);
    let keys: Vec<String> = alerts.iter().map(|alert| stored_key(alert)).collect();
    let rows: Vec<AlertRow> = Current::new(&tenants, &users, &keys).load(conn).await?;
    rows.into_iter().map(Alert::try_from).collect()
}

/// The false positives of these users, or of no user, whose repetitions are suppressed after `after`, without damaged
/// rows.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn silencing(
    conn: &mut Connection,
    users: &[(&TenantId, Option<&UserId>)],
    after: Time,
) -> Result<Vec<Alert>> {
    let (tenants, users): (Vec<&str>, Vec<&str>) = users
        .iter()
        .map(|(tenant, user)| (tenant.as_str(), user.map_or("", UserId::as_str)))
        .unzip();
    Ok(sound(Silencing::new(&tenants, &users, after).load::<Found<AlertRow>>(conn).await?).0)
}

/// Ends these incidents, which are locked, so that others can take their keys.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn close(conn: &mut Connection, alerts: &[&Alert]) -> Result<()> {
    let (tenants, users) = owners(alerts);
    let ids: Vec<Uuid> = alerts.iter().map(|alert| alert.id).collect();
    Close::new(&tenants, &users, &ids).get_result::<i64>(conn).await?;
    Ok(())
}

fn owners<'a>(alerts: &[&'a Alert]) -> (Vec<&'a str>, Vec<&'a str>) {
    let user = |alert: &&'a Alert| alert.user.as_ref().map_or("", UserId::as_str);
    (alerts.iter().map(|alert| alert.tenant.as_str()).collect(), alerts.iter().map(user).collect())
}

/// A page of a tenant's alerts, newest first, without damaged rows.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(
    conn: &mut Connection,
    tenant: &TenantId,
    filter: &AlertFilter,
    page: PageRequest,
) -> Result<Page<Alert>> {
    let mut query = a::table
        .filter(a::tenant_id.eq(tenant.as_str()))
        .select(Found::<AlertRow>::as_select())
        .order(a::alert_id.desc())
        .limit(i64::try_from(page.size + 1).unwrap_or(i64::MAX))
        .into_boxed();
    query = match filter.suppressed {
        Some(true) => query.filter(a::suppression.ne(0)),
        Some(false) => query.filter(a::suppression.eq(0)),
        None => query,
    };
    if let Some(after) = page.after {
        query = query.filter(a::alert_id.lt(after));
    }
    if let Some(user) = &filter.user {
        query = query.filter(a::user_id.eq(user.as_str()));
    }
    if let Some(session) = filter.session {
        query = query.filter(a::session_id.eq(session));
    }
    if !filter.categories.is_empty() {
        let categories: Vec<i16> = filter.categories.iter().map(|one| *one as i16).collect();
        query = query.filter(a::category.eq_any(categories));
    }
    if let Some(severity) = filter.minimum_severity {
        query = query.filter(a::severity.ge(severity as i16));
    }
    if !filter.states.is_empty() {
        query = query.filter(a::state.eq_any(filter.states.clone()));
    }
    if let Some(assignee) = &filter.assignee {
        query = query.filter(a::assignee.eq(assignee));
    }
    if let Some(rule) = &filter.rule_id {
        query = query.filter(a::rule_id.eq(rule));
    }
    if let Some(after) = filter.last_seen_after {
        query = query.filter(a::last_seen_at.ge(after));
    }
    if let Some(before) = filter.last_seen_before {
        query = query.filter(a::last_seen_at.lt(before));
    }
    found::page(page, query.load(conn).await?, |row| Some(row.id()))
}
