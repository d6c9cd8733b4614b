//! Detects that the database was restored, raises an alert, and ends the earlier sessions if configured.
//!
//! Every second a replica increments a row, and saves its position: in memory, and in a file if
//! there is a data directory. A row that no transaction of this cluster wrote was restored from a
//! dump. A row behind the saved position means that an older state of the cluster was restored.

mod end;
mod file;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use uuid::Uuid;

use crate::cache::progress::RevocationProgress;
use crate::cache::revocation_feed::RevocationFeed;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::alert::{Alert, Category, DATA_REGRESSION, Severity};
use crate::model::evidence::Evidence;
use crate::model::ids::TenantId;
use crate::model::lineage::{Continuity, DatabasePosition, OnRestore, SavedPosition};
use crate::session::terminate_many::TerminateMany;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{feed, lineage};

pub use end::Cutoff;

/// Watches for restores. Cheap to clone.
#[derive(Clone)]
pub struct RestoreWatch(Arc<Inner>);

/// The dependencies of the watch.
pub struct RestoreParts {
    pub db: Database,
    pub clock: Clock,
    pub revocation_feed: RevocationFeed,
    pub seen: RevocationProgress,
    pub terminate: TerminateMany,
    pub cutoff: Cutoff,
    pub on_restore: OnRestore,
    /// The file for the saved position; `None` = in memory only.
    pub file: Option<PathBuf>,
}

struct Inner {
    parts: RestoreParts,
    remembered: Mutex<Option<SavedPosition>>,
    restored: IntCounter,
    passed: end::Passed,
}

/// The result of a check of the database.
struct Look {
    continuity: Continuity,
    found: DatabasePosition,
    now_at: DatabasePosition,
}

impl RestoreWatch {
    /// Starts with the position in the file.
    pub fn new(parts: RestoreParts, metrics: &Metrics) -> RestoreWatch {
        let help = "Restores of the database that this process detected or learned of.";
        let restored = metrics.counter("database_restored_total", help);
        let position = parts.file.as_deref().and_then(file::read);
        let remembered = position.map(|position| SavedPosition { position, from_file: true });
        let remembered = Mutex::new(remembered);
        RestoreWatch(Arc::new(Inner {
            parts,
            remembered,
            restored,
            passed: end::Passed::default(),
        }))
    }

    /// Waits until the revocation feed finds that the position of the database went back.
    pub async fn suspected(&self) {
        self.0.parts.seen.rewound().await;
    }

    /// Compares the database with the saved position, and advances both. The first replica that
    /// detects a restore writes it down, in one commit with its alert.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn look(&self) -> Result<()> {
        let RestoreParts { db, clock, .. } = &self.0.parts;
        // Without a lock: a transaction that holds the position must not delay the cut-off.
        self.learn_cutoff().await?;
        let remembered = self.remembered().clone();
        let looking = async {
            // In a transaction of its own, so that the activity of the alert is after the new position.
            let moved = feed::rebase(&mut *db.acquire().await?, clock.now()).await?;
            if moved > 0 {
                tracing::warn!(
                    moved,
                    "background readers restart from now: the database was restored"
                );
            }
            db.transaction(async |tx| self.compare(tx, remembered.as_ref()).await).await
        };
        let look = db.within(looking).await?.answer;
        self.tell(&look);
        if look.continuity.is_restored() {
            self.learn_cutoff().await?;
        }
        let position = look.now_at;
        if let Some(file) = self.0.parts.file.clone() {
            let kept = position.clone();
            let written = tokio::task::spawn_blocking(move || file::write(&file, &kept)).await;
            if let Ok(Err(error)) = written {
                tracing::debug!(%error, "the position of the database could not be written");
            }
        }
        *self.remembered() = Some(SavedPosition { position, from_file: false });
        Ok(())
    }

    async fn compare(
        &self,
        tx: &mut Transaction,
        remembered: Option<&SavedPosition>,
    ) -> Result<Look> {
        let (found, from_dump) = lineage::lock(tx).await?;
        let other = remembered.map(|known| known.position.lineage).filter(|l| *l != found.lineage);
        let has_ended = match other {
            Some(other) => lineage::has_ended(tx, other).await?,
            None => false,
        };
        let continuity = Continuity::judge(&found, from_dump, remembered, has_ended);
        let mut now_at = found.clone();
        if continuity.is_news() {
            let mut changes = Changes::new(&self.0.parts.clock);
            let (at, id) = (changes.at(), changes.new_id());
            let end_all = self.0.parts.on_restore == OnRestore::EndAll;
            lineage::end(tx, found.lineage, at, end_all).await?;
            changes.raise_alert(alert(id, at, continuity, &found, remembered));
            changes.write(tx).await?;
            now_at.lineage = changes.new_id();
        }
        now_at.beat = lineage::advance(tx, now_at.lineage).await?;
        Ok(Look { continuity, found, now_at })
    }

    async fn learn_cutoff(&self) -> Result<()> {
        let RestoreParts { db, revocation_feed, cutoff, .. } = &self.0.parts;
        let reading = async { lineage::cutoff(&mut *db.acquire().await?).await };
        cutoff.learn(db.within(reading).await?, revocation_feed).await;
        Ok(())
    }

    fn tell(&self, look: &Look) {
        let RestoreParts { revocation_feed, on_restore, .. } = &self.0.parts;
        let found = look.continuity.as_str();
        if look.continuity.is_restored() {
            revocation_feed.invalidate_all();
            self.0.restored.inc();
            let (lineage, beat) = (look.found.lineage, look.found.beat);
            tracing::error!(found, %lineage, beat, ?on_restore, "the database was restored");
        } else if look.continuity == Continuity::Another {
            tracing::warn!(found, "the data directory holds the position of another database");
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Option<SavedPosition>> {
        self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One alert for each restore: its key contains the lineage that the restore ended.
fn alert(
    id: Uuid,
    now: Time,
    continuity: Continuity,
    found: &DatabasePosition,
    remembered: Option<&SavedPosition>,
) -> Alert {
    let seen = remembered.map_or("unknown".to_owned(), |known| known.position.beat.to_string());
    let values = [
        ("found", continuity.as_str().to_owned()),
        ("lineage", found.lineage.to_string()),
        ("position", found.beat.to_string()),
        ("position_seen_before", seen),
    ];
    let kind = (Category::DataIntegrity, Severity::Critical);
    Alert {
        title: "The database was restored".to_owned(),
        description: format!(
            "The database was restored: {}. What was committed after the backup is lost: sessions \
             that ended since may be active again. docs/RESTORE.md says what to do.",
            continuity.as_str(),
        ),
        evidence: Evidence {
            values: values.map(|(name, value)| (name.to_owned(), value)).into(),
            typed: None,
        },
        dedup_key: format!("{DATA_REGRESSION}:restore:{}", found.lineage),
        ..Alert::opened(id, TenantId::default(), now, (DATA_REGRESSION, 1), kind)
    }
}
