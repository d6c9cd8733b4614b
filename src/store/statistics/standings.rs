//! `standings`: the tenants and users, with the present totals of each.

use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::RunQueryDsl;

use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::statistics::{OpenCounts, Summary};
use crate::store::Connection;

/// More devices of a user than that are not counted.
const MAX_DEVICES: i64 = 1000;

statement! {
    /// Steps from tenant to tenant in the primary keys, so that no call reads users.
    Tenants { after: &'a str as Text, limit: i64 as BigInt } -> (Text, BigInt, BigInt, BigInt, BigInt),
    "WITH RECURSIVE t (id, n) AS (
        SELECT a.after, 0::bigint FROM (SELECT ?::text AS after) a
        UNION ALL
        SELECT least(
            (SELECT s.tenant_id FROM standings s WHERE s.tenant_id > t.id ORDER BY 1 LIMIT 1),
            (SELECT p.tenant_id FROM policies p WHERE p.tenant_id > t.id ORDER BY 1 LIMIT 1)
        ), t.n + 1
        FROM t WHERE t.id IS NOT NULL AND t.n < ?
    )
    SELECT t.id, coalesce(s.live, 0), coalesce(s.open_alerts, 0),
        coalesce(s.acknowledged_alerts, 0), 0::bigint
    FROM t LEFT JOIN standings s ON s.tenant_id = t.id AND s.user_id = ''
    WHERE t.id IS NOT NULL AND t.n > 0 ORDER BY t.n"
}

statement! {
    Named {
        names: &'a [&'a str] as Array<Text>,
        after: &'a str as Text,
        limit: i64 as BigInt,
    } -> (Text, BigInt, BigInt, BigInt, BigInt),
    "SELECT k.t, coalesce(s.live, 0), coalesce(s.open_alerts, 0),
        coalesce(s.acknowledged_alerts, 0), 0::bigint
    FROM unnest(?) AS k (t) LEFT JOIN standings s ON s.tenant_id = k.t AND s.user_id = ''
    WHERE k.t > ? AND (s.tenant_id IS NOT NULL
        OR EXISTS (SELECT 1 FROM policies p WHERE p.tenant_id = k.t))
    ORDER BY k.t LIMIT ?"
}

statement! {
    Users {
        most: i64 as BigInt,
        tenant: &'a str as Text,
        after: &'a str as Text,
        limit: i64 as BigInt,
    } -> (Text, BigInt, BigInt, BigInt, BigInt),
    "SELECT s.user_id, s.live, s.open_alerts, s.acknowledged_alerts, (
        SELECT count(*) FROM (
            SELECT 1 FROM devices d
            WHERE d.tenant_id = s.tenant_id AND d.user_id = s.user_id LIMIT ?
        ) capped
    )
    FROM standings s WHERE s.tenant_id = ? AND s.user_id > ?
    ORDER BY s.user_id LIMIT ?"
}

type Row = (String, i64, i64, i64, i64);

/// A page of the tenants that have totals or state a policy; only those of `named`, if any are named.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn tenants(
    conn: &mut Connection,
    named: Option<&[TenantId]>,
    page: PageRequest<String>,
) -> Result<Page<Summary, String>> {
    let (after, limit) = range(&page);
    let rows: Vec<Row> = match named {
        Some(named) => {
            let names: Vec<&str> = named.iter().map(TenantId::as_str).collect();
            Named::new(&names, after, limit).load(conn).await?
        }
        None => Tenants::new(after, limit).load(conn).await?,
    };
    Ok(summaries(page.size, rows))
}

/// A page of the users of a tenant that have totals.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn users(
    conn: &mut Connection,
    tenant: &TenantId,
    page: PageRequest<String>,
) -> Result<Page<Summary, String>> {
    let (after, limit) = range(&page);
    let users = Users::new(MAX_DEVICES, tenant.as_str(), after, limit);
    Ok(summaries(page.size, users.load(conn).await?))
}

/// After which name, and how many rows: one more than the page has says that more follow.
fn range(page: &PageRequest<String>) -> (&str, i64) {
    let limit = i64::try_from(page.size + 1).unwrap_or(i64::MAX);
    (page.after.as_deref().unwrap_or_default(), limit)
}

fn summaries(size: usize, rows: Vec<Row>) -> Page<Summary, String> {
    let summary = |(name, live, open_alerts, acknowledged_alerts, devices)| Summary {
        name,
        standing: OpenCounts { live, open_alerts, acknowledged_alerts },
        devices,
    };
    let follows = rows.len() > size;
    let items: Vec<Summary> = rows.into_iter().take(size).map(summary).collect();
    let next = items.last().filter(|_| follows).map(|last| last.name.clone());
    Page { items, next }
}
