//! `signing_keys`.

use std::sync::{Mutex, MutexGuard};

use diesel::prelude::{ExpressionMethods, Insertable, QueryDsl, Queryable, Selectable};
use diesel::{SelectableHelper, delete, insert_into, update};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::clock::Time;
use crate::error::Result;
use crate::store::pool::{Database, Transaction};
use crate::store::schema::signing_keys;
use crate::store::{Connection, writer};

/// A key as stored: its private part is sealed.
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys, check_for_backend(diesel::pg::Pg))]
pub struct StoredSigningKey {
    /// RFC 7638 thumbprint, or `refresh-<number>`.
    pub kid: String,
    /// 1 access tokens, 2 refresh tokens.
    pub purpose: i16,
    /// From 1, within the purpose; none is assigned twice.
    pub key_number: i16,
    /// `EdDSA`, `ES256` or `RS256`; `HS256` for a MAC key.
    pub algorithm: String,
    /// The 32 bytes of the Ed25519 point, the P-256 point (SEC 1, uncompressed), the RSA key (PKCS #1); empty for a
    /// MAC key.
    pub public_key: Vec<u8>,
    /// Nonce, ciphertext, tag: `token/seal.rs`. Empty once the key is removed.
    pub sealed_private_key: Vec<u8>,
    pub created_at: Time,
    /// `None` = from the beginning.
    pub signs_from: Option<Time>,
    /// `None` = it has no end of signing.
    pub retires_at: Option<Time>,
    pub removed_at: Option<Time>,
}

/// Reads the keys over a connection of its own, which it keeps: a request that needs keys must not queue behind all
/// that wait for a pooled connection.
pub struct KeyReader {
    db: Database,
    conn: Mutex<Option<Connection>>,
}

impl KeyReader {
    /// Reads those of `db`; connects when first used.
    pub fn new(db: Database) -> KeyReader {
        KeyReader { db, conn: Mutex::default() }
    }

    /// All keys, oldest first. The caller sets a timeout.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn read(&self) -> Result<Vec<StoredSigningKey>> {
        // A read that fails or is cancelled closes its connection.
        let kept = self.kept().take();
        if let Some(mut conn) = kept
            && let Ok(keys) = all(&mut conn).await
            && writer::check(&mut conn).await.is_ok()
        {
            *self.kept() = Some(conn);
            return Ok(keys);
        }
        let mut conn = self.db.dedicated().await?;
        let keys = all(&mut conn).await?;
        *self.kept() = Some(conn);
        Ok(keys)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Connection>> {
        self.conn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// All keys, oldest first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn all(conn: &mut Connection) -> Result<Vec<StoredSigningKey>> {
    Ok(signing_keys::table
        .order((signing_keys::purpose, signing_keys::key_number))
        .select(StoredSigningKey::as_select())
        .load(conn)
        .await?)
}

/// All keys, oldest first; until the transaction ends no other transaction changes them. Readers do not wait.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(tx: &mut Transaction) -> Result<Vec<StoredSigningKey>> {
    tx.batch_execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE").await?;
    all(tx).await
}

/// Adds a key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn add(tx: &mut Transaction, key: &StoredSigningKey) -> Result<()> {
    insert_into(signing_keys::table).values(key).execute(&mut **tx).await?;
    Ok(())
}

/// Stores the times of an existing key, and its present private part.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn put(tx: &mut Transaction, key: &StoredSigningKey) -> Result<()> {
    update(signing_keys::table.find(&key.kid))
        .set((
            signing_keys::signs_from.eq(key.signs_from),
            signing_keys::retires_at.eq(key.retires_at),
            signing_keys::removed_at.eq(key.removed_at),
            signing_keys::sealed_private_key.eq(&key.sealed_private_key),
        ))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn forget(tx: &mut Transaction, kid: &str) -> Result<()> {
    delete(signing_keys::table.find(kid)).execute(&mut **tx).await?;
    Ok(())
}
