//! Writes expiries down. Nothing depends on it, because every read compares the deadlines
//! (`Session::state_at`). It keeps lists short and completes the audit trail.

use prometheus::IntCounter;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::session::State;
use crate::session::batch_size::{ASIDE_FOR, Aside, BatchSize, is_about_rows};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::sessions;

/// Rows per transaction. Locks are short, and a failure loses little.
const SLICE: u32 = 200;

/// Ends sessions that are past a deadline.
pub struct Expire {
    db: Database,
    clock: Clock,
    touches: Touches,
    size: BatchSize,
    aside: Aside,
    set_aside: IntCounter,
}

impl Expire {
    /// Sweeps `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches, metrics: &Metrics) -> Expire {
        let help = "Sessions that could not be swept, and were left for ten minutes.";
        let set_aside = metrics.counter("sweeper_set_aside_total", help);
        let (size, aside) = (BatchSize::new(SLICE), Aside::default());
        Expire { db, clock, touches, size, aside, set_aside }
    }

    /// Sweeps one slice; true if more may be due. Replicas may sweep concurrently: each takes rows
    /// that no other has locked. A session that fails alone is set aside, so it delays no other.
    /// Does nothing while time is in doubt, because an end cannot be undone.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn slice(&self) -> Result<bool> {
        let (size, mut first) = (self.size.now(), None);
        match self.db.within(self.attempt(size, &mut first)).await {
            Ok((found, damaged)) => {
                self.size.grow(size);
                self.set_aside.inc_by(damaged as u64);
                Ok(found == size as usize)
            }
            Err(error) if self.size.shrink(size, &error) => Ok(true),
            Err(error) => match first.filter(|_| is_about_rows(&error)) {
                Some(id) if self.set_aside(id) => {
                    tracing::error!(%error, session = %id, "a session that is due cannot be swept");
                    Ok(true)
                }
                _ => Err(error),
            },
        }
    }

    /// The number of due sessions, and how many of them are damaged; those are postponed. `first`
    /// receives the first session of the batch.
    async fn attempt(&self, size: u32, first: &mut Option<Uuid>) -> Result<(usize, usize)> {
        let sweeping = self.db.transaction(async |tx| {
            let nothing = Ok((0, 0));
            let Some(now) = self.clock.settled() else { return nothing };
            let settled_after = self.touches.settled_after();
            let (before, without) = (now - settled_after, self.aside.at(now));
            let (due, damaged) = sessions::lock_due(tx, before, &without, size.into()).await?;
            let found = due.len() + damaged.len();
            *first = due.first().map(|session| session.key.session);
            let Some(mut changes) = Changes::settled(&self.clock) else { return nothing };
            for mut session in due {
                self.touches.overlay(&mut session);
                match session.settled_at(changes.at(), settled_after) {
                    State::Ended(expiry) => changes.expire_session(&mut session, expiry),
                    // It was active meanwhile: check again at its next deadline.
                    State::Active => {
                        session.sweep_at = session.deadline();
                        changes.reschedule_session(&session);
                    }
                }
            }
            changes.write(tx).await?;
            let kept = sessions::postpone(tx, &damaged, before, before + ASIDE_FOR).await?;
            // An unchanged row would be found again at once, so it waits for the next turn.
            Ok((if kept { found } else { 0 }, damaged.len()))
        });
        Ok(sweeping.await?.answer)
    }

    fn set_aside(&self, id: Uuid) -> bool {
        self.set_aside.inc();
        self.aside.put(id, self.clock.now())
    }
}
