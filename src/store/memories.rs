//! `user_memories` and `network_memories`: the memories of detection, as JSON that only detection reads.

use diesel::sql_types::{Array, BigInt, Jsonb, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use ipnet::IpNet;
use serde_json::Value;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::ids::{TenantId, UserId};
use crate::store::Connection;

statement! {
    OfUsers {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
    } -> (Text, Text, Jsonb),
    "SELECT m.tenant_id, m.user_id, m.memory
    FROM unnest(?, ?) AS k (t, u)
    JOIN user_memories m ON m.tenant_id = k.t AND m.user_id = k.u"
}

statement! {
    OfNetworks {
        tenants: &'a [&'a str] as Array<Text>,
        networks: &'a [String] as Array<Text>,
    } -> (Text, Text, Jsonb),
    "SELECT m.tenant_id, m.network::text, m.memory
    FROM unnest(?, ?) AS k (t, n)
    JOIN network_memories m ON m.tenant_id = k.t AND m.network = k.n::cidr"
}

statement! {
    Write {
        users: &'a str as Text,
        networks: &'a str as Text,
    } -> BigInt,
    "WITH users AS (
        INSERT INTO user_memories (tenant_id, user_id, memory)
        SELECT tenant_id, user_id, memory FROM json_populate_recordset(NULL::user_memories, ?::json)
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET memory = excluded.memory
    ), networks AS (
        INSERT INTO network_memories (tenant_id, network, memory, updated_at)
        SELECT tenant_id, network, memory, updated_at
        FROM json_populate_recordset(NULL::network_memories, ?::json)
        ON CONFLICT (tenant_id, network) DO UPDATE SET
            memory = excluded.memory, updated_at = excluded.updated_at
    )
    SELECT 1::bigint"
}

statement! {
    Prune { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH gone AS (
        DELETE FROM network_memories WHERE (tenant_id, network) IN (
            SELECT tenant_id, network FROM network_memories WHERE updated_at < ?
            ORDER BY updated_at LIMIT ? FOR UPDATE SKIP LOCKED
        )
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

/// The memory of a user.
pub type OfUser = ((TenantId, UserId), Value);
/// The memory of a network.
pub type OfNetwork = ((TenantId, IpNet), Value);

/// The memories of these users, in any order.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of_users(conn: &mut Connection, keys: &[&(TenantId, UserId)]) -> Result<Vec<OfUser>> {
    let tenants: Vec<&str> = keys.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let users: Vec<&str> = keys.iter().map(|(_, user)| user.as_str()).collect();
    let rows: Vec<(String, String, Value)> = OfUsers::new(&tenants, &users).load(conn).await?;
    let parse = |(tenant, user, memory): (String, String, Value)| {
        Some(((TenantId::parse(&tenant).ok()?, UserId::parse(&user).ok()?), memory))
    };
    rows.into_iter().map(|row| parse(row).ok_or_else(|| corrupt("user_memories"))).collect()
}

/// The memories of these networks, in any order.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn of_networks(
    conn: &mut Connection,
    keys: &[&(TenantId, IpNet)],
) -> Result<Vec<OfNetwork>> {
    let tenants: Vec<&str> = keys.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let networks: Vec<String> = keys.iter().map(|(_, network)| network.to_string()).collect();
    let rows: Vec<(String, String, Value)> =
        OfNetworks::new(&tenants, &networks).load(conn).await?;
    let parse = |(tenant, network, memory): (String, String, Value)| {
        Some(((TenantId::parse(&tenant).ok()?, network.parse().ok()?), memory))
    };
    rows.into_iter().map(|row| parse(row).ok_or_else(|| corrupt("network_memories"))).collect()
}

/// Stores memories at `now`. The caller has claimed the consumer of detection.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn write(
    conn: &mut Connection,
    users: &[OfUser],
    networks: &[OfNetwork],
    now: Time,
) -> Result<()> {
    let users = users.iter().map(|((tenant, user), memory)| {
        serde_json::json!({
            "tenant_id": tenant.as_str(), "user_id": user.as_str(), "memory": memory,
        })
    });
    let networks = networks.iter().map(|((tenant, network), memory)| {
        serde_json::json!({
            "tenant_id": tenant.as_str(), "network": network, "memory": memory, "updated_at": now,
        })
    });
    let (users, networks) = (super::changes::array(users), super::changes::array(networks));
    Write::new(&users, &networks).get_result::<i64>(conn).await?;
    Ok(())
}

/// Deletes at most `limit` memories of networks from before `before`; returns how many.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn prune(conn: &mut Connection, before: Time, limit: i64) -> Result<i64> {
    Ok(Prune::new(before, limit).get_result(conn).await?)
}

fn corrupt(table: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{table} holds an impossible key"))
}
