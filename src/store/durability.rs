//! Whether commits are durable.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use crate::error::Result;
use crate::store::Connection;

/// The settings of Postgres for this role and database, as Postgres writes them.
pub struct Durability {
    /// `off` = a commit is acknowledged before it is written.
    pub synchronous_commit: String,
    /// `off` = written does not mean on disk.
    pub fsync: String,
}

statement! {
    Read {} -> (Text, Text),
    "SELECT current_setting('synchronous_commit'), current_setting('fsync')"
}

/// Reads them.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn read(conn: &mut Connection) -> Result<Durability> {
    let (synchronous_commit, fsync) = Read::new().get_result::<(String, String)>(conn).await?;
    Ok(Durability { synchronous_commit, fsync })
}
