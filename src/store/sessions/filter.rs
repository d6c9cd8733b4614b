//! Which sessions a filter selects, as conditions of a query.

use diesel::dsl::{not, sql};
use diesel::pg::Pg;
use diesel::prelude::{BoolExpressionMethods, ExpressionMethods, PgNetExpressionMethods, QueryDsl};
use diesel::sql_types::{Bool, Timestamptz};

use crate::clock::Time;
use crate::model::session::{SessionFilter, StateFilter};
use crate::store::schema::user_sessions as s;

/// `query` with every condition of `filter`. States are judged at `now`.
pub fn selected<'a, T: 'a>(
    mut query: s::BoxedQuery<'a, Pg, T>,
    filter: &'a SessionFilter,
    now: Time,
) -> s::BoxedQuery<'a, Pg, T> {
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
    // Text, not a parameter, so that the indexes of what is not ended serve every plan.
    let unended = || sql::<Bool>("state = 1");
    let lives = || {
        unended().and(s::absolute_expires_at.gt(now)).and(
            sql::<Bool>("(idle_timeout IS NULL OR last_active_at + idle_timeout > ")
                .bind::<Timestamptz, _>(now)
                .sql(")"),
        )
    };
    match filter.state {
        None => query,
        Some(StateFilter::Active) => query.filter(lives()),
        Some(StateFilter::Unended) => query.filter(unended()),
        Some(StateFilter::Terminated) => query.filter(s::state.eq(2)),
        Some(StateFilter::Expired) => query.filter(s::state.eq(3).or(unended().and(not(lives())))),
    }
}
