//! `security_alerts`: reading and locking. Writing is in `changes`.

use diesel::SelectableHelper;
use diesel::prelude::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::Result;
use crate::model::alert::{Alert, AlertFilter};
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::store::Connection;
use crate::store::rows::alert::AlertRow;
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

/// The same, locked until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, tenant: &TenantId, id: Uuid) -> Result<Option<Alert>> {
    a::table
        .filter(a::tenant_id.eq(tenant.as_str()))
        .filter(a::alert_id.eq(id))
        .select(AlertRow::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?
        .map(Alert::try_from)
        .transpose()
}

/// A page of a tenant's alerts, newest first.
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
        .select(AlertRow::as_select())
        .order(a::alert_id.desc())
        .limit(i64::try_from(page.size + 1).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(a::alert_id.lt(after));
    }
    if let Some(user) = &filter.user {
        query = query.filter(a::user_id.eq(user.as_str()));
    }
    if let Some(session) = filter.session {
        query = query.filter(a::session_id.eq(session));
    }
    if let Some(category) = filter.category {
        query = query.filter(a::category.eq(category as i16));
    }
    if let Some(severity) = filter.minimum_severity {
        query = query.filter(a::severity.ge(severity as i16));
    }
    if let Some(state) = filter.state {
        query = query.filter(a::state.eq(state));
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
    let rows: Vec<AlertRow> = query.load(conn).await?;
    let alerts: Result<Vec<Alert>> = rows.into_iter().map(Alert::try_from).collect();
    Ok(page.cut(alerts?, |alert| alert.id))
}
