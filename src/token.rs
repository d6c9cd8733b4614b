//! Credentials: their formats, signatures and keys. When a token may be used is decided in `session`.

pub mod access;
pub mod conflict;
pub mod cursor;
pub mod issuer;
pub mod jwk;
pub mod key_life;
pub mod key_work;
pub mod keyring;
pub mod keys;
pub mod page;
pub mod refresh;
pub mod seal;

mod derived;
mod key_rows;
mod new_key;
pub(crate) mod pair;
mod verified;
