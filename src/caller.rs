//! Callers of the API: their principals, API keys, permissions and authentication.

pub mod account;
pub mod authenticator;
pub mod directory;
pub mod key;
pub mod manage;
pub mod permissions;
