//! Promise 5 as a query: every committed change of a session has exactly one activity row, and every session that a
//! refresh ended has exactly one alert.

use super::cluster::Db;

/// A row for each session whose trail does not match its state.
const BROKEN: &str = "
    WITH trail AS (
        SELECT tenant_id, user_id, session_id,
            count(*) FILTER (WHERE kind = 1) AS created,
            count(*) FILTER (WHERE kind IN (2, 7)) AS rotated,
            count(DISTINCT generation) FILTER (WHERE kind IN (2, 7)) AS generations,
            count(*) FILTER (WHERE kind IN (3, 4)) AS ended,
            max(kind) FILTER (WHERE kind IN (3, 4)) AS end_kind,
            max(end_reason) AS end_reason
        FROM session_activities WHERE kind IN (1, 2, 3, 4, 7) GROUP BY 1, 2, 3
    ), alarm AS (
        SELECT tenant_id, user_id, session_id, count(*) AS alerts, sum(occurrence_count) AS times
        FROM security_alerts
        WHERE rule_id IN ('refresh_reuse', 'data_regression') GROUP BY 1, 2, 3
    )
    SELECT concat_ws(' ', 'session', session_id, 'of', user_id, 'state', s.state, 'generation',
        s.generation, 'created', created, 'rotated', rotated, 'ended', ended, 'as', t.end_reason,
        'alerts', alerts, 'times', times)
    FROM user_sessions s
    FULL JOIN trail t USING (tenant_id, user_id, session_id)
    LEFT JOIN alarm a USING (tenant_id, user_id, session_id)
    WHERE (s.state IS NOT NULL AND created = 1 AND rotated = s.generation - 1
        AND generations = rotated
        AND ended = CASE WHEN s.state = 1 THEN 0 ELSE 1 END
        AND end_kind IS NOT DISTINCT FROM CASE s.state WHEN 2 THEN 3 WHEN 3 THEN 4 END
        AND t.end_reason IS NOT DISTINCT FROM s.end_reason
        AND coalesce(alerts, 0) = CASE WHEN s.end_reason IN (6, 12) THEN 1 ELSE 0 END
        AND coalesce(times, 1) = 1) IS NOT TRUE";

/// A row for each device whose revision does not match its trail since it was last forgotten.
const BROKEN_DEVICES: &str = "
    WITH trail AS (
        SELECT tenant_id, user_id, device_id, count(*) AS changes
        FROM session_activities a
        WHERE kind IN (9, 10) AND occurred_at > coalesce((
            SELECT max(f.occurred_at) FROM session_activities f WHERE f.kind = 16
                AND (f.tenant_id, f.user_id, f.device_id) = (a.tenant_id, a.user_id, a.device_id)
        ), '-infinity')
        GROUP BY 1, 2, 3
    )
    SELECT concat_ws(' ', 'device', device_id, 'of', user_id, 'revision', revision, 'changes', changes)
    FROM devices FULL JOIN trail USING (tenant_id, user_id, device_id)
    WHERE revision IS DISTINCT FROM 1 + coalesce(changes, 0)";

/// Asserts that every session and every device of the database matches its trail.
///
/// # Panics
/// If one does not match; the message names each of them.
pub async fn check(db: &Db) {
    let mut broken = broken(db).await;
    let rows = db.connect().await.query(BROKEN_DEVICES, &[]).await.expect("a query");
    broken.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    assert!(broken.is_empty(), "not one activity for each change:\n{}", broken.join("\n"));
}

/// The sessions that do not match their trail, each described.
pub async fn broken(db: &Db) -> Vec<String> {
    let rows = db.connect().await.query(BROKEN, &[]).await.expect("a query");
    rows.iter().map(|row| row.get(0)).collect()
}
