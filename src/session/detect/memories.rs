//! The memories of the users and networks of a batch.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::Time;
use crate::detection::memory::{NetworkMemory, UserMemory, network};
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::ids::{TenantId, UserId};
use crate::store::{Connection, memories};

type OfUsers = BTreeMap<(TenantId, UserId), UserMemory>;
type OfNetworks = BTreeMap<(TenantId, IpNet), NetworkMemory>;

/// All memories of a batch.
#[derive(Clone, Default)]
pub(super) struct BatchMemories {
    users: OfUsers,
    networks: OfNetworks,
    /// Used for activities without a user or an address; never stored.
    nobody: UserMemory,
    nowhere: NetworkMemory,
}

impl BatchMemories {
    /// Reads the memories of the users and networks of `activities`.
    pub async fn read(conn: &mut Connection, activities: &[Activity]) -> Result<BatchMemories> {
        let users: BTreeSet<_> = activities.iter().filter_map(user_of).collect();
        let networks: BTreeSet<_> = activities.iter().filter_map(network_of).collect();
        let user_keys: Vec<_> = users.iter().collect();
        let network_keys: Vec<_> = networks.iter().collect();
        let of_users = memories::of_users(conn, &user_keys).await?;
        let of_networks = memories::of_networks(conn, &network_keys).await?;
        let mut found = BatchMemories {
            users: users.into_iter().map(|key| (key, Default::default())).collect(),
            networks: networks.into_iter().map(|key| (key, Default::default())).collect(),
            ..BatchMemories::default()
        };
        for (key, memory) in of_users {
            found.users.insert(key, readable(memory));
        }
        for (key, memory) in of_networks {
            found.networks.insert(key, readable(memory));
        }
        Ok(found)
    }

    /// The memories of one activity of the batch.
    pub fn of(&mut self, activity: &Activity) -> (&mut UserMemory, &mut NetworkMemory) {
        (self.nobody, self.nowhere) = Default::default();
        let user = user_of(activity).and_then(|key| self.users.get_mut(&key));
        let network = network_of(activity).and_then(|key| self.networks.get_mut(&key));
        (user.unwrap_or(&mut self.nobody), network.unwrap_or(&mut self.nowhere))
    }

    /// Writes the memories that changed since `before`.
    pub async fn write(
        self,
        conn: &mut Connection,
        before: &BatchMemories,
        now: Time,
    ) -> Result<()> {
        let users = self.users.into_iter().filter(|(key, m)| before.users.get(key) != Some(m));
        let users: Vec<_> = users.map(|(key, m)| (key, to_json(&m))).collect();
        let networks =
            self.networks.into_iter().filter(|(key, m)| before.networks.get(key) != Some(m));
        let networks: Vec<_> = networks.map(|(key, m)| (key, to_json(&m))).collect();
        if users.is_empty() && networks.is_empty() {
            return Ok(());
        }
        memories::write(conn, &users, &networks, now).await
    }
}

/// When each user of `activities`, which are of one tenant, was first seen.
pub(in crate::session) async fn first_seen(
    conn: &mut Connection,
    activities: &[Activity],
) -> Result<BTreeMap<UserId, Time>> {
    let users: BTreeSet<_> = activities.iter().filter_map(user_of).collect();
    let mut seen = BTreeMap::new();
    for ((_, user), memory) in memories::of_users(conn, &users.iter().collect::<Vec<_>>()).await? {
        let memory: UserMemory = readable(memory);
        seen.extend(memory.first_at.map(|at| (user, at)));
    }
    Ok(seen)
}

fn user_of(activity: &Activity) -> Option<(TenantId, UserId)> {
    Some((activity.tenant.clone(), activity.user.clone()?))
}

fn network_of(activity: &Activity) -> Option<(TenantId, IpNet)> {
    Some((activity.tenant.clone(), network(activity.ip?)))
}

/// A damaged memory starts empty, so that detection goes on for other users.
fn readable<T: DeserializeOwned + Default>(memory: Value) -> T {
    serde_json::from_value(memory).unwrap_or_else(|error| {
        tracing::error!(%error, "a damaged memory of detection is reset");
        T::default()
    })
}

fn to_json(memory: &impl Serialize) -> Value {
    serde_json::to_value(memory).expect("plain data serialises")
}
