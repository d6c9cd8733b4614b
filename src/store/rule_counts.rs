//! `security_alerts`, counted by rule.

use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::alert::RuleCounts;
use crate::model::ids::TenantId;
use crate::store::Connection;

/// The most alerts that are counted.
const COUNTED: i64 = 10_000;

statement! {
    /// By the order of ids, which is that of time: at most the limit is read. The row of the empty rule has the number
    /// of alerts read, and the first sight of the oldest.
    CountByRule {
        tenant: &'a str as Text,
        most: i64 as BigInt,
        since: Time as Timestamptz,
    } -> (Text, BigInt, BigInt, BigInt, BigInt, BigInt, Nullable<Timestamptz>),
    "WITH newest AS MATERIALIZED (
        SELECT rule_id, suppression, state, resolution, first_seen_at FROM security_alerts
        WHERE tenant_id = ? ORDER BY alert_id DESC LIMIT ?
    )
    SELECT rule_id, count(*) FILTER (WHERE suppression = 0), count(*) FILTER (WHERE suppression <> 0),
        count(*) FILTER (WHERE suppression = 0 AND state <> 3),
        count(*) FILTER (WHERE suppression = 0 AND resolution = 1),
        count(*) FILTER (WHERE suppression = 0 AND resolution = 2), NULL
    FROM newest WHERE first_seen_at >= ? GROUP BY rule_id
    UNION ALL SELECT '', count(*), 0, 0, 0, 0,
        min(first_seen_at) FILTER (WHERE first_seen_at BETWEEN '1970-01-01' AND '9999-12-31')
    FROM newest"
}

/// The outcomes of the incidents of each rule that were seen first at `since` or later, and from when on they are
/// counted: later, if the newest 10,000 of the tenant do not reach back so far.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn count(
    conn: &mut Connection,
    tenant: &TenantId,
    since: Time,
) -> Result<(Vec<(String, RuleCounts)>, Time)> {
    type Row = (String, i64, i64, i64, i64, i64, Option<Time>);
    let rows: Vec<Row> = CountByRule::new(tenant.as_str(), COUNTED, since).load(conn).await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let (all, of_rules): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|(rule, ..)| rule.is_empty());
    let oldest = all.into_iter().find(|(_, read, ..)| *read >= COUNTED).and_then(|row| row.6);
    let counts = |(rule, raised, suppressed, unresolved, found, wrong, _): Row| {
        let counts = RuleCounts {
            raised: count(raised),
            suppressed: count(suppressed),
            unresolved: count(unresolved),
            true_positives: count(found),
            false_positives: count(wrong),
        };
        (rule, counts)
    };
    let since = oldest.map_or(since, |oldest| oldest.max(since));
    Ok((of_rules.into_iter().map(counts).collect(), since))
}
