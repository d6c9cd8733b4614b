//! Lists of sessions: any combination of filters, newest first.

use diesel::SelectableHelper;
use diesel::dsl::{not, sql};
use diesel::prelude::{BoolExpressionMethods, ExpressionMethods, PgNetExpressionMethods, QueryDsl};
use diesel::sql_types::{Bool, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::session::{Session, SessionFilter, StateFilter};
use crate::store::Connection;
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions as s;

/// A page of a tenant's sessions. States are judged at `now`.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(
    conn: &mut Connection,
    tenant: &TenantId,
    filter: &SessionFilter,
    page: PageRequest,
    now: Time,
) -> Result<Page<Session>> {
    let mut query = s::table
        .filter(s::tenant_id.eq(tenant.as_str()))
        .select(SessionRow::as_select())
        .order(s::session_id.desc())
        .limit(i64::try_from(page.size + 1).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(s::session_id.lt(after));
    }
    if let Some(user) = &filter.user {
        query = query.filter(s::user_id.eq(user.as_str()));
    }
    if let Some(device) = filter.device {
        query = query.filter(s::device_id.eq(device));
    }
    if let Some(client) = &filter.client {
        query = query.filter(s::client_id.eq(client.as_str()));
    }
    if let Some(kind) = filter.device_type {
        query = query.filter(s::device_type.eq(kind as i16));
    }
    if let Some(net) = filter.ip {
        query = query.filter(s::ip_address.is_contained_by_or_eq(net));
    }
    if let Some(after) = filter.created_after {
        query = query.filter(s::created_at.ge(after));
    }
    if let Some(before) = filter.created_before {
        query = query.filter(s::created_at.lt(before));
    }
    if let Some(after) = filter.last_active_after {
        query = query.filter(s::last_active_at.ge(after));
    }
    if let Some(before) = filter.last_active_before {
        query = query.filter(s::last_active_at.lt(before));
    }
    let lives = || {
        s::state.eq(1).and(s::absolute_expires_at.gt(now)).and(
            sql::<Bool>("(idle_timeout IS NULL OR last_active_at + idle_timeout > ")
                .bind::<Timestamptz, _>(now)
                .sql(")"),
        )
    };
    query = match filter.state {
        None => query,
        Some(StateFilter::Active) => query.filter(lives()),
        Some(StateFilter::Terminated) => query.filter(s::state.eq(2)),
        Some(StateFilter::Expired) => {
            query.filter(s::state.eq(3).or(s::state.eq(1).and(not(lives()))))
        }
    };
    let rows: Vec<SessionRow> = query.load(conn).await?;
    let sessions: Result<Vec<Session>> = rows.into_iter().map(Session::try_from).collect();
    Ok(page.cut(sessions?, |session| session.key.session))
}
