//! Writes down what time has decided. Nothing depends on it: whoever reads a session compares its
//! deadlines (`Session::state_at`). It keeps lists short and completes the audit trail.

use crate::clock::Clock;
use crate::error::Result;
use crate::model::session::State;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::sessions;

/// Rows per transaction: short locks, and little lost if one fails.
const SLICE: usize = 200;

/// Ends sessions whose time has passed.
pub struct Expire {
    db: Database,
    clock: Clock,
    touches: Touches,
}

impl Expire {
    /// Sweeps `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> Expire {
        Expire { db, clock, touches }
    }

    /// Sweeps one slice and returns true if more may be due. Replicas may sweep at once: each
    /// takes rows that no other holds.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn slice(&self) -> Result<bool> {
        let sweeping = self.db.transaction(async |tx| {
            let before = self.clock.now() - self.touches.settled_after();
            let due = sessions::lock_due(tx, before, SLICE as i64).await?;
            let more = due.len() == SLICE;
            let mut changes = Changes::new(&self.clock);
            for mut session in due {
                self.touches.overlay(&mut session);
                match session.settled_at(changes.at(), self.touches.settled_after()) {
                    State::Ended(expiry) => changes.expire_session(&mut session, expiry),
                    // It was active meanwhile: look again at its next deadline.
                    State::Active => {
                        session.sweep_at = session.deadline();
                        changes.reschedule_session(&session);
                    }
                }
            }
            changes.write(tx).await?;
            Ok(more)
        });
        Ok(self.db.within(sweeping).await?.answer)
    }
}
