//! Statistics: counts new activities, each once, hour by hour. A batch is one transaction: position and
//! figures move together or not at all.

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

/// Counts. Cheap to clone.
#[derive(Clone)]
pub struct RollUp(Arc<FeedReader<Count>>);

struct Count;

impl RollUp {
    /// Counts the activities of `db`.
    pub fn new(db: Database, clock: Clock, skipped_rows: IntCounter) -> RollUp {
        RollUp(Arc::new(FeedReader::new(db, clock, Count, skipped_rows)))
    }

    /// Counts one batch and returns true if more may be there. While another replica is at it, there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        self.0.batch().await
    }

    /// Counts until all of `tenant` that was committed before the call is counted, or `go_on` says no. What is written
    /// meanwhile is not waited for. False if that was not possible: something is locked.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: some of it may be counted.
    pub async fn settle(&self, tenant: &TenantId, go_on: impl FnMut() -> bool) -> Result<bool> {
        self.0.settle(&Owner { tenant: tenant.clone(), user: None }, go_on).await
    }
}

impl FeedWork for Count {
    const CONSUMER: Consumer = Consumer::Stats;

    /// The figures of a tenant and of its users move together.
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

/// Takes what there is of an erased user from what there is of the tenant: live sessions as ended. The
/// caller holds the consumers, and has deleted what was counted of the user.
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
