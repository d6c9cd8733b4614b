//! Writes observations under the locks of their sessions. So none concerns an erased user, and no
//! context is written twice by several replicas.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use super::{Observation, UseContext, network};
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::ids::SessionKey;
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::pool::Database;
use crate::store::sessions::LockedSessions;
use crate::store::{observations, sessions};

/// Writes the observations that are not written yet. A repetition writes nothing, so an attempt can
/// be retried. Returns the number of observations whose sessions are damaged: they are lost. If
/// `skips` is set, locked rows are skipped and their sessions returned too.
pub(super) async fn write(
    db: &Database,
    batch: &[Observation],
    skips: bool,
) -> Result<(u64, HashSet<Uuid>)> {
    let mut tx = db.begin().await?;
    let (there, damaged, locked) = lock(&mut tx, batch, skips).await?;
    let known = known(&mut tx, batch, &there).await?;
    let is_there = |key: &SessionKey| there.contains_key(key);
    let activities: Vec<Activity> = batch
        .iter()
        .filter(|observation| observation.witness.as_ref().is_none_or(is_there))
        .filter(|observation| {
            observation.key.context().is_none_or(|context| !known.contains(&context))
        })
        .map(Observation::activity)
        .collect();
    if !activities.is_empty() {
        observations::enter(&mut tx, &activities).await?;
    }
    tx.commit().await?;
    let of = |observation: &&Observation| {
        observation.witness.as_ref().is_some_and(|key| damaged.contains(&key.session))
    };
    Ok((batch.iter().filter(of).count() as u64, locked))
}

/// The existing sessions of `batch`, the ids of the damaged ones, and those of the ones skipped because of `skips`.
async fn lock(
    conn: &mut Connection,
    batch: &[Observation],
    skips: bool,
) -> Result<(BTreeMap<SessionKey, Session>, Vec<Uuid>, HashSet<Uuid>)> {
    let keys: BTreeSet<&SessionKey> =
        batch.iter().filter_map(|observation| observation.witness.as_ref()).collect();
    let keys: Vec<&SessionKey> = keys.into_iter().collect();
    let locked = match skips {
        true => sessions::lock_free(conn, &keys).await?,
        false => {
            let (sessions, damaged) = sessions::lock_sound(conn, &keys).await?;
            LockedSessions { sessions, damaged, ..LockedSessions::default() }
        }
    };
    let LockedSessions { sessions, damaged, held } = locked;
    let locked = held.into_keys().collect();
    let there = sessions.into_iter().map(|session| (session.key.clone(), session)).collect();
    Ok((there, damaged, locked))
}

/// The contexts of these sessions that any replica has written.
async fn known(
    conn: &mut Connection,
    batch: &[Observation],
    there: &BTreeMap<SessionKey, Session>,
) -> Result<HashSet<(Uuid, UseContext)>> {
    let changed = batch.iter().filter(|observation| observation.key.is_context());
    let changed: BTreeSet<&SessionKey> =
        changed.filter_map(|observation| observation.witness.as_ref()).collect();
    let changed: Vec<&Session> = changed.into_iter().filter_map(|key| there.get(key)).collect();
    if changed.is_empty() {
        return Ok(HashSet::new());
    }
    let entered = observations::contexts(conn, &changed).await?;
    let context = |(session, ip, agent): (Uuid, Option<_>, _)| (session, (ip.map(network), agent));
    Ok(entered.into_iter().map(context).collect())
}
