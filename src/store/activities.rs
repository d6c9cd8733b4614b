//! `session_activities`: reading the audit trail, and the locks under which reports are written.

use diesel::SelectableHelper;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgNetExpressionMethods, QueryDsl,
};
use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityFilter};
use crate::model::ids::{TenantId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::rows::activity::ActivityRow;
use crate::store::rows::found::{self, Found, sound};
use crate::store::rows::session::SessionRow;
use crate::store::schema::{session_activities as a, user_sessions};

statement! {
    /// Blocks deletion only: creates and other reports proceed, while an erasure waits.
    HoldUsers { tenant: &'a str as Text, users: &'a [&'a str] as Array<Text> } -> BigInt,
    "SELECT count(*) FROM (
        SELECT 1 FROM session_users WHERE tenant_id = ? AND user_id = ANY (?)
        ORDER BY user_id FOR KEY SHARE
    ) held"
}

statement! {
    /// Blocks deletion only: a refresh proceeds.
    HoldSessions {
        tenant: &'a str as Text,
        sessions: &'a [Uuid] as Array<SqlUuid>,
    } -> user_sessions::SqlType,
    concat!(
        "SELECT ", session_columns!(), " FROM user_sessions
        WHERE tenant_id = ? AND session_id = ANY (?)
        ORDER BY tenant_id, user_id, session_id FOR KEY SHARE"
    )
}

/// Keeps existing users from being erased until the transaction ends.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn hold_users(conn: &mut Connection, tenant: &TenantId, users: &[&UserId]) -> Result<()> {
    let users: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
    HoldUsers::new(tenant.as_str(), &users).get_result::<i64>(conn).await?;
    Ok(())
}

/// The sessions with these ids, kept from being erased until the transaction ends. Damaged rows are logged and skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn hold_sessions(
    conn: &mut Connection,
    tenant: &TenantId,
    sessions: &[Uuid],
) -> Result<Vec<Session>> {
    let held = HoldSessions::new(tenant.as_str(), sessions);
    Ok(sound(held.load::<Found<SessionRow>>(conn).await?).0)
}

/// The most activities that a page examines.
const LOOKED_AT: i64 = 20_000;

/// A page of a tenant's activities, newest first, without damaged rows. A page of a filter may have fewer rows than its
/// size even if more follow.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(
    conn: &mut Connection,
    tenant: &TenantId,
    filter: &ActivityFilter,
    page: PageRequest<(Time, Uuid)>,
) -> Result<Page<Activity, (Time, Uuid)>> {
    let mut edge: Option<(Time, Uuid)> = None;
    if filter.searches() {
        let last = reach(tenant, filter, page.after).offset(LOOKED_AT - 1).limit(1);
        edge = last.select((a::occurred_at, a::activity_id)).first(conn).await.optional()?;
    }
    let mut query = selected(reach(tenant, filter, page.after), filter)
        .limit(i64::try_from(page.size + 1).unwrap_or(i64::MAX));
    if let Some((at, id)) = edge {
        let earlier = a::occurred_at.gt(at).or(a::activity_id.ge(id));
        query = query.filter(a::occurred_at.ge(at)).filter(earlier);
    }
    let rows = query.select(Found::<ActivityRow>::as_select()).load(conn).await?;
    let found = found::page(page, rows, Found::position)?;
    Ok(Page { next: found.next.or(edge), ..found })
}

/// What an index selects, newest first: the activities of the tenant or one user, by time.
fn reach<'a>(
    tenant: &'a TenantId,
    filter: &'a ActivityFilter,
    after: Option<(Time, Uuid)>,
) -> a::BoxedQuery<'a, Pg> {
    let mut query = a::table
        .filter(a::tenant_id.eq(tenant.as_str()))
        // A time beyond these years cannot be read, and neither can the position of its row.
        .filter(sql::<Bool>("occurred_at < '10000-01-01'"))
        .order((a::occurred_at.desc(), a::activity_id.desc()))
        .into_boxed();
    if let Some((at, id)) = after {
        // The first condition is where an index scan can begin.
        let later = a::occurred_at.lt(at).or(a::activity_id.lt(id));
        query = query.filter(a::occurred_at.le(at)).filter(later);
    }
    if let Some(user) = &filter.user {
        query = query.filter(a::user_id.eq(user.as_str()));
    }
    if let Some(after) = filter.after {
        query = query.filter(a::occurred_at.ge(after));
    }
    if let Some(before) = filter.before {
        query = query.filter(a::occurred_at.lt(before));
    }
    query
}

/// The rows among them that the rest of the filter selects.
fn selected<'a>(
    mut query: a::BoxedQuery<'a, Pg>,
    filter: &'a ActivityFilter,
) -> a::BoxedQuery<'a, Pg> {
    if let Some(session) = filter.session {
        query = query.filter(a::session_id.eq(session));
    }
    if !filter.kinds.is_empty() {
        let kinds: Vec<i16> = filter.kinds.iter().map(|kind| *kind as i16).collect();
        query = query.filter(a::kind.eq_any(kinds));
    }
    if let Some(success) = filter.success {
        query = query.filter(a::success.eq(success));
    }
    if let Some(network) = filter.network {
        query = query.filter(a::ip_address.is_contained_by_or_eq(network));
    }
    if let Some(device) = filter.device {
        query = query.filter(a::device_id.eq(device));
    }
    if let Some(client) = &filter.client {
        query = query.filter(a::client_id.eq(client.as_str()));
    }
    if let Some(principal) = &filter.principal {
        query = query.filter(a::principal.eq(principal));
    }
    if let Some(alert) = filter.alert {
        query = query.filter(a::alert_id.eq(alert));
    }
    query
}
