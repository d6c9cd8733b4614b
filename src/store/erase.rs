//! Deleting everything of a user, slice by slice.

use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{TenantId, UserId};
use crate::store::Connection;

/// The outcome of a slice.
pub struct Gone {
    /// Rows that were there; none = the table is empty.
    pub found: u64,
    /// Rows that were deleted. One that changed just before may stay for the next slice.
    pub rows: u64,
    /// Those of them that were live.
    pub live: u64,
}

statement! {
    /// As the lock of a create, but against reports too: setting a column of the key, if only to itself, locks as FOR
    /// UPDATE does. The result says whether the user existed: an existing row carries the mark of a lock.
    Lock {
        tenant: &'a str as Text,
        user: &'a str as Text,
        first: Time as Timestamptz,
        last: Time as Timestamptz,
    } -> Bool,
    "INSERT INTO session_users AS u (tenant_id, user_id, first_create_at, last_create_at)
    VALUES (?, ?, ?, ?)
    ON CONFLICT (tenant_id, user_id) DO UPDATE SET user_id = u.user_id
    RETURNING u.xmax <> '0'::xid"
}

statement! {
    Forget { tenant: &'a str as Text, user: &'a str as Text } -> BigInt,
    "WITH gone AS (DELETE FROM session_users WHERE tenant_id = ? AND user_id = ? RETURNING 1)
    SELECT count(*) FROM gone"
}

/// The tables with rows of users: name, the rest of the primary key, and which rows are live.
macro_rules! tables {
    ($($name:ident: $table:literal, $key:literal, $live:literal;)*) => {
        $(statement! {
            /// Waits for the transactions that lock a row. The user is named twice, so that no plan reads more than the
            /// user's rows.
            $name {
                tenant: &'a str as Text,
                user: &'a str as Text,
                limit: i64 as BigInt,
                of_tenant: &'a str as Text,
                of_user: &'a str as Text,
            } -> (BigInt, BigInt, BigInt),
            concat!(
                "WITH slice AS (
                    SELECT ", $key, " FROM ", $table, " WHERE tenant_id = ? AND user_id = ?
                    ORDER BY ", $key, " LIMIT ? FOR UPDATE
                ), gone AS (
                    DELETE FROM ", $table, " WHERE tenant_id = ? AND user_id = ?
                        AND (", $key, ") IN (SELECT ", $key, " FROM slice)
                    RETURNING ", $live, " AS live
                )
                SELECT (SELECT count(*) FROM slice), count(*), count(*) FILTER (WHERE live) FROM gone"
            )
        })*

        /// A table with rows of users.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Table {
            $($name),*
        }

        /// In the order in which they are emptied: a table that is written under the lock of a row comes after the
        /// table of that row.
        pub const TABLES: &[Table] = &[$(Table::$name),*];

        /// Deletes at most `limit` rows of a user.
        ///
        /// # Errors
        /// [`crate::error::Error::Unavailable`].
        pub async fn slice(
            conn: &mut Connection,
            table: Table,
            tenant: &TenantId,
            user: &UserId,
            limit: i64,
        ) -> Result<Gone> {
            let (tenant, user) = (tenant.as_str(), user.as_str());
            let (found, rows, live): (i64, i64, i64) = match table {
                $(Table::$name => {
                    $name::new(tenant, user, limit, tenant, user).get_result(conn).await?
                })*
            };
            Ok(Gone {
                found: found.unsigned_abs(),
                rows: rows.unsigned_abs(),
                live: live.unsigned_abs(),
            })
        }
    };
}

tables! {
    Sessions: "user_sessions", "session_id", "state = 1";
    Devices: "devices", "device_id", "false";
    Alerts: "security_alerts", "alert_id", "false";
    Requests: "requests", "request_id", "false";
    Memories: "user_memories", "tenant_id", "false";
    Activities: "session_activities", "occurred_at, activity_id", "false";
    CountedAlerts: "counted_alerts", "alert_id", "false";
    RollUps: "roll_ups", "hour", "false";
}

/// Locks the user as a create does; true if the user existed.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    now: Time,
) -> Result<bool> {
    Ok(Lock::new(tenant.as_str(), user.as_str(), now, now).get_result(conn).await?)
}

/// Deletes the row that [`lock`] locked, once the user has no other row. A transaction that waits for it begins anew.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn forget(conn: &mut Connection, tenant: &TenantId, user: &UserId) -> Result<()> {
    Forget::new(tenant.as_str(), user.as_str()).get_result::<i64>(conn).await?;
    Ok(())
}
