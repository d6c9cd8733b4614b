//! `principals` and `api_keys`.

use diesel::prelude::{
    AsChangeset, ExpressionMethods, Insertable, QueryDsl, Queryable, Selectable, SelectableHelper,
};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::clock::Time;
use crate::error::Result;
use crate::store::Connection;
use crate::store::schema::{api_keys, principals};

/// A principal as stored. Names of roles and scopes may be of another release.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = principals, check_for_backend(diesel::pg::Pg))]
pub struct StoredPrincipal {
    pub name: String,
    pub roles: Vec<String>,
    pub scopes: Vec<String>,
    pub tenants: Vec<String>,
    pub audiences: Vec<String>,
    /// Client certificates that name it prove it.
    pub accepts_certificates: bool,
    #[diesel(skip_update)]
    pub created_at: Time,
    pub updated_at: Time,
}

/// An API key as stored, with the hash of its secret. Has no `Debug`.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys, check_for_backend(diesel::pg::Pg))]
pub struct StoredApiKey {
    pub key_id: String,
    pub principal: String,
    pub secret_sha256: Vec<u8>,
    pub created_at: Time,
    pub expires_at: Time,
    pub revoked_at: Option<Time>,
}

/// A principal and, if it has any, a live key: its id, hash and expiry.
pub struct PrincipalWithKey {
    pub principal: StoredPrincipal,
    pub key: Option<(String, Vec<u8>, Time)>,
}

statement! {
    /// One statement, so one snapshot.
    All { now: Time as Timestamptz, limit: i64 as BigInt } -> (
        Text, Array<Text>, Array<Text>, Array<Text>, Array<Text>, Bool, Timestamptz, Timestamptz,
        Nullable<Text>, Nullable<Binary>, Nullable<Timestamptz>,
    ),
    "SELECT p.name, p.roles, p.scopes, p.tenants, p.audiences,
        p.accepts_certificates, p.created_at, p.updated_at, k.key_id, k.secret_sha256, k.expires_at
    FROM principals p LEFT JOIN api_keys k
        ON k.principal = p.name AND k.revoked_at IS NULL AND k.expires_at > ?
    ORDER BY p.name, k.key_id LIMIT ?"
}

statement! {
    Prune { before: Time as Timestamptz } -> BigInt,
    "WITH gone AS (
        DELETE FROM api_keys WHERE least(expires_at, revoked_at) < ? RETURNING 1
    )
    SELECT count(*) FROM gone"
}

type Row = (
    String,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    Vec<String>,
    bool,
    Time,
    Time,
    Option<String>,
    Option<Vec<u8>>,
    Option<Time>,
);

/// All principals with their keys that are live at `now`; at most `limit` rows, and a principal has one for each key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn known(conn: &mut Connection, now: Time, limit: i64) -> Result<Vec<PrincipalWithKey>> {
    let rows: Vec<Row> = All::new(now, limit).load(conn).await?;
    Ok(rows.into_iter().map(parted).collect())
}

fn parted(row: Row) -> PrincipalWithKey {
    let (name, roles, scopes, tenants, audiences, certificates, created, updated, id, hash, until) =
        row;
    let principal = StoredPrincipal {
        name,
        roles,
        scopes,
        tenants,
        audiences,
        accepts_certificates: certificates,
        created_at: created,
        updated_at: updated,
    };
    let key = id.zip(hash).zip(until).map(|((id, hash), until)| (id, hash, until));
    PrincipalWithKey { principal, key }
}

/// Makes other transactions that change principals or keys wait until this one ends. Readers do not wait.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection) -> Result<()> {
    Ok(conn.batch_execute("LOCK TABLE principals IN SHARE ROW EXCLUSIVE MODE").await?)
}

/// All principals, by name.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn principals(conn: &mut Connection) -> Result<Vec<StoredPrincipal>> {
    let all = principals::table.order(principals::name).select(StoredPrincipal::as_select());
    Ok(all.load(conn).await?)
}

/// All keys, the ended ones included, by principal and age.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn keys(conn: &mut Connection) -> Result<Vec<StoredApiKey>> {
    let all = api_keys::table.order((api_keys::principal, api_keys::created_at, api_keys::key_id));
    Ok(all.select(StoredApiKey::as_select()).load(conn).await?)
}

/// Adds or replaces a principal; the time of its creation stays.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn set_principal(
    conn: &mut Connection,
    principal: &StoredPrincipal,
) -> Result<()> {
    diesel::insert_into(principals::table)
        .values(principal)
        .on_conflict(principals::name)
        .do_update()
        .set(principal)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes a principal with its keys.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn remove_principal(conn: &mut Connection, name: &str) -> Result<()> {
    diesel::delete(principals::table.find(name)).execute(conn).await?;
    Ok(())
}

/// Adds a key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn add_key(conn: &mut Connection, key: &StoredApiKey) -> Result<()> {
    diesel::insert_into(api_keys::table).values(key).execute(conn).await?;
    Ok(())
}

/// Revokes a key at `now`; one that was revoked before stays as it is.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn revoke_key(conn: &mut Connection, id: &str, now: Time) -> Result<()> {
    diesel::update(api_keys::table.find(id))
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes keys that ended before `before`.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn prune_keys(conn: &mut Connection, before: Time) -> Result<()> {
    Prune::new(before).get_result::<i64>(conn).await?;
    Ok(())
}
