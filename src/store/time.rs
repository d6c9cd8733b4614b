//! The database's clock, which all replicas follow.

use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::store::Connection;

statement! {
    Now {} -> Timestamptz, "SELECT clock_timestamp()"
}

/// The time of the database.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn now(conn: &mut Connection) -> Result<Time> {
    Ok(Now::new().get_result(conn).await?)
}
