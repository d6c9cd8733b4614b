//! Whether a pooler lends sessions of the database for a transaction: settings, prepared statements and locks of a
//! session are then shared with another client.

use diesel::result::Error as DieselError;
use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl;

use crate::error::Result;
use crate::store::connection::Connection;
use crate::store::wire;

/// How often two connections are compared. A pooler lends the session that is free.
const LOOKS: usize = 4;

/// The fault and its remedy.
pub const SHARED_SESSION: &str = "between sessiond and the database is a pooler that pools by \
     transaction or statement (PgBouncer: pool_mode): let it pool by session, or connect to \
     Postgres itself";

statement! {
    Backend {} -> Integer, "SELECT pg_backend_pid()"
}

/// Whether two connections, both open, share a session of the server, as they never do without a pooler.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn share_a_session(one: &mut Connection, other: &mut Connection) -> Result<bool> {
    for _ in 0..LOOKS {
        match backends(one, other).await {
            Ok((one, other)) if one == other => return Ok(true),
            Ok(_) => {}
            Err(DieselError::DatabaseError(_, info)) if shows(info.message()) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

async fn backends(one: &mut Connection, other: &mut Connection) -> diesel::QueryResult<(i32, i32)> {
    let one = Backend::new().get_result(one).await?;
    Ok((one, Backend::new().get_result(other).await?))
}

/// Whether an error shows a pooler: a statement of another client is prepared, or one of this client is missing.
pub(super) fn shows(message: &str) -> bool {
    matches!(wire::split(message), Some(("42P05" | "26000", _)))
}
