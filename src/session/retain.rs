//! How long things are kept, and where new ones go.

use crate::clock::Clock;
use crate::error::Result;
use crate::store::pool::Database;
use crate::store::{partitions, requests};

/// Rows per transaction.
const SLICE: i64 = 500;

/// Keeps tables in shape.
pub struct Retain {
    db: Database,
    clock: Clock,
}

impl Retain {
    /// Works on `db`.
    pub fn new(db: Database, clock: Clock) -> Retain {
        Retain { db, clock }
    }

    /// Creates the partitions that will be needed next.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn create_partitions(&self) -> Result<()> {
        let now = self.clock.now();
        self.db
            .within(async { partitions::create_ahead(&mut *self.db.acquire().await?, now).await })
            .await
    }

    /// Forgets one slice of request ids older than 24 hours; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_slice(&self) -> Result<bool> {
        let now = self.clock.now();
        let gone = self
            .db
            .within(async { requests::prune(&mut *self.db.acquire().await?, now, SLICE).await })
            .await?;
        Ok(gone == SLICE as usize)
    }
}
