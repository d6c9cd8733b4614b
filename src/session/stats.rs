//! GetSessionStats.

use crate::clock::Clock;
use crate::error::Result;
use crate::model::statistics::Owner;
use crate::model::statistics::window::{Figures, Window};
use crate::store::pool::Database;
use crate::store::statistics::figures;

/// Reads session statistics.
pub struct SessionStats {
    db: Database,
    clock: Clock,
}

impl SessionStats {
    /// Reads from `db`.
    pub fn new(db: Database, clock: Clock) -> SessionStats {
        SessionStats { db, clock }
    }

    /// The figures of a window; 0 for an unknown owner.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self, owner: &Owner, window: Window) -> Result<Figures> {
        let now = self.clock.now();
        let reading =
            async { figures::read(&mut *self.db.acquire().await?, owner, &window, now).await };
        Ok(window.sum(self.db.within(reading).await?))
    }
}
