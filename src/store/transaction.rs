//! Transactions: a unit of work that commits atomically, and the revocations that follow its commit.

use std::ops::{Deref, DerefMut};

use diesel::result::Error as DieselError;
use diesel_async::{AnsiTransactionManager, TransactionManager};

use crate::error::{Error, Outage, Result};
use crate::model::revocation::Revocation;
use crate::model::watermark::Watermark;
use crate::store::Connection;
use crate::store::pool::{Database, Pooled};

/// An open transaction. Dropped without [`Transaction::commit`], it takes its connection with it:
/// the pool refuses connections with an open transaction, and Postgres rolls back.
pub struct Transaction {
    conn: Pooled,
    db: Database,
    watermark: Option<Watermark>,
    revoked: Vec<Revocation>,
}

/// The result of a committed transaction.
pub struct Committed<T> {
    pub answer: T,
    /// A watermark that includes the transaction; `None` if it wrote nothing.
    pub watermark: Option<Watermark>,
}

impl Database {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn begin(&self) -> Result<Transaction> {
        let mut conn = self.acquire().await?;
        if AnsiTransactionManager::begin_transaction(&mut *conn).await.is_err() {
            // The connection broke before any statement. The pool drops broken ones.
            drop(conn);
            conn = self.acquire().await?;
            AnsiTransactionManager::begin_transaction(&mut *conn).await?;
        }
        Ok(Transaction { conn, db: self.clone(), watermark: None, revoked: Vec::new() })
    }

    /// Does `work` in a transaction and commits it. An error of `work` rolls it back, and returns its connection to the
    /// pool.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Unavailable`] if the commit was not acknowledged: its outcome is then unknown.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Transaction) -> Result<T>,
    ) -> Result<Committed<T>> {
        let mut tx = self.begin().await?;
        match work(&mut tx).await {
            Ok(answer) => {
                let watermark = tx.watermark;
                tx.commit().await?;
                Ok(Committed { answer, watermark })
            }
            Err(error) => {
                tx.roll_back().await;
                Err(error)
            }
        }
    }
}

impl Transaction {
    /// Ends it with nothing written, and returns its connection to the pool, unless it is lost.
    pub async fn roll_back(mut self) {
        let rolled_back = AnsiTransactionManager::rollback_transaction(&mut *self.conn).await;
        if let Err(error) = rolled_back {
            tracing::debug!(%error, "a transaction was lost instead of rolled back");
        }
    }

    /// Commits. The changes may be published only after this returned `Ok`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the acknowledgement was lost: the outcome is then unknown.
    pub async fn commit(mut self) -> Result<()> {
        // Any error may have happened after the commit, so the work must not be retried from here.
        let unknown =
            |error: DieselError| Error::Unavailable(Outage::Unreachable(error.to_string()));
        #[cfg(debug_assertions)]
        if crate::broken::is("loses-commits") && self.watermark.is_some() && crate::broken::seldom()
        {
            let undone = AnsiTransactionManager::rollback_transaction(&mut *self.conn).await;
            return undone.map_err(unknown);
        }
        let done =
            AnsiTransactionManager::commit_transaction(&mut *self.conn).await.map_err(unknown);
        // Also if the outcome is unknown: an invalidation without need costs one read.
        if let (false, Some(on_revoked)) = (self.revoked.is_empty(), self.db.revoked()) {
            on_revoked(&self.revoked);
        }
        done
    }

    /// Invalidates what this replica caches of something that another transaction revoked: the call answers that it is
    /// over, and the feed may not have reported it yet.
    pub fn invalidate(&mut self, revocation: Revocation) {
        self.revoked.push(revocation);
    }

    /// Records what was written.
    pub(super) fn wrote(&mut self, watermark: Watermark, revoked: &[Revocation]) {
        self.watermark = Some(watermark);
        self.revoked.extend_from_slice(revoked);
    }
}

impl Deref for Transaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }
}
