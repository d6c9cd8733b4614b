//! Writing a unit of work: all its rows in one statement.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::Changes;
use crate::error::{Error, Outage, Result};
use crate::model::ids::DeviceKey;
use crate::model::session::State;
use crate::model::user_device::UserDevice;
use crate::model::watermark::Watermark;
use crate::store::pool::Transaction;
use crate::store::rows::activity::ActivityRow;
use crate::store::rows::alert::AlertRow;
use crate::store::rows::device::DeviceRow;
use crate::store::rows::request::RequestRow;
use crate::store::rows::revocation::RevocationRow;
use crate::store::rows::session::SessionRow;
use crate::store::{devices, policies, requests};

/// A column that moves forward with another.
macro_rules! newer {
    ($measure:literal: $($column:literal),+ $(,)?) => {
        concat!($(
            $column, " = CASE WHEN excluded.", $measure, " > d.", $measure,
            " THEN excluded.", $column, " ELSE d.", $column, " END, "
        ),+)
    };
}
// Columns are named, not `*`: a replica of an older version must leave a newer column its default.
macro_rules! request_columns {
    () => {
        "tenant_id, request_id, fingerprint, user_id, subject_id, related_ids, created_at, \
         done_count, complete"
    };
}
macro_rules! revocation_columns {
    () => {
        "tenant_id, level, subject, below_generation, revoked_at, evict_at"
    };
}

statement! {
    /// All parts see the same snapshot; the rows to change are locked before, so the snapshot has them all.
    named Write {
        created: String as Text,
        updated: String as Text,
        devices: String as Text,
        raised_alerts: String as Text,
        updated_alerts: String as Text,
        activities: String as Text,
        remembered: String as Text,
        revocations: String as Text,
    } -> (BigInt, BigInt, BigInt, Text),
    concat!("WITH created AS (
        INSERT INTO user_sessions (", session_columns!(), ")
        SELECT ", session_columns!(), " FROM json_populate_recordset(NULL::user_sessions, $created::json)
    ), updated AS (
        UPDATE user_sessions s SET
            device = r.device, device_type = r.device_type,
            ip_address = r.ip_address, user_agent = r.user_agent, location = r.location,
            acr = r.acr, amr = r.amr, auth_time = r.auth_time, metadata = r.metadata,
            last_active_at = r.last_active_at, idle_timeout = r.idle_timeout,
            absolute_expires_at = r.absolute_expires_at, sweep_at = r.sweep_at,
            state = r.state, end_reason = r.end_reason, ended_at = r.ended_at,
            ended_by = r.ended_by, end_note = r.end_note,
            generation = r.generation, generation_key_id = r.generation_key_id,
            rotated_at = r.rotated_at, confirmed_generation = r.confirmed_generation,
            renewed_at = r.renewed_at, min_generation = r.min_generation,
            step_up_at = r.step_up_at, scope = r.scope, claims = r.claims
        FROM json_populate_recordset(NULL::user_sessions, $updated::json) r
        WHERE s.tenant_id = r.tenant_id AND s.user_id = r.user_id
            AND s.session_id = r.session_id AND s.state = 1
        RETURNING 1
    ), seen AS (
        INSERT INTO devices AS d (", device_columns!(), ")
        SELECT ", device_columns!(), " FROM json_populate_recordset(NULL::devices, $devices::json)
        ON CONFLICT (tenant_id, user_id, device_id) DO UPDATE SET
            ", newer!("described_at": "device_type", "details"),
            newer!("last_seen_at": "last_seen_ip", "last_seen_location"),
            newer!("revision": "display_name", "chosen_type", "trusted", "revoked_at"), "
            described_at = greatest(d.described_at, excluded.described_at),
            last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at),
            revision = greatest(d.revision, excluded.revision)
        WHERE excluded.described_at > d.described_at OR excluded.last_seen_at > d.last_seen_at
            OR excluded.revision > d.revision
    ), new_alerts AS (
        SELECT * FROM json_populate_recordset(NULL::security_alerts, $raised_alerts::json)
    ), raised AS (
        INSERT INTO security_alerts AS a (", alert_columns!(), ")
        SELECT ", alert_columns!(), " FROM new_alerts
        ON CONFLICT (tenant_id, user_id, dedup_key) DO UPDATE SET
            occurrence_count = a.occurrence_count + 1, revision = a.revision + 1,
            last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at),
            dedup_until = greatest(a.dedup_until, excluded.dedup_until)
        RETURNING a.tenant_id, a.user_id, a.dedup_key, a.alert_id
    ), updated_alerts AS (
        UPDATE security_alerts a SET
            dedup_key = r.dedup_key, dedup_until = r.dedup_until,
            occurrence_count = r.occurrence_count, last_seen_at = r.last_seen_at,
            action_taken = r.action_taken, state = r.state, acknowledged_by = r.acknowledged_by,
            acknowledged_at = r.acknowledged_at, resolved_by = r.resolved_by,
            resolved_at = r.resolved_at, resolution = r.resolution, notes = r.notes,
            revision = r.revision, suppressed_until = r.suppressed_until, assignee = r.assignee
        FROM json_populate_recordset(NULL::security_alerts, $updated_alerts::json) r
        WHERE a.tenant_id = r.tenant_id AND a.user_id = r.user_id AND a.alert_id = r.alert_id
        RETURNING 1
    ), recorded AS (
        INSERT INTO session_activities (", activity_columns!(), ")
        SELECT ", activity_columns!("CASE kind WHEN 13 THEN coalesce((
            SELECT raised.alert_id FROM new_alerts n JOIN raised USING (tenant_id, user_id, dedup_key)
            WHERE n.alert_id = r.alert_id
        ), alert_id) ELSE alert_id END"), "
        FROM json_populate_recordset(NULL::session_activities, $activities::json) r
    ), remembered AS (
        INSERT INTO requests AS q (", request_columns!(), ")
        SELECT ", request_columns!(), " FROM json_populate_recordset(NULL::requests, $remembered::json)
        ON CONFLICT (tenant_id, request_id) DO UPDATE SET
            fingerprint = excluded.fingerprint, user_id = excluded.user_id,
            subject_id = excluded.subject_id, related_ids = excluded.related_ids,
            created_at = excluded.created_at, done_count = excluded.done_count,
            complete = excluded.complete
        WHERE q.created_at <= excluded.created_at - interval '24 hours'
        RETURNING 1
    ), revocations_written AS (
        INSERT INTO revocations AS v (", revocation_columns!(), ")
        SELECT ", revocation_columns!(), " FROM json_populate_recordset(NULL::revocations, $revocations::json)
        ON CONFLICT (xid, tenant_id, level, subject) DO UPDATE SET
            below_generation = greatest(v.below_generation, excluded.below_generation),
            revoked_at = greatest(v.revoked_at, excluded.revoked_at),
            evict_at = greatest(v.evict_at, excluded.evict_at)
    )
    SELECT (SELECT count(*) FROM updated), (SELECT count(*) FROM updated_alerts),
        (SELECT count(*) FROM remembered), pg_current_xact_id()::text")
}

impl Changes {
    /// Writes everything, if there is anything. The caller commits, and only then is anything revoked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with [`Outage::Raced`] if another transaction took one of the request ids
    /// meanwhile, and what the database reports. Nothing may be committed after an error.
    pub async fn write(&self, tx: &mut Transaction) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        for key in &self.forgotten {
            devices::delete(tx, key).await?;
        }
        for change in &self.administered {
            change.apply(tx, self.at).await?;
        }
        let (new, locked): (Vec<_>, Vec<_>) =
            self.sessions.values().partition(|change| change.is_new);
        let write = Write {
            created: array(new.iter().map(|change| SessionRow::from(&change.session))),
            updated: array(locked.iter().map(|change| SessionRow::from(&change.session))),
            devices: array(self.seen_devices().values().map(DeviceRow::from)),
            raised_alerts: array(self.raised.iter().map(AlertRow::from)),
            updated_alerts: array(self.updated_alerts.iter().map(AlertRow::from)),
            activities: array(self.activities.iter().map(ActivityRow::from)),
            remembered: array(self.remembered.iter().map(RequestRow::from)),
            revocations: array(self.revocations.iter().map(RevocationRow::from)),
        };
        #[cfg(debug_assertions)]
        let write = if new.is_empty() && crate::broken::is("no-activity") {
            Write { activities: "[]".to_owned(), ..write }
        } else if crate::broken::is("loses-rows") && !new.is_empty() && crate::broken::seldom() {
            Write { created: "[]".to_owned(), ..write }
        } else {
            write
        };
        let (updated, updated_alerts, remembered, xid): (i64, i64, i64, String) =
            write.get_result(&mut **tx).await?;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        if updated != count(locked.len()) || updated_alerts != count(self.updated_alerts.len()) {
            return Err(Error::Internal(anyhow::anyhow!("a locked row was not there to change")));
        }
        if remembered != count(self.remembered.len()) {
            return Err(Error::Unavailable(Outage::Raced("request_id in use".to_owned())));
        }
        if let Some(progress) = &self.progress {
            requests::advance(tx, progress).await?;
        }
        if !self.policies.is_empty() {
            policies::decide(tx, &self.policies).await?;
        }
        let xid = xid.parse().map_err(|_| anyhow::anyhow!("no transaction: {xid}"))?;
        tx.wrote(Watermark::of(xid), &self.revocations);
        Ok(())
    }

    /// Each device once, since an upsert must not meet a row twice, and in the order in which rows are locked.
    fn seen_devices(&self) -> BTreeMap<DeviceKey, UserDevice> {
        let mut seen = self.devices.clone();
        let changes = self.sessions.values();
        let met = changes.filter(|change| change.is_new || change.session.state != State::Active);
        for device in met.map(|change| UserDevice::of_session(&change.session)) {
            match seen.get_mut(&device.key) {
                Some(known) => known.merge(device),
                None => _ = seen.insert(device.key.clone(), device),
            }
        }
        seen
    }
}

/// Rows as a JSON array.
pub(in crate::store) fn array<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    let rows: Vec<T> = rows.collect();
    serde_json::to_string(&rows).expect("rows are plain data")
}
