//! Changes of who may call, and of what signs, as the audit trail keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A change of a principal, an API key or a signing key. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AdministrativeChange {
    /// Who was changed, or whose API key was.
    pub principal: Option<String>,
    /// The id of the API key, or of the signing key.
    pub key: Option<String>,
    /// What was so, by name; empty for what is new.
    pub before: BTreeMap<String, String>,
    /// What is so now; empty for what is gone.
    pub after: BTreeMap<String, String>,
}
