//! UpdatePolicy: changes the overrides of one level, and applies the result to running sessions.

use std::time::Duration;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::error::{Error, Result, Violation};
use crate::model::ids::TenantId;
use crate::model::policy::overrides::{Field, Overrides, PolicyLevel, PolicyScope};
use crate::model::policy::preset::Excess;
use crate::model::policy::resolve::{check, resolve};
use crate::model::request::{RecordedRequest, RequestId};
use crate::session::apply_policy::{ApplyPolicy, REPEAT_AFTER};
use crate::session::get_policy::Levels;
use crate::session::mutation::{self, Mutation};
use crate::session::terminate_many::MassTerminationResult;
use crate::session::terminate_many::budget::Budget;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{Connection, policies, watermark};

/// The most clients that a refusal names.
const NAMED: usize = 5;

/// Changes policies.
pub struct UpdatePolicy {
    db: Database,
    clock: Clock,
    policies: Policies,
    apply: ApplyPolicy,
}

/// What a caller asks for.
pub struct PolicyUpdate {
    pub scope: PolicyScope,
    /// Within their ranges.
    pub overrides: Overrides,
    /// The fields to change.
    pub fields: Vec<Field>,
    /// The revision that the caller read.
    pub etag: Option<String>,
    pub dry_run: bool,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The result of an update.
pub struct Updated {
    pub level: PolicyLevel,
    /// The values that exceed the recommendations of the preset.
    pub advice: Vec<Excess>,
    /// The sessions that this ended, or in a dry run would end.
    pub ended: MassTerminationResult,
}

/// A level before and after a change.
pub(crate) struct PolicyChange {
    before: PolicyLevel,
    levels: Levels,
}

impl UpdatePolicy {
    /// Changes `policies` in `db`.
    pub fn new(db: Database, clock: Clock, policies: Policies, apply: ApplyPolicy) -> UpdatePolicy {
        UpdatePolicy { db, clock, policies, apply }
    }

    /// Changes the level, and applies it for at most `time`. A job finishes the rest, also after an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] for rules between values, [`Error::EtagMismatch`],
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn update(&self, input: &PolicyUpdate, time: Duration) -> Result<Updated> {
        let mut time = Budget::new(time);
        if input.dry_run {
            return self.dry_run(input, &mut time).await;
        }
        let done = mutation::run(&self.db, &self.clock, self, input).await?;
        let PolicyChange { before, levels } = done.answer;
        self.policies.invalidate();
        let level = levels.own().clone();
        if level.revision != before.revision {
            tracing::info!(
                target: "audit",
                principal = input.principal, scope = ?level.scope, revision = level.revision,
                before = ?before.overrides, after = ?level.overrides, "policy updated"
            );
        }
        let mut ended = MassTerminationResult::default();
        if level.apply_at.is_none() {
            ended.complete = true;
        } else if let Err(error) =
            self.apply.apply(&level.scope, &input.principal, || time.allows(), &mut ended).await
        {
            // The change itself is committed, and a job continues.
            tracing::warn!(%error, "a policy could not be applied to the end; it will be");
        }
        ended.watermark = Some(watermark::now(&self.db).await?);
        Ok(self.updated(level, &levels, ended))
    }

    async fn dry_run(&self, input: &PolicyUpdate, time: &mut Budget) -> Result<Updated> {
        let deciding = async {
            let mut conn = self.db.acquire().await?;
            self.change(&mut conn, input, self.clock.now()).await
        };
        let PolicyChange { before, levels } = self.db.within(deciding).await?;
        let ended = self.apply.count(levels.own(), time).await?;
        let level = PolicyLevel { overrides: levels.own().overrides.clone(), ..before };
        Ok(self.updated(level, &levels, ended))
    }

    fn updated(
        &self,
        level: PolicyLevel,
        levels: &Levels,
        ended: MassTerminationResult,
    ) -> Updated {
        let advice = levels.effective(&self.policies).exceeded();
        Updated { level, advice, ended }
    }

    /// The level after the change. An update without effect keeps the revision.
    async fn change(
        &self,
        conn: &mut Connection,
        input: &PolicyUpdate,
        now: Time,
    ) -> Result<PolicyChange> {
        let mut levels = Levels::read(conn, &input.scope).await?;
        let before = levels.own().clone();
        if input.etag.as_ref().is_some_and(|etag| *etag != before.revision.to_string()) {
            return Err(Error::EtagMismatch);
        }
        let own = levels.own_mut();
        for field in &input.fields {
            own.overrides.take(*field, &input.overrides);
        }
        if own.overrides != before.overrides {
            own.revision += 1;
            own.updated = Some((now, input.principal.clone()));
        }
        if own.overrides.timeouts_differ(&before.overrides) {
            own.apply_at = Some(now + REPEAT_AFTER);
        }
        let client = levels.client.as_ref().map(|level| &level.overrides);
        check(&self.policies.builtin(), &levels.tenant.overrides, client)
            .map_err(Error::Invalid)?;
        if levels.client.is_none() && levels.tenant.overrides.preset != before.overrides.preset {
            self.check_clients(conn, &levels.tenant).await?;
        }
        Ok(PolicyChange { before, levels })
    }

    /// A preset must hold for the clients that inherit it, too.
    async fn check_clients(&self, conn: &mut Connection, tenant: &PolicyLevel) -> Result<()> {
        let builtin = self.policies.builtin();
        let mut broken = Vec::new();
        for level in policies::of_tenant(conn, &tenant.scope.tenant).await? {
            let Some(client) = &level.scope.client else { continue };
            let found = resolve(&builtin, &tenant.overrides, &level.overrides).exceeded();
            for excess in found.into_iter().filter(|excess| excess.forbidden) {
                let rule =
                    format!("binds client `{client}`, whose {} {}", excess.field, excess.text);
                broken.push(Violation { field: "policy.preset".to_owned(), rule });
            }
        }
        broken.truncate(NAMED);
        if broken.is_empty() { Ok(()) } else { Err(Error::Invalid(broken)) }
    }
}

impl Mutation<PolicyUpdate> for UpdatePolicy {
    type Locked = ();
    type Answer = PolicyChange;

    fn request(input: &PolicyUpdate) -> Option<(&TenantId, RequestId)> {
        Some((&input.scope.tenant, input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, input: &PolicyUpdate) -> Result<()> {
        // Also for a change of a client's level: the level of the tenant must not change meanwhile.
        policies::lock(tx, &input.scope.tenant).await
    }

    /// The current level.
    async fn repeat(
        &self,
        tx: &mut Transaction,
        input: &PolicyUpdate,
        (): (),
        _: RecordedRequest,
        _: Time,
    ) -> Result<PolicyChange> {
        let levels = Levels::read(tx, &input.scope).await?;
        Ok(PolicyChange { before: levels.own().clone(), levels })
    }

    async fn decide(
        &self,
        tx: &mut Transaction,
        input: &PolicyUpdate,
        (): (),
        changes: &mut Changes,
    ) -> Result<PolicyChange> {
        let change = self.change(tx, input, changes.at()).await?;
        let level = change.levels.own();
        if level.revision != change.before.revision {
            changes.update_policy(level.clone(), &input.principal);
        }
        changes.record_plain_request(input.request, &input.scope.tenant);
        Ok(change)
    }
}
