//! Reading `session_activities` once more, user by user: each page continues after the one before.

use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::ids::{TenantId, UserId};
use crate::store::Connection;
use crate::store::rows::activity::ActivityRow;
use crate::store::rows::found::{Found, sound};
use crate::store::schema::session_activities;

statement! {
    /// In the order of the primary key.
    OfTenant {
        tenant: &'a str as Text,
        user: &'a str as Text,
        at: Time as Timestamptz,
        id: Uuid as SqlUuid,
        start: Time as Timestamptz,
        end: Time as Timestamptz,
        limit: i64 as BigInt,
    } -> session_activities::SqlType,
    concat!(
        "SELECT ", activity_columns!(), " FROM session_activities
        WHERE tenant_id = ? AND (user_id, occurred_at, activity_id) > (?, ?, ?)
            AND occurred_at >= ? AND occurred_at < ?
        ORDER BY user_id, occurred_at, activity_id LIMIT ?"
    )
}

statement! {
    OfUser {
        tenant: &'a str as Text,
        user: &'a str as Text,
        at: Time as Timestamptz,
        id: Uuid as SqlUuid,
        start: Time as Timestamptz,
        end: Time as Timestamptz,
        limit: i64 as BigInt,
    } -> session_activities::SqlType,
    concat!(
        "SELECT ", activity_columns!(), " FROM session_activities
        WHERE tenant_id = ? AND user_id = ? AND (occurred_at, activity_id) > (?, ?)
            AND occurred_at >= ? AND occurred_at < ?
        ORDER BY occurred_at, activity_id LIMIT ?"
    )
}

/// Selects activities.
pub struct Selection<'a> {
    pub tenant: &'a TenantId,
    /// `None` = all of the tenant.
    pub user: Option<&'a UserId>,
    /// Inclusive.
    pub start: Time,
    /// Exclusive.
    pub end: Time,
}

/// At most `limit` of them after `after`: user by user, each user's in the order of time, without damaged rows; and
/// whether more may follow.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn page(
    conn: &mut Connection,
    of: &Selection<'_>,
    after: Option<&Activity>,
    limit: i64,
) -> Result<(Vec<Activity>, bool)> {
    let Selection { tenant, start, end, .. } = *of;
    let tenant = tenant.as_str();
    // Nothing is before the first moment.
    let (at, id) = after.map_or((Time::MIN_UTC, Uuid::nil()), |last| (last.occurred_at, last.id));
    let at = at.max(start - chrono::Duration::microseconds(1));
    let last = after.and_then(|last| last.user.as_ref()).map_or("", UserId::as_str);
    let rows: Vec<Found<ActivityRow>> = match of.user {
        Some(user) => {
            OfUser::new(tenant, user.as_str(), at, id, start, end, limit).load(conn).await?
        }
        None => OfTenant::new(tenant, last, at, id, start, end, limit).load(conn).await?,
    };
    let full = i64::try_from(rows.len()).is_ok_and(|read| read >= limit);
    Ok((sound(rows).0, full))
}
