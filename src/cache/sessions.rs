//! Reads sessions for validation.
//!
//! Every read goes to the database, by primary key: what one replica ends, all others refuse at
//! once. A cache that keeps that promise within a stated bound belongs here, behind the same call.

use crate::error::Result;
use crate::model::ids::SessionKey;
use crate::model::session::Session;
use crate::store::pool::Database;
use crate::store::sessions;

/// Reads sessions by key. Cheap to clone.
#[derive(Clone)]
pub struct SessionReader {
    db: Database,
}

impl SessionReader {
    /// A reader of this database.
    pub fn new(db: Database) -> SessionReader {
        SessionReader { db }
    }

    /// The session as last committed.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self, key: &SessionKey) -> Result<Option<Session>> {
        self.db
            .within(async {
                let mut conn = self.db.acquire().await?;
                sessions::find(&mut conn, key).await
            })
            .await
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.db.ping().await
    }
}
