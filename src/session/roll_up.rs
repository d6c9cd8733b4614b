//! Statistics: counts new activities, each once, by the hour. A batch is one transaction: position
//! and figures are committed together.

mod books;

use std::sync::Arc;

use prometheus::IntCounter;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::activity::Activity;
use crate::model::ids::{TenantId, UserId};
use crate::model::session::EndReason;
use crate::model::statistics::{Owner, hour_of, is_counted};
use crate::session::feed_reader::{FeedReader, FeedWork};
use crate::store::feed::Consumer;
use crate::store::pool::{Database, Transaction};
use crate::store::{Connection, statistics};
use books::Books;

/// Counts activities. Cheap to clone.
#[derive(Clone)]
pub struct RollUp(Arc<FeedReader<Count>>);

struct Count;

impl RollUp {
    /// Counts the activities of `db`.
    pub fn new(db: Database, clock: Clock, skipped_rows: IntCounter) -> RollUp {
        RollUp(Arc::new(FeedReader::new(db, clock, Count, skipped_rows)))
    }

    /// Counts one batch; true if more may be pending. Does nothing while another replica holds the position.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: nothing is committed, and the next call begins at the same position.
    pub async fn batch(&self) -> Result<bool> {
        self.0.batch().await
    }

    /// Counts until all activities of `tenant` committed before the call are counted, or `go_on`
    /// returns false. Does not wait for later writes. False if some of it is locked.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: some of it may be counted.
    pub async fn settle(&self, tenant: &TenantId, go_on: impl FnMut() -> bool) -> Result<bool> {
        self.0.settle(&Owner { tenant: tenant.clone(), user: None }, go_on).await
    }
}

impl FeedWork for Count {
    const CONSUMER: Consumer = Consumer::Stats;

    /// The tenant, because its figures and those of its users are updated together.
    fn owner(activity: &Activity) -> Owner {
        Owner { tenant: activity.tenant.clone(), user: None }
    }

    async fn take(&self, tx: &mut Transaction, activities: &[Activity], _: Time) -> Result<()> {
        let counted: Vec<_> = activities.iter().filter(|it| is_counted(it)).cloned().collect();
        if counted.is_empty() {
            return Ok(());
        }
        let mut books = Books::open(tx, &counted).await?;
        for activity in &counted {
            books.note(activity);
        }
        books.write(tx).await
    }
}

/// Subtracts the figures of an erased user from those of the tenant; live sessions count as ended.
/// The caller holds the positions of the consumers, and has deleted the user's own figures.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn forget(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    now: Time,
) -> Result<()> {
    let Some(gone) = statistics::forget(conn, tenant, user).await? else { return Ok(()) };
    let (owner, hour) = (Owner { tenant: tenant.clone(), user: None }, hour_of(now));
    let mut books = Books::of(conn, [(owner.clone(), hour)].into()).await?;
    books.take(&owner, hour, gone, EndReason::UserErased);
    books.write(conn).await
}
