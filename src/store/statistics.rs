//! `roll_ups`, `standings` and `counted_alerts`: the statistics of the activities.

use diesel::prelude::OptionalExtension;
use diesel::sql_types::{
    Array, BigInt, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::alert::{Category, Severity};
use crate::model::ids::{TenantId, UserId};
use crate::model::statistics::alerts::AlertFacts;
use crate::model::statistics::{Counts, OpenCounts, Owner};
use crate::store::rows::user_or_none;
use crate::store::{Connection, changes};

pub mod figures;
pub mod standings;

statement! {
    Standings {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
    } -> (Text, Text, BigInt, BigInt, BigInt),
    "SELECT s.tenant_id, s.user_id, s.live, s.open_alerts, s.acknowledged_alerts
    FROM unnest(?, ?) AS k (t, u)
    JOIN standings s ON s.tenant_id = k.t AND s.user_id = k.u"
}

statement! {
    Hours {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        hours: &'a [Time] as Array<Timestamptz>,
    } -> (Text, Text, Timestamptz, Jsonb),
    "SELECT r.tenant_id, r.user_id, r.hour, r.counts
    FROM unnest(?, ?, ?) AS k (t, u, h)
    JOIN roll_ups r ON r.tenant_id = k.t AND r.user_id = k.u AND r.hour = k.h"
}

statement! {
    Alerts {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> (Text, Text, SqlUuid, SmallInt, SmallInt, Text, Timestamptz, SmallInt, Nullable<SmallInt>),
    "SELECT a.tenant_id, a.user_id, a.alert_id, a.category, a.severity, a.rule_id, a.first_seen_at,
        a.state, c.state
    FROM unnest(?, ?, ?) AS k (t, u, i)
    JOIN security_alerts a ON a.tenant_id = k.t AND a.user_id = k.u AND a.alert_id = k.i
    LEFT JOIN counted_alerts c ON c.tenant_id = k.t AND c.user_id = k.u AND c.alert_id = k.i
    WHERE a.suppression = 0"
}

statement! {
    Write {
        standings: &'a str as Text,
        hours: &'a str as Text,
        alerts: &'a str as Text,
    } -> BigInt,
    "WITH standing AS (
        INSERT INTO standings (tenant_id, user_id, live, open_alerts, acknowledged_alerts)
        SELECT tenant_id, user_id, live, open_alerts, acknowledged_alerts
        FROM json_populate_recordset(NULL::standings, ?::json)
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET live = excluded.live,
            open_alerts = excluded.open_alerts, acknowledged_alerts = excluded.acknowledged_alerts
    ), hours AS (
        INSERT INTO roll_ups (tenant_id, user_id, hour, counts)
        SELECT tenant_id, user_id, hour, counts
        FROM json_populate_recordset(NULL::roll_ups, ?::json)
        ON CONFLICT (tenant_id, user_id, hour) DO UPDATE SET counts = excluded.counts
    ), alerts AS (
        INSERT INTO counted_alerts (tenant_id, user_id, alert_id, state)
        SELECT tenant_id, user_id, alert_id, state
        FROM json_populate_recordset(NULL::counted_alerts, ?::json)
        ON CONFLICT (tenant_id, user_id, alert_id) DO UPDATE SET state = excluded.state
    )
    SELECT 1::bigint"
}

statement! {
    Lock { tenant: &'a str as Text } -> BigInt,
    "SELECT live FROM standings WHERE tenant_id = ? AND user_id = '' FOR NO KEY UPDATE"
}

statement! {
    Forget { tenant: &'a str as Text, user: &'a str as Text } -> (BigInt, BigInt, BigInt),
    "DELETE FROM standings WHERE tenant_id = ? AND user_id = ?
    RETURNING live, open_alerts, acknowledged_alerts"
}

/// The counts of an owner in an hour.
pub type OfHour = ((Owner, Time), Counts);
/// The present totals of an owner.
pub type OfOwner = (Owner, OpenCounts);

/// The present totals of these owners, in any order; an owner without a row has none.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn standings(conn: &mut Connection, owners: &[&Owner]) -> Result<Vec<OfOwner>> {
    let (tenants, users) = names(owners);
    let rows: Vec<(String, String, i64, i64, i64)> =
        Standings::new(&tenants, &users).load(conn).await?;
    let parse =
        |(tenant, user, live, open_alerts, acknowledged_alerts): (String, String, _, _, _)| {
            let standing = OpenCounts { live, open_alerts, acknowledged_alerts };
            Ok((owner(&tenant, &user).ok_or_else(|| corrupt("standings"))?, standing))
        };
    rows.into_iter().map(parse).collect()
}

/// The counts of these owners in these hours, in any order.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn hours(conn: &mut Connection, keys: &[&(Owner, Time)]) -> Result<Vec<OfHour>> {
    let owners: Vec<&Owner> = keys.iter().map(|(owner, _)| owner).collect();
    let hours: Vec<Time> = keys.iter().map(|(_, hour)| *hour).collect();
    let (tenants, users) = names(&owners);
    let rows: Vec<(String, String, Time, Value)> =
        Hours::new(&tenants, &users, &hours).load(conn).await?;
    let parse = |(tenant, user, hour, counts): (String, String, Time, Value)| {
        let owner = owner(&tenant, &user).ok_or_else(|| corrupt("roll_ups"))?;
        Ok(((owner, hour), from_json(counts)?))
    };
    rows.into_iter().map(parse).collect()
}

/// What statistics need of these alerts, in any order. One that is suppressed, or was erased, is not among them.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn alerts(conn: &mut Connection, keys: &[(Owner, Uuid)]) -> Result<Vec<AlertFacts>> {
    type Row = (String, String, Uuid, i16, i16, String, Time, i16, Option<i16>);
    let owners: Vec<&Owner> = keys.iter().map(|(owner, _)| owner).collect();
    let ids: Vec<Uuid> = keys.iter().map(|(_, id)| *id).collect();
    let (tenants, users) = names(&owners);
    let rows: Vec<Row> = Alerts::new(&tenants, &users, &ids).load(conn).await?;
    let parse =
        |(tenant, user, id, category, severity, rule_id, raised_at, state, counted): Row| {
            Some(AlertFacts {
                owner: owner(&tenant, &user)?,
                id,
                category: Category::from_number(category.into())?,
                severity: Severity::from_number(severity.into())?,
                rule_id,
                raised_at,
                state,
                counted,
            })
        };
    rows.into_iter().map(|row| parse(row).ok_or_else(|| corrupt("security_alerts"))).collect()
}

/// Stores counts. The caller has claimed the consumer of statistics, or holds it.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn write(
    conn: &mut Connection,
    standings: &[OfOwner],
    hours: &[OfHour],
    alerts: &[AlertFacts],
) -> Result<()> {
    let standings = standings.iter().map(|(owner, standing)| {
        json!({
            "tenant_id": owner.tenant.as_str(), "user_id": user(owner), "live": standing.live,
            "open_alerts": standing.open_alerts,
            "acknowledged_alerts": standing.acknowledged_alerts,
        })
    });
    let hours = hours.iter().map(|((owner, hour), counts)| {
        json!({
            "tenant_id": owner.tenant.as_str(), "user_id": user(owner), "hour": hour,
            "counts": counts,
        })
    });
    let alerts = alerts.iter().map(|alert| {
        json!({
            "tenant_id": alert.owner.tenant.as_str(), "user_id": user(&alert.owner),
            "alert_id": alert.id, "state": alert.state,
        })
    });
    let (standings, hours) = (changes::array(standings), changes::array(hours));
    Write::new(&standings, &hours, &changes::array(alerts)).get_result::<i64>(conn).await?;
    Ok(())
}

/// Deletes the totals of a user, and returns them; those of the tenant are then locked. The caller holds the consumer
/// of statistics.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn forget(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
) -> Result<Option<OpenCounts>> {
    Lock::new(tenant.as_str()).get_result::<i64>(conn).await.optional()?;
    let gone: Option<(i64, i64, i64)> =
        Forget::new(tenant.as_str(), user.as_str()).get_result(conn).await.optional()?;
    Ok(gone.map(|(live, open_alerts, acknowledged_alerts)| OpenCounts {
        live,
        open_alerts,
        acknowledged_alerts,
    }))
}

fn names<'a>(owners: &[&'a Owner]) -> (Vec<&'a str>, Vec<&'a str>) {
    let tenants = owners.iter().map(|owner| owner.tenant.as_str()).collect();
    (tenants, owners.iter().map(|owner| user(owner)).collect())
}

fn user(owner: &Owner) -> &str {
    owner.user.as_ref().map_or("", UserId::as_str)
}

fn owner(tenant: &str, user: &str) -> Option<Owner> {
    Some(Owner { tenant: TenantId::parse(tenant).ok()?, user: user_or_none(user)? })
}

fn from_json<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Internal(error.into()))
}

fn corrupt(table: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{table} holds an impossible value"))
}
