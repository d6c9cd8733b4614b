//! RevokeDevice: removes the trust, then ends all sessions on the device.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::ids::{DeviceKey, TenantId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::session::{EndReason, SessionFilter};
use crate::model::user_device::UserDevice;
use crate::session::devices::not_found;
use crate::session::mutation::{self, Mutation};
use crate::session::terminate_many::{MassTermination, MassTerminationResult, TerminateMany};
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{devices, sessions};

/// Revokes devices.
pub struct Revoke {
    db: Database,
    clock: Clock,
    terminate: TerminateMany,
}

/// A request to revoke or to forget a device.
pub struct DeviceRevocation {
    pub key: DeviceKey,
    /// At most 512 characters.
    pub note: Option<String>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

impl Revoke {
    /// Revokes devices of `db`, their sessions with `terminate`.
    pub fn new(db: Database, clock: Clock, terminate: TerminateMany) -> Revoke {
        Revoke { db, clock, terminate }
    }

    /// Removes the trust at once, and ends sessions for at most `time`. A repetition ends what an
    /// earlier call left, but no session created later.
    ///
    /// # Errors
    /// `NotFound`, `RequestIdReused`, and `Unavailable`: the trust may be removed then, and some
    /// sessions ended. `Internal` if the device or a session cannot be read: then all other
    /// sessions are ended.
    pub async fn revoke(
        &self,
        input: &DeviceRevocation,
        time: Duration,
    ) -> Result<MassTerminationResult> {
        Ok(self.revoke_at(input, time).await?.1)
    }

    /// The same, with the time of the revocation.
    pub(super) async fn revoke_at(
        &self,
        input: &DeviceRevocation,
        time: Duration,
    ) -> Result<(Time, MassTerminationResult)> {
        let begun = Instant::now();
        let begin = match mutation::run(&self.db, &self.clock, self, input).await {
            Ok(done) => done.answer,
            Err(error @ Error::Internal(_)) => {
                // A damaged device must not keep its sessions alive.
                let now = Begin { at: self.clock.now(), newest: None, is_repetition: true };
                self.terminate.terminate(&input.ending(&now), time).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let time = time.saturating_sub(begun.elapsed());
        let mut done = self.terminate.terminate(&input.ending(&begin), time).await?;
        if input.request.is_some() {
            // Of all calls of the request together, also those in progress.
            let newest = begin.newest.unwrap_or_default();
            let ended = self.db.within(async {
                let mut conn = self.db.acquire().await?;
                sessions::count_revoked(&mut conn, &input.key, newest, begin.at).await
            });
            done.count = ended.await?;
        }
        Ok((begin.at, done))
    }
}

/// When the device was revoked, by this call or by an earlier one of the same request.
pub(crate) struct Begin {
    at: Time,
    /// The newest live session of the user at that time.
    newest: Option<Uuid>,
    is_repetition: bool,
}

/// Removes the trust.
impl Mutation<DeviceRevocation> for Revoke {
    type Locked = Option<UserDevice>;
    type Answer = Begin;

    fn request(input: &DeviceRevocation) -> Option<(&TenantId, RequestId)> {
        Some((&input.key.tenant, input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, input: &DeviceRevocation) -> Result<Self::Locked> {
        devices::lock(tx, &input.key).await
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        _: &DeviceRevocation,
        _: Option<UserDevice>,
        known: RecordedRequest,
        _: Time,
    ) -> Result<Begin> {
        Ok(Begin { at: known.at, newest: known.newest(), is_repetition: true })
    }

    async fn decide(
        &self,
        tx: &mut Transaction,
        input: &DeviceRevocation,
        device: Option<UserDevice>,
        changes: &mut Changes,
    ) -> Result<Begin> {
        let mut device = device.ok_or_else(|| not_found(&input.key))?;
        let newest = sessions::newest_live(tx, &input.key.tenant, &input.key.user).await?;
        device.choice.trusted = false;
        device.revoked_at = Some(changes.at());
        device.revision += 1;
        changes.revoke_device(device, &input.principal);
        changes.record_request_of_device(input.request, &input.key, newest);
        Ok(Begin { at: changes.at(), newest, is_repetition: false })
    }
}

impl DeviceRevocation {
    /// Every session on the device; in a repetition, up to the newest one at that time, if it is recorded.
    fn ending(&self, begin: &Begin) -> MassTermination {
        let before = Some(begin).filter(|begin| begin.is_repetition);
        let up_to = before.and_then(|begin| begin.newest);
        let by_time = before.filter(|_| up_to.is_none());
        MassTermination {
            tenant: self.key.tenant.clone(),
            filter: SessionFilter {
                user: Some(self.key.user.clone()),
                device: Some(self.key.device),
                created_before: by_time.map(|it| it.at + chrono::Duration::microseconds(1)),
                ..SessionFilter::default()
            },
            except: None,
            up_to,
            reason: EndReason::DeviceRevoked,
            note: self.note.clone(),
            dry_run: false,
            expected_max: None,
            // The request id belongs to the device: it records the newest session at that time,
            // where a repetition continues.
            request: None,
            principal: self.principal.clone(),
        }
    }
}
