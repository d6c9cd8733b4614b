//! ListSessions: pages of a tenant's sessions, newest first.

use crate::clock::Clock;
use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::page::{Page, PageRequest};
use crate::model::session::{Session, SessionFilter, State, StateFilter};
use crate::session::touch::Touches;
use crate::store::pool::Database;
use crate::store::sessions;

/// Lists sessions.
pub struct List {
    db: Database,
    clock: Clock,
    touches: Touches,
}

impl List {
    /// Reads from `db`, and includes unwritten activity.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> List {
        List { db, clock, touches }
    }

    /// A page, with the states as of now.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &SessionFilter,
        page: PageRequest,
    ) -> Result<Page<Session>> {
        let now = self.clock.now();
        let mut page = self
            .db
            .within(async {
                let mut conn = self.db.acquire().await?;
                sessions::list(&mut conn, tenant, filter, page, now).await
            })
            .await?;
        for session in &mut page.items {
            self.touches.overlay(session);
            session.state = session.state_at(now);
        }
        // The query does not include unwritten activity.
        if filter.state == Some(StateFilter::Expired) {
            page.items.retain(|session| session.state != State::Active);
        }
        Ok(page)
    }
}
