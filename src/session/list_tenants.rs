//! ListTenants and ListUsers, from the statistics.

use crate::error::Result;
use crate::model::caller::principal::Tenants;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::statistics::Summary;
use crate::store::pool::Database;
use crate::store::statistics::standings;

/// Lists tenants and users.
pub struct ListTenants {
    db: Database,
}

impl ListTenants {
    /// Lists the tenants and users of `db`.
    pub fn new(db: Database) -> ListTenants {
        ListTenants { db }
    }

    /// A page of the tenants that the caller may access.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn tenants(
        &self,
        permitted: &Tenants,
        page: PageRequest<String>,
    ) -> Result<Page<Summary, String>> {
        let named = match permitted {
            Tenants::All => None,
            Tenants::Named(named) => Some(named.as_slice()),
        };
        let reading =
            async { standings::tenants(&mut *self.db.acquire().await?, named, page).await };
        self.db.within(reading).await
    }

    /// A page of the users of a tenant.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn users(
        &self,
        tenant: &TenantId,
        page: PageRequest<String>,
    ) -> Result<Page<Summary, String>> {
        let reading =
            async { standings::users(&mut *self.db.acquire().await?, tenant, page).await };
        self.db.within(reading).await
    }
}
