//! `user_sessions`: reading, locking, touching. Writing is in `changes`.

mod filter;
mod list;
mod lock;
mod on_device;
mod outliving;
mod presence;
mod touch;

use diesel::SelectableHelper;
use diesel::prelude::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::rows::found::{Found, sound};
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions as s;

pub use list::{list, matching};
pub use lock::{
    LockedSessions, count_live, lock, lock_due, lock_free, lock_live, lock_sound, postpone,
};
pub use on_device::{count_revoked, lock_on_device};
pub use outliving::outliving;
pub use presence::present;
pub use touch::{Touch, touch};

/// The session with this key, by primary key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find(conn: &mut Connection, key: &SessionKey) -> Result<Option<Session>> {
    s::table
        .find((key.tenant.as_str(), key.user.as_str(), key.session))
        .select(SessionRow::as_select())
        .first(conn)
        .await
        .optional()?
        .map(Session::try_from)
        .transpose()
}

/// The id of the newest session of a user that is not ended. Those that begin later have higher ids.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn newest_live(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
) -> Result<Option<Uuid>> {
    let newest = s::table
        .filter(s::tenant_id.eq(tenant.as_str()))
        .filter(s::user_id.eq(user.as_str()))
        .filter(s::state.eq(1))
        .order(s::session_id.desc())
        .select(s::session_id)
        .first(conn);
    Ok(newest.await.optional()?)
}

/// The sessions with these ids, of any tenant and user, newest first. Damaged rows are logged and skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find_all_by_id(
    conn: &mut Connection,
    tenant: &TenantId,
    ids: &[Uuid],
) -> Result<Vec<Session>> {
    let found = s::table
        .filter(s::tenant_id.eq(tenant.as_str()))
        .filter(s::session_id.eq_any(ids))
        .order(s::session_id.desc())
        .select(Found::<SessionRow>::as_select());
    Ok(sound(found.load(conn).await?).0)
}

/// The session with this id, of any tenant and user: a look-up in every shard of a distributed table.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find_by_id(
    conn: &mut Connection,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<Session>> {
    s::table
        .filter(s::tenant_id.eq(tenant.as_str()))
        .filter(s::session_id.eq(id))
        .select(SessionRow::as_select())
        .first(conn)
        .await
        .optional()?
        .map(Session::try_from)
        .transpose()
}
