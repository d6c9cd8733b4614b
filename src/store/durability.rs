//! Whether what is committed is kept.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use crate::error::Result;
use crate::store::Connection;

/// Settings of Postgres, for our role and database, in its own words.
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
