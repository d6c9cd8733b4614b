//! `session_activities`: observations, written in bulk.

use std::net::IpAddr;

use chrono::Duration;
use diesel::sql_types::{Array, BigInt, Inet, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::changes::array;
use crate::store::rows::activity::ActivityRow;

/// How far the clocks of replicas may be apart.
const SKEW: Duration = Duration::minutes(1);

statement! {
    /// By the primary key: the user's activities since the session began.
    Contexts {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        sessions: &'a [Uuid] as Array<SqlUuid>,
        times: &'a [Time] as Array<Timestamptz>,
    } -> (SqlUuid, Nullable<Inet>, Nullable<Text>),
    "SELECT a.session_id, a.ip_address, a.user_agent
    FROM unnest(?, ?, ?, ?) AS k (tenant_id, user_id, session_id, since)
    JOIN session_activities a ON a.tenant_id = k.tenant_id AND a.user_id = k.user_id
        AND a.occurred_at >= k.since AND a.session_id = k.session_id AND a.kind = 26"
}

statement! {
    /// An attempt whose outcome is unknown is repeated with the same ids.
    Enter { activities: &'a str as Text } -> BigInt,
    concat!(
        "WITH entered AS (
            INSERT INTO session_activities (", activity_columns!(), ")
            SELECT ", activity_columns!(), "
            FROM json_populate_recordset(NULL::session_activities, ?::json)
            ON CONFLICT DO NOTHING
            RETURNING 1
        )
        SELECT count(*) FROM entered"
    )
}

/// The contexts of these sessions that were written: session, address, user agent.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn contexts(
    conn: &mut Connection,
    of: &[&Session],
) -> Result<Vec<(Uuid, Option<IpAddr>, Option<String>)>> {
    let tenants: Vec<&str> = of.iter().map(|session| session.key.tenant.as_str()).collect();
    let users: Vec<&str> = of.iter().map(|session| session.key.user.as_str()).collect();
    let ids: Vec<Uuid> = of.iter().map(|session| session.key.session).collect();
    let times: Vec<Time> = of.iter().map(|session| session.created_at - SKEW).collect();
    let rows: Vec<(Uuid, Option<ipnet::IpNet>, Option<String>)> =
        Contexts::new(&tenants, &users, &ids, &times).load(conn).await?;
    Ok(rows.into_iter().map(|(id, net, agent)| (id, net.map(|net| net.addr()), agent)).collect())
}

/// Writes activities that change nothing; those that exist already are skipped. The caller has locked a row of each
/// user, and commits.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn enter(conn: &mut Connection, activities: &[Activity]) -> Result<()> {
    let rows = array(activities.iter().map(ActivityRow::from));
    Enter::new(&rows).get_result::<i64>(conn).await?;
    Ok(())
}
