//! The policy levels that apply to the sessions at a scope, read from the database.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::model::ids::ClientId;
use crate::model::policy::Policy;
use crate::model::policy::overrides::{Overrides, PolicyLevel, PolicyScope};
use crate::model::policy::resolve::resolve;
use crate::store::{Connection, policies};

/// Levels to resolve.
pub(super) struct Stack {
    builtin: Arc<Policy>,
    tenant: Overrides,
    clients: HashMap<ClientId, Overrides>,
}

impl Stack {
    /// Reads the levels; `proposed` replaces the stored one.
    pub(super) async fn read(
        conn: &mut Connection,
        builtin: Arc<Policy>,
        scope: &PolicyScope,
        proposed: Option<&PolicyLevel>,
    ) -> Result<Stack> {
        let levels = match scope.client {
            // Any client may override values.
            None => policies::of_tenant(conn, &scope.tenant).await?,
            Some(_) => {
                let tenant = PolicyScope { client: None, ..scope.clone() };
                policies::find(conn, &[&tenant, scope]).await?
            }
        };
        let mut stack = Stack { builtin, tenant: Overrides::default(), clients: HashMap::new() };
        for level in levels.into_iter().chain(proposed.cloned()) {
            match level.scope.client {
                None => stack.tenant = level.overrides,
                Some(client) => {
                    stack.clients.insert(client, level.overrides);
                }
            }
        }
        Ok(stack)
    }

    /// The policy of a client, or of the clients that override nothing.
    pub(super) fn policy(&self, client: Option<&ClientId>) -> Policy {
        let none = Overrides::default();
        let client = client.and_then(|client| self.clients.get(client)).unwrap_or(&none);
        resolve(&self.builtin, &self.tenant, client).policy
    }

    /// The clients whose sessions no change of the tenant's level affects.
    pub(super) fn independent(&self) -> Vec<&str> {
        let decided = self.clients.iter().filter(|(_, level)| level.decides_timeouts());
        decided.map(|(client, _)| client.as_str()).collect()
    }
}
