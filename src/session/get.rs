//! GetSession: one session, in its state now.

use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::session::Session;
use crate::session::touch::Touches;
use crate::store::pool::Database;
use crate::store::sessions;

/// Reads single sessions.
pub struct Get {
    db: Database,
    clock: Clock,
    touches: Touches,
}

impl Get {
    /// Reads from `db`, and includes unwritten activity.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> Get {
        Get { db, clock, touches }
    }

    /// The session. `user` makes the query cheap; with a wrong user the session is not found.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get(&self, tenant: TenantId, user: Option<UserId>, id: Uuid) -> Result<Session> {
        #[cfg(debug_assertions)]
        let tenant = match user.is_none() && crate::broken::is("any-tenant") {
            true => TenantId::default(),
            false => tenant,
        };
        let found = self
            .db
            .within(async {
                let mut conn = self.db.acquire().await?;
                match user {
                    Some(user) => {
                        sessions::find(&mut conn, &SessionKey { tenant, user, session: id }).await
                    }
                    None => sessions::find_by_id(&mut conn, &tenant, id).await,
                }
            })
            .await?;
        let mut session = found.ok_or_else(|| not_found(id))?;
        self.touches.overlay(&mut session);
        Ok(session.seen_at(self.clock.now()))
    }
}

pub(super) fn not_found(id: Uuid) -> Error {
    Error::NotFound {
        reason: Reason::SessionNotFound,
        kind: "sessiond.v1.Session",
        name: id.to_string(),
    }
}
