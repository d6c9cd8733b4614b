//! Writes observations: under the locks of the sessions they are about, so that none is of a user who was erased, and no
//! context is entered twice, whichever replica made them.

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

/// Enters what is still to be entered. The same again enters nothing, so an attempt can be repeated. Returns how many
/// are of sessions whose rows are damaged: they are lost. Where it `skips` what others have locked, also the sessions
/// of which nothing is entered yet.
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

/// The sessions that `batch` is about, of those that are still there, the ids of those that are damaged, and of those
/// that it `skips`.
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

/// The contexts of these sessions that were entered before, on whichever replica.
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
