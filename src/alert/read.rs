//! GetAlert and ListAlerts.

use uuid::Uuid;

use crate::error::{Error, Reason, Result};
use crate::model::alert::{Alert, AlertFilter};
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::store::alerts;
use crate::store::pool::Database;

/// Reads alerts.
pub struct ReadAlerts {
    db: Database,
}

impl ReadAlerts {
    /// Reads from `db`.
    pub fn new(db: Database) -> ReadAlerts {
        ReadAlerts { db }
    }

    /// One alert.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get(&self, tenant: &TenantId, id: Uuid) -> Result<Alert> {
        let found = self
            .db
            .within(async { alerts::find(&mut *self.db.acquire().await?, tenant, id).await })
            .await?;
        found.ok_or_else(|| not_found(id))
    }

    /// A page of a tenant's alerts, newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &AlertFilter,
        page: PageRequest,
    ) -> Result<Page<Alert>> {
        self.db
            .within(async {
                alerts::list(&mut *self.db.acquire().await?, tenant, filter, page).await
            })
            .await
    }
}

pub(super) fn not_found(id: Uuid) -> Error {
    Error::NotFound {
        reason: Reason::AlertNotFound,
        kind: "sessiond.v1.SecurityAlert",
        name: id.to_string(),
    }
}
