//! Changes of principals, API keys and signing keys, as the audit trail stores them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A change of a principal, an API key or a signing key. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AdministrativeChange {
    /// The principal that was changed, or whose API key was.
    pub principal: Option<String>,
    /// The id of the API key, or of the signing key.
    pub key: Option<String>,
    /// The values before, by name; empty for what is new.
    pub before: BTreeMap<String, String>,
    /// The values after; empty for what was deleted.
    pub after: BTreeMap<String, String>,
}
