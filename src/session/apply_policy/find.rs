//! Finds the running sessions whose deadlines exceed a policy.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::ClientId;
use crate::model::policy::Policy;
use crate::model::policy::overrides::{PolicyLevel, PolicyScope};
use crate::model::session::Session;
use crate::session::apply_policy::ApplyPolicy;
use crate::session::apply_policy::stack::Stack;
use crate::session::shorten::shortened;
use crate::store::{Connection, sessions};

/// Sessions that exceed their policy, each with that policy, and where the next page begins.
pub(super) struct FoundSessions {
    pub sessions: Vec<(Session, Arc<Policy>)>,
    pub next: Option<Uuid>,
    /// The number of damaged rows.
    pub damaged: usize,
}

impl ApplyPolicy {
    /// Sessions at `scope` that outlive the policy in force for them, older than `after`.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub(super) async fn find(
        &self,
        conn: &mut Connection,
        scope: &PolicyScope,
        proposed: Option<&PolicyLevel>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<FoundSessions> {
        let builtin = self.policies.builtin();
        let stack = Stack::read(conn, builtin, scope, proposed).await?;
        let least = stack.policy(scope.client.as_ref());
        let spared = if scope.client.is_none() { stack.independent() } else { Vec::new() };
        let page = sessions::outliving(conn, scope, &spared, &least, after, limit).await?;
        let now = self.clock.now();
        let mut policies: HashMap<ClientId, Arc<Policy>> = HashMap::new();
        let mut sessions = Vec::new();
        for session in page.sessions {
            let policy = policies
                .entry(session.client.clone())
                .or_insert_with_key(|client| Arc::new(stack.policy(Some(client))));
            // The policy of the client may allow a longer timeout.
            if shortened(&session, policy, now).is_some() {
                sessions.push((session, policy.clone()));
            }
        }
        Ok(FoundSessions { sessions, next: page.next, damaged: page.damaged })
    }
}
