//! The contents of the tables at the end, with the commit time of each change.

use tokio_postgres::Row;
use uuid::Uuid;

use crate::record::{Epoch, Micros};
use crate::users::USERS;
use crate::world::World;

#[derive(Debug, Default)]
pub struct Tables {
    pub sessions: Vec<SessionRow>,
    /// In the order of their commits.
    pub trail: Vec<Change>,
    pub devices: Vec<Revised>,
    pub alerts: Vec<AlertRow>,
    pub policies: Vec<PolicyRow>,
}

#[derive(Debug)]
pub struct SessionRow {
    pub id: Uuid,
    /// An index of `USERS`.
    pub who: usize,
    pub client: String,
    pub device_type: i16,
    pub active: bool,
    pub end_reason: Option<i16>,
    pub created: Micros,
    pub ended: Option<Micros>,
    pub last_active: Micros,
    pub absolute: Micros,
    pub generation: u32,
    pub min_generation: u32,
    /// The tag that its create wrote into the metadata.
    pub tag: String,
}

/// A row of the audit trail.
#[derive(Debug)]
pub struct Change {
    pub id: Uuid,
    pub tenant: String,
    pub who: Option<usize>,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    pub alert: Option<Uuid>,
    pub client: String,
    pub kind: i16,
    pub end_reason: Option<i16>,
    pub generation: Option<u32>,
    pub name: String,
    pub principal: String,
    pub xid: i64,
    pub committed: Micros,
    /// The time of the change, by the clock of the replica.
    pub at: Micros,
}

#[derive(Debug)]
pub struct Revised {
    pub id: Uuid,
    pub who: Option<usize>,
    pub revision: u64,
}

#[derive(Debug)]
pub struct AlertRow {
    pub id: Uuid,
    pub who: Option<usize>,
    pub session: Option<Uuid>,
    pub rule: String,
    pub revision: u64,
    pub occurrences: i32,
}

#[derive(Debug)]
pub struct PolicyRow {
    pub tenant: String,
    pub client: String,
    pub revision: u64,
}

impl Change {
    /// True if an erasure may take it from the tables.
    pub fn is_of_erased(&self) -> bool {
        self.who.is_some_and(|who| USERS[who].erased)
    }
}

/// Kinds of activities.
pub mod kind {
    pub const CREATED: i16 = 1;
    pub const REFRESHED: i16 = 2;
    pub const TERMINATED: i16 = 3;
    pub const EXPIRED: i16 = 4;
    pub const ALERT_ACKNOWLEDGED: i16 = 5;
    pub const ALERT_RESOLVED: i16 = 6;
    pub const REAUTHENTICATED: i16 = 7;
    pub const SESSION_UPDATED: i16 = 8;
    pub const DEVICE_UPDATED: i16 = 9;
    pub const DEVICE_REVOKED: i16 = 10;
    pub const POLICY_UPDATED: i16 = 11;
    pub const ALERT_RAISED: i16 = 13;
    pub const ALERT_REOPENED: i16 = 14;
    pub const STEP_UP_REQUIRED: i16 = 15;

    /// The kinds that change an alert.
    pub const OF_ALERTS: [i16; 4] =
        [ALERT_RAISED, ALERT_ACKNOWLEDGED, ALERT_RESOLVED, ALERT_REOPENED];

    /// The kinds that change a session.
    pub const OF_SESSIONS: [i16; 7] = [
        CREATED,
        REFRESHED,
        TERMINATED,
        EXPIRED,
        REAUTHENTICATED,
        SESSION_UPDATED,
        STEP_UP_REQUIRED,
    ];
}

/// End reasons of sessions.
pub mod reason {
    pub const LIMIT: i16 = 3;
    pub const CREDENTIAL_CHANGED: i16 = 5;
    pub const REFRESH_REUSE: i16 = 6;
}

const SESSIONS: &str = "SELECT session_id::text, tenant_id, user_id, client_id,
    device_type, state, end_reason, micros(ended_at), micros(last_active_at),
    micros(absolute_expires_at), generation, min_generation,
    coalesce(metadata->>'tag', ''), micros(created_at) FROM user_sessions";

const TRAIL: &str = "SELECT activity_id::text, tenant_id, user_id, session_id::text,
    device_id::text, alert_id::text, coalesce(client_id, ''), kind, end_reason, generation,
    coalesce(name, ''), xid::text::bigint, micros(pg_xact_commit_timestamp(xid::xid)), principal,
    micros(occurred_at)
    FROM session_activities ORDER BY 13, 12, occurred_at, activity_id";

const DEVICES: &str = "SELECT device_id::text, tenant_id, user_id, revision FROM devices";

const ALERTS: &str = "SELECT alert_id::text, tenant_id, user_id, session_id::text, rule_id,
    revision, occurrence_count FROM security_alerts";

const POLICIES: &str = "SELECT tenant_id, client_id, revision FROM policies";

/// Converts to microseconds since 1970.
const MICROS: &str = "CREATE OR REPLACE FUNCTION pg_temp.micros(timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE AS $$ SELECT (extract(epoch FROM $1) * 1000000)::bigint $$";

impl Tables {
    pub async fn read(world: &World) -> anyhow::Result<Tables> {
        let db = world.connect().await?;
        db.batch_execute(MICROS).await?;
        let sql = |text: &str| text.replace("micros(", "pg_temp.micros(");
        let rows = async |text: &str| db.query(&sql(text), &[]).await;
        let epoch = &world.epoch;
        Ok(Tables {
            sessions: rows(SESSIONS).await?.iter().filter_map(|row| session(row, epoch)).collect(),
            trail: rows(TRAIL).await?.iter().map(|row| change(row, epoch)).collect(),
            devices: rows(DEVICES).await?.iter().map(device).collect(),
            alerts: rows(ALERTS).await?.iter().map(alert).collect(),
            policies: rows(POLICIES).await?.iter().map(policy).collect(),
        })
    }
}

pub fn who(tenant: &str, user: &str) -> Option<usize> {
    USERS.iter().position(|known| known.tenant == tenant && known.name == user)
}

fn id(row: &Row, column: usize) -> Option<Uuid> {
    row.get::<_, Option<&str>>(column).and_then(|text| text.parse().ok())
}

fn number(row: &Row, column: usize) -> u32 {
    u32::try_from(row.get::<_, i32>(column)).unwrap_or_default()
}

fn session(row: &Row, epoch: &Epoch) -> Option<SessionRow> {
    let at = |column| row.get::<_, Option<i64>>(column).map(|wall| epoch.of_wall(wall));
    Some(SessionRow {
        id: id(row, 0)?,
        who: who(row.get(1), row.get(2))?,
        client: row.get(3),
        device_type: row.get(4),
        active: row.get::<_, i16>(5) == 1,
        end_reason: row.get(6),
        ended: at(7),
        last_active: at(8)?,
        absolute: at(9)?,
        generation: number(row, 10),
        min_generation: number(row, 11),
        tag: row.get(12),
        created: at(13)?,
    })
}

fn change(row: &Row, epoch: &Epoch) -> Change {
    Change {
        id: id(row, 0).unwrap_or_default(),
        tenant: row.get(1),
        who: who(row.get(1), row.get(2)),
        session: id(row, 3),
        device: id(row, 4),
        alert: id(row, 5),
        client: row.get(6),
        kind: row.get(7),
        end_reason: row.get(8),
        generation: row.get::<_, Option<i32>>(9).and_then(|it| u32::try_from(it).ok()),
        name: row.get(10),
        principal: row.get(13),
        at: epoch.of_wall(row.get(14)),
        xid: row.get(11),
        committed: row.get::<_, Option<i64>>(12).map_or(0, |wall| epoch.of_wall(wall)),
    }
}

fn device(row: &Row) -> Revised {
    let (id, who) = (id(row, 0).unwrap_or_default(), who(row.get(1), row.get(2)));
    Revised { id, who, revision: u64::from(number(row, 3)) }
}

fn alert(row: &Row) -> AlertRow {
    AlertRow {
        id: id(row, 0).unwrap_or_default(),
        who: who(row.get(1), row.get(2)),
        session: id(row, 3),
        rule: row.get(4),
        revision: u64::from(number(row, 5)),
        occurrences: row.get(6),
    }
}

fn policy(row: &Row) -> PolicyRow {
    let revision = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
    PolicyRow { tenant: row.get(0), client: row.get(1), revision }
}
