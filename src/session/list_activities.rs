//! ListActivities: the audit trail of a session, a user or a tenant.

use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityFilter};
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::session::get::not_found;
use crate::store::pool::Database;
use crate::store::{activities, sessions};

/// Lists activities.
pub struct ListActivities {
    db: Database,
}

impl ListActivities {
    /// Reads from `db`.
    pub fn new(db: Database) -> ListActivities {
        ListActivities { db }
    }

    /// A page. The trail is indexed by user, so a session given without its user is read first.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`], [`crate::error::Error::Unavailable`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        mut filter: ActivityFilter,
        page: PageRequest<(Time, Uuid)>,
    ) -> Result<Page<Activity, (Time, Uuid)>> {
        let read = async {
            let mut conn = self.db.acquire().await?;
            if let (Some(id), None) = (filter.session, &filter.user) {
                let session = sessions::find_by_id(&mut conn, tenant, id).await?;
                filter.user = Some(session.ok_or_else(|| not_found(id))?.key.user);
            }
            activities::list(&mut conn, tenant, &filter, page).await
        };
        self.db.within(read).await
    }
}
