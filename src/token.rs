//! Credentials: how they are written, signed, proven. Knows nothing of when one may be used.

pub mod access;
pub mod conflict;
pub mod cursor;
pub mod issuer;
pub mod keyring;
pub mod page;
pub mod refresh;
pub mod seal;

mod verified;
