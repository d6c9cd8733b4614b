//! Writes down what time has decided. Nothing depends on it: whoever reads a session compares its
//! deadlines (`Session::state_at`). It keeps lists short and completes the audit trail.

use crate::clock::Clock;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::session::{SETTLED, State};
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
        self.db
            .within(async {
                let mut tx = self.db.begin().await?;
                let now = self.clock.now();
                let mut changes = Changes::default();
                let due = sessions::lock_due(&mut tx, now - SETTLED, SLICE as i64).await?;
                let more = due.len() == SLICE;
                for mut session in due {
                    self.touches.overlay(&mut session);
                    session.state = session.settled_at(now);
                    match session.state {
                        // It was active meanwhile: look again at its next deadline.
                        State::Active => {
                            session.sweep_at = session.deadline();
                            changes.moved.push(session);
                        }
                        State::Ended(_) => {
                            let (id, kind) = (self.clock.new_id(), ActivityKind::Expired);
                            let expired = Activity::of_session(id, now, kind, SYSTEM, &session);
                            changes.activities.push(expired);
                            changes.changed.push(session);
                        }
                    }
                }
                if !changes.is_empty() {
                    changes.write(&mut tx).await?;
                }
                tx.commit().await?;
                Ok(more)
            })
            .await
    }
}
