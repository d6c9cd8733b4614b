//! Active sessions whose deadlines are later than a policy allows.

use diesel::SelectableHelper;
use diesel::dsl::sql;
use diesel::prelude::{BoolExpressionMethods, ExpressionMethods, QueryDsl};
use diesel::sql_types::{Bool, Interval, Nullable};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::Result;
use crate::model::policy::Policy;
use crate::model::policy::overrides::PolicyScope;
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::rows::found::{Found, sound};
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions as s;

/// A page of sessions.
pub struct OutlivingPage {
    pub sessions: Vec<Session>,
    /// The number of damaged rows besides.
    pub damaged: usize,
    /// Where the next page begins; `None` = nowhere.
    pub next: Option<Uuid>,
}

/// At most `limit` sessions at `scope` that are not ended and whose deadlines are further than those of `policy`, but
/// for the clients in `spared`; newest first, from before `after` on. Damaged rows are logged and skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn outliving(
    conn: &mut Connection,
    scope: &PolicyScope,
    spared: &[&str],
    policy: &Policy,
    after: Option<Uuid>,
    limit: usize,
) -> Result<OutlivingPage> {
    let absolute = sql::<Bool>("absolute_expires_at > coalesce(renewed_at, created_at) + ")
        .bind::<Interval, _>(policy.absolute_timeout);
    // Without an idle timeout in the policy the comparison is unknown, and so selects nothing.
    let idle = sql::<Bool>("coalesce(idle_timeout, interval '1000 years') > ")
        .bind::<Nullable<Interval>, _>(policy.idle_timeout);
    let mut query = s::table
        .filter(s::tenant_id.eq(scope.tenant.as_str()))
        // Text, not a parameter, so that the indexes of what is not ended serve every plan.
        .filter(sql::<Bool>("state = 1"))
        .filter(absolute.or(idle))
        .select(Found::<SessionRow>::as_select())
        .order(s::session_id.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(client) = &scope.client {
        query = query.filter(s::client_id.eq(client.as_str()));
    }
    if !spared.is_empty() {
        query = query.filter(s::client_id.ne_all(spared));
    }
    if let Some(after) = after {
        query = query.filter(s::session_id.lt(after));
    }
    let rows: Vec<Found<SessionRow>> = query.load(conn).await?;
    let next = rows.last().filter(|_| rows.len() == limit).map(Found::id);
    let (sessions, damaged) = sound(rows);
    Ok(OutlivingPage { sessions, damaged: damaged.len(), next })
}
