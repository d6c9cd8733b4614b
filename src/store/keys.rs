//! `signing_keys`.

use diesel::SelectableHelper;
use diesel::prelude::{Insertable, QueryDsl, Queryable, Selectable};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::store::Connection;
use crate::store::schema::signing_keys;

/// A key as stored: its private part is sealed.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys, check_for_backend(diesel::pg::Pg))]
pub struct StoredKey {
    /// RFC 7638 thumbprint, or `refresh-<number>`.
    pub kid: String,
    /// 1 access tokens, 2 refresh tokens.
    pub purpose: i16,
    /// From 1, within the purpose; the highest is the current one.
    pub key_number: i16,
    /// `EdDSA` or `HS256`.
    pub algorithm: String,
    /// The 32 bytes of the Ed25519 point; empty for a MAC key.
    pub public_key: Vec<u8>,
    /// Nonce, ciphertext, tag: `token/seal.rs`.
    pub sealed_private_key: Vec<u8>,
    pub created_at: Time,
}

/// All keys, oldest first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn all(conn: &mut Connection) -> Result<Vec<StoredKey>> {
    Ok(signing_keys::table
        .order((signing_keys::purpose, signing_keys::key_number))
        .select(StoredKey::as_select())
        .load(conn)
        .await?)
}

/// Adds a key unless its number is taken: of replicas that start together, one wins.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn add(conn: &mut Connection, key: &StoredKey) -> Result<()> {
    diesel::insert_into(signing_keys::table)
        .values(key)
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}
