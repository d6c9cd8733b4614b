//! Who may call: API keys and principals, what they may do, and who calls now.

pub mod authenticator;
pub mod directory;
pub mod key;
pub mod manage;
pub mod permissions;
