//! Lists of sessions: newest first, with all columns or only their keys.

use diesel::SelectableHelper;
use diesel::prelude::{ExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::session::{Session, SessionFilter};
use crate::store::Connection;
use crate::store::rows::corrupt;
use crate::store::rows::found::{self, Found};
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions as s;
use crate::store::sessions::filter::selected;

/// A page of a tenant's sessions, without damaged rows. States are judged at `now`.
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
        .select(Found::<SessionRow>::as_select())
        .order(s::session_id.desc())
        .limit(i64::try_from(page.size + 1).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(s::session_id.lt(after));
    }
    query = selected(query, filter, now);
    found::page(page, query.load(conn).await?, |row| Some(row.id()))
}

/// The keys of at most `limit` sessions of a tenant, newest first, from before `after` on. States
/// are judged at `now`.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn matching(
    conn: &mut Connection,
    tenant: &TenantId,
    filter: &SessionFilter,
    after: Option<Uuid>,
    limit: usize,
    now: Time,
) -> Result<Vec<SessionKey>> {
    let mut query = s::table
        .filter(s::tenant_id.eq(tenant.as_str()))
        .select((s::user_id, s::session_id))
        .order(s::session_id.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(s::session_id.lt(after));
    }
    query = selected(query, filter, now);
    let rows: Vec<(String, Uuid)> = query.load(conn).await?;
    let key = |(user, session): (String, Uuid)| {
        let user = UserId::parse(&user);
        let user = user.map_err(|_| corrupt("user_sessions", "user_id", session))?;
        Ok(SessionKey { tenant: tenant.clone(), user, session })
    };
    rows.into_iter().map(key).collect()
}
