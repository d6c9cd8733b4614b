//! RevokeDevice: forgets the trust, then ends all sessions on the device.

use std::time::{Duration, Instant};

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::ids::DeviceKey;
use crate::model::request::RequestId;
use crate::model::revocation::{self, Subject};
use crate::model::session::{EndReason, SessionFilter};
use crate::session::devices::not_found;
use crate::session::devices::update::remembered;
use crate::session::terminate_many::{MassTermination, TerminateMany, Terminated};
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::{devices, requests, sessions};

/// Revokes devices.
pub struct Revoke {
    db: Database,
    clock: Clock,
    terminate: TerminateMany,
}

/// What a caller asks for.
pub struct Revocation {
    pub key: DeviceKey,
    /// At most 512 characters.
    pub note: Option<String>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

impl Revoke {
    /// Revokes devices of `db`, their sessions with `terminate`.
    pub fn new(db: Database, clock: Clock, terminate: TerminateMany) -> Revoke {
        Revoke { db, clock, terminate }
    }

    /// Forgets the trust at once, and ends sessions for as long as `time` lasts. A repetition ends what an
    /// earlier call left over, no session that began later.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RequestIdReused`], [`Error::Unavailable`]: the trust may be gone then, and
    /// some sessions ended.
    pub async fn revoke(&self, wish: &Revocation, time: Duration) -> Result<Terminated> {
        let begun = Instant::now();
        let twice = async {
            match self.forget_trust(wish).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.forget_trust(wish).await,
                other => other,
            }
        };
        let before = self.db.within(twice).await?;
        let time = time.saturating_sub(begun.elapsed());
        let mut done = self.terminate.terminate(&wish.ending(before), time).await?;
        if let Some(at) = before {
            let ended = self.db.within(async {
                let mut conn = self.db.acquire().await?;
                sessions::count_revoked(&mut conn, &wish.key, at).await
            });
            done.count = ended.await?;
        }
        Ok(done)
    }

    /// Returns when the request did so before, if it did.
    async fn forget_trust(&self, wish: &Revocation) -> Result<Option<Time>> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        if let Some(request) = wish.request
            && let Some(known) = requests::before(&mut tx, &wish.key.tenant, request, now).await?
        {
            tx.commit().await?;
            return if known.request == request {
                Ok(Some(known.at))
            } else {
                Err(Error::RequestIdReused)
            };
        }
        let found = devices::lock(&mut tx, &wish.key).await?;
        let Some(mut device) = found else { return Err(tx.refuse(not_found(&wish.key)).await) };
        device.choice.trusted = false;
        device.revoked_at = Some(now);
        device.revision += 1;
        let (id, kind) = (self.clock.new_id(), ActivityKind::DeviceRevoked);
        let mut changes = Changes::default();
        changes.activities.push(Activity::of_device(id, now, kind, &wish.principal, &device));
        changes.devices.push(device);
        let subject = Subject::Device(wish.key.device);
        changes.revoked.push(revocation::Revocation::new(wish.key.tenant.clone(), subject, now));
        changes.remembered.extend(wish.request.map(|request| remembered(&wish.key, request, now)));
        changes.write(&mut tx).await?;
        tx.commit().await?;
        Ok(None)
    }
}

impl Revocation {
    /// Every session on the device; in a repetition, those that were there at `before`.
    fn ending(&self, before: Option<Time>) -> MassTermination {
        MassTermination {
            tenant: self.key.tenant.clone(),
            filter: SessionFilter {
                user: Some(self.key.user.clone()),
                device: Some(self.key.device),
                created_before: before.map(|at| at + chrono::Duration::microseconds(1)),
                ..SessionFilter::default()
            },
            except: None,
            reason: EndReason::DeviceRevoked,
            note: self.note.clone(),
            dry_run: false,
            expected_max: None,
            // The request is the device's: it says what to go on with by the time it was made.
            request: None,
            principal: self.principal.clone(),
        }
    }
}
