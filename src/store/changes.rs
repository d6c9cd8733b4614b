//! Every change of state leaves through here: rows, activities, alerts and remembered requests of
//! any number of calls, in one statement.

use std::collections::{BTreeMap, HashSet};

use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::alert::Alert;
use crate::model::ids::DeviceKey;
use crate::model::policy::overrides::Level;
use crate::model::request::{Progress, Remembered};
use crate::model::revocation::{Revocation, Subject};
use crate::model::session::{End, Session, State};
use crate::model::user_device::UserDevice;
use crate::model::watermark::Watermark;
use crate::store::pool::Transaction;
use crate::store::rows::activity::ActivityRow;
use crate::store::rows::alert::AlertRow;
use crate::store::rows::device::DeviceRow;
use crate::store::rows::request::RequestRow;
use crate::store::rows::revocation::RevocationRow;
use crate::store::rows::session::SessionRow;
use crate::store::{policies, requests};

/// What a unit of work decided to write.
#[derive(Default)]
pub struct Changes {
    /// New sessions.
    pub created: Vec<Session>,
    /// Sessions that the transaction has locked and changed, each at most once.
    pub changed: Vec<Session>,
    /// Devices that the transaction has locked and changed, and such as were seen. Those of sessions that are
    /// created or ended need not be named.
    pub devices: Vec<UserDevice>,
    /// New alerts ([`Changes::raise`]).
    pub raised: Vec<Alert>,
    /// Alerts that the transaction has locked and changed.
    pub worked: Vec<Alert>,
    /// One for each change.
    pub activities: Vec<Activity>,
    /// Request ids that must not be taken.
    pub remembered: Vec<Remembered>,
    /// How far a request got by now that works in steps; locked before, or remembered here.
    pub progressed: Option<Progress>,
    /// Levels of policy, new or locked and changed.
    pub policies: Vec<Level>,
    /// Sessions that the transaction has locked and only moved forward: what others know of them by heart stays true.
    pub moved: Vec<Session>,
    /// What must not be known by heart any more, besides the sessions of `changed`.
    pub revoked: Vec<Revocation>,
}

// Columns are named, not `*`: a replica of an older version must leave a newer column its default.
macro_rules! device_columns {
    () => {
        "tenant_id, user_id, device_id, device_type, details, described_at, display_name, \
         chosen_type, trusted, first_seen_at, first_seen_ip, first_seen_location, last_seen_at, \
         last_seen_ip, last_seen_location, revoked_at, revision"
    };
}
/// A column that moves forward with another.
macro_rules! newer {
    ($measure:literal: $($column:literal),+ $(,)?) => {
        concat!($(
            $column, " = CASE WHEN excluded.", $measure, " > d.", $measure,
            " THEN excluded.", $column, " ELSE d.", $column, " END, "
        ),+)
    };
}
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
    /// All parts see the same snapshot; the rows to change are locked before, so none is missed.
    Write {
        created: &'a str as Text,
        changed: &'a str as Text,
        devices: &'a str as Text,
        raised: &'a str as Text,
        worked: &'a str as Text,
        activities: &'a str as Text,
        remembered: &'a str as Text,
        revoked: &'a str as Text,
    } -> (BigInt, BigInt, BigInt, Text),
    concat!("WITH created AS (
        INSERT INTO user_sessions (", session_columns!(), ")
        SELECT ", session_columns!(), " FROM json_populate_recordset(NULL::user_sessions, ?::json)
    ), changed AS (
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
            step_up_at = r.step_up_at
        FROM json_populate_recordset(NULL::user_sessions, ?::json) r
        WHERE s.tenant_id = r.tenant_id AND s.user_id = r.user_id
            AND s.session_id = r.session_id AND s.state = 1
        RETURNING 1
    ), seen AS (
        INSERT INTO devices AS d (", device_columns!(), ")
        SELECT ", device_columns!(), " FROM json_populate_recordset(NULL::devices, ?::json)
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
        SELECT * FROM json_populate_recordset(NULL::security_alerts, ?::json)
    ), raised AS (
        INSERT INTO security_alerts AS a (", alert_columns!(), ")
        SELECT ", alert_columns!(), " FROM new_alerts
        ON CONFLICT (tenant_id, user_id, dedup_key) DO UPDATE SET
            occurrence_count = a.occurrence_count + 1, revision = a.revision + 1,
            last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at),
            dedup_until = greatest(a.dedup_until, excluded.dedup_until)
        RETURNING a.tenant_id, a.user_id, a.dedup_key, a.alert_id
    ), worked AS (
        UPDATE security_alerts a SET
            dedup_key = r.dedup_key, dedup_until = r.dedup_until,
            occurrence_count = r.occurrence_count, last_seen_at = r.last_seen_at,
            action_taken = r.action_taken, state = r.state, acknowledged_by = r.acknowledged_by,
            acknowledged_at = r.acknowledged_at, resolved_by = r.resolved_by,
            resolved_at = r.resolved_at, resolution = r.resolution, notes = r.notes,
            revision = r.revision, suppressed_until = r.suppressed_until
        FROM json_populate_recordset(NULL::security_alerts, ?::json) r
        WHERE a.tenant_id = r.tenant_id AND a.user_id = r.user_id AND a.alert_id = r.alert_id
        RETURNING 1
    ), recorded AS (
        INSERT INTO session_activities (", activity_columns!(), ")
        SELECT ", activity_columns!("CASE kind WHEN 13 THEN coalesce((
            SELECT raised.alert_id FROM new_alerts n JOIN raised USING (tenant_id, user_id, dedup_key)
            WHERE n.alert_id = r.alert_id
        ), alert_id) ELSE alert_id END"), "
        FROM json_populate_recordset(NULL::session_activities, ?::json) r
    ), remembered AS (
        INSERT INTO requests AS q (", request_columns!(), ")
        SELECT ", request_columns!(), " FROM json_populate_recordset(NULL::requests, ?::json)
        ON CONFLICT (tenant_id, request_id) DO UPDATE SET
            fingerprint = excluded.fingerprint, user_id = excluded.user_id,
            subject_id = excluded.subject_id, related_ids = excluded.related_ids,
            created_at = excluded.created_at, done_count = excluded.done_count,
            complete = excluded.complete
        WHERE q.created_at <= excluded.created_at - interval '24 hours'
        RETURNING 1
    ), revoked AS (
        INSERT INTO revocations AS v (", revocation_columns!(), ")
        SELECT ", revocation_columns!(), " FROM json_populate_recordset(NULL::revocations, ?::json)
        ON CONFLICT (xid, tenant_id, level, subject) DO UPDATE SET
            below_generation = greatest(v.below_generation, excluded.below_generation),
            evict_at = greatest(v.evict_at, excluded.evict_at)
    )
    SELECT (SELECT count(*) FROM changed), (SELECT count(*) FROM worked),
        (SELECT count(*) FROM remembered), pg_current_xact_id()::text")
}

impl Changes {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.changed.is_empty()
            && self.devices.is_empty()
            && self.raised.is_empty()
            && self.worked.is_empty()
            && self.activities.is_empty()
            && self.remembered.is_empty()
            && self.progressed.is_none()
            && self.policies.is_empty()
            && self.moved.is_empty()
            && self.revoked.is_empty()
    }

    /// Ends a locked, active session at `end.at`, or writes down that it has expired by then: an
    /// end that was told is final, whatever other replicas saw. True if it had not expired. `id` is
    /// the activity's.
    pub fn end(&mut self, session: &mut Session, end: End, id: Uuid) -> bool {
        let now = end.at;
        let (kind, end) = match session.state_at(now) {
            State::Active => (ActivityKind::Terminated, end),
            State::Ended(expiry) => (ActivityKind::Expired, expiry),
        };
        let by = end.by.clone().unwrap_or_else(|| SYSTEM.to_owned());
        session.end(end);
        self.activities.push(Activity::of_session(id, now, kind, &by, session));
        self.changed.push(session.clone());
        kind == ActivityKind::Terminated
    }

    /// Raises `alert`, or counts up the one that has its key already. `id` is the activity's, which
    /// names whichever it was.
    pub fn raise(&mut self, alert: Alert, id: Uuid) {
        let (at, by) = (alert.first_seen_at, alert.raised_by.clone());
        let raised = Activity::of_alert(id, at, ActivityKind::AlertRaised, &by, &alert);
        self.activities.push(raised);
        self.raised.push(alert);
    }

    /// Writes everything. The caller commits, and only then is anything revoked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with [`Outage::Raced`] if another transaction took one of the request ids
    /// meanwhile, and what the database reports. Nothing may be committed after an error.
    pub async fn write(&self, tx: &mut Transaction) -> Result<()> {
        let revocations = self.revocations();
        let created = array(self.created.iter().map(SessionRow::from));
        let changed = self.changed.iter().chain(&self.moved);
        let changed = array(changed.map(SessionRow::from));
        let devices = array(self.seen().values().map(DeviceRow::from));
        let raised = array(self.raised.iter().map(AlertRow::from));
        let worked = array(self.worked.iter().map(AlertRow::from));
        let activities = array(self.activities.iter().map(ActivityRow::from));
        let remembered = array(self.remembered.iter().map(RequestRow::from));
        let revoked = array(revocations.iter().map(RevocationRow::from));
        let (created, changed, devices) = (&created, &changed, &devices);
        let (raised, worked, activities) = (&raised, &worked, &activities);
        let write = Write::new(
            created,
            changed,
            devices,
            raised,
            worked,
            activities,
            &remembered,
            &revoked,
        );
        let written: (i64, i64, i64, String) = write.get_result(&mut **tx).await?;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let changed = self.changed.len() + self.moved.len();
        if (written.0, written.1) != (count(changed), count(self.worked.len())) {
            return Err(Error::Internal(anyhow::anyhow!("a locked row was not there to change")));
        }
        if written.2 != count(self.remembered.len()) {
            return Err(Error::Unavailable(Outage::Raced("request_id in use".to_owned())));
        }
        if let Some(progress) = &self.progressed {
            requests::advance(tx, progress).await?;
        }
        if !self.policies.is_empty() {
            policies::decide(tx, &self.policies).await?;
        }
        let xid =
            written.3.parse().map_err(|_| anyhow::anyhow!("no transaction: {}", written.3))?;
        tx.wrote(Watermark::of(xid), revocations);
        Ok(())
    }

    /// What nobody may know by heart once this is committed.
    fn revocations(&self) -> Vec<Revocation> {
        let named: HashSet<&Subject> = self.revoked.iter().map(|of| &of.subject).collect();
        // Who changes a session without an activity of the same time names it in `revoked`.
        let at = self.activities.iter().map(|activity| activity.occurred_at).max();
        let changed = at.into_iter().flat_map(|at| {
            self.changed.iter().map(move |session| Revocation::of_session(session, at))
        });
        let besides = changed.filter(|of| !named.contains(&of.subject));
        self.revoked.iter().cloned().chain(besides).collect()
    }

    /// Each device once, since an upsert must not meet a row twice, and in the order in which rows are locked.
    fn seen(&self) -> BTreeMap<DeviceKey, UserDevice> {
        let ended = self.changed.iter().filter(|session| session.state != State::Active);
        let met = self.created.iter().chain(ended).map(UserDevice::of_session);
        let mut seen: BTreeMap<DeviceKey, UserDevice> = BTreeMap::new();
        for device in self.devices.iter().cloned().chain(met) {
            match seen.get_mut(&device.key) {
                Some(known) => known.merge(device),
                None => _ = seen.insert(device.key.clone(), device),
            }
        }
        seen
    }
}

pub(super) fn array<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    let rows: Vec<T> = rows.collect();
    serde_json::to_string(&rows).expect("rows are plain data")
}
