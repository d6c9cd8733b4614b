//! The steps of a mutation that serves one call: begin, lock, check whether its request was handled
//! before, decide, write, commit. They run once more after a lost race.

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::ids::TenantId;
use crate::model::request::{RecordedRequest, RequestId};
use crate::store::changes::Changes;
use crate::store::pool::{Committed, Database, Transaction};
use crate::store::requests;

/// The steps of one kind of mutation. Everything that they await is the database. `Wish` is the caller's input.
pub(crate) trait Mutation<Wish: Sync>: Sync {
    /// The rows that the transaction has locked and read.
    type Locked: Send;
    type Answer: Send;

    /// The request id, if the caller gave one, and its tenant.
    fn request(input: &Wish) -> Option<(&TenantId, RequestId)>;

    /// Locks the rows that may change, and reads what the decision needs.
    fn lock(
        &self,
        tx: &mut Transaction,
        input: &Wish,
    ) -> impl Future<Output = Result<Self::Locked>> + Send;

    /// The answer of a request that was handled before, rebuilt from its record. States are as of `now`.
    fn repeat(
        &self,
        tx: &mut Transaction,
        input: &Wish,
        locked: Self::Locked,
        known: RecordedRequest,
        now: Time,
    ) -> impl Future<Output = Result<Self::Answer>> + Send;

    /// Decides as of `changes.at()`, which is after the locks. An error changes nothing.
    fn decide(
        &self,
        tx: &mut Transaction,
        input: &Wish,
        locked: Self::Locked,
        changes: &mut Changes,
    ) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// Runs the mutation for `input`, within the time limit of a unit of work.
///
/// # Errors
/// [`Error::RequestIdReused`], those of the mutation, [`Error::Unavailable`].
pub(crate) async fn run<Wish: Sync, M: Mutation<Wish>>(
    db: &Database,
    clock: &Clock,
    mutation: &M,
    input: &Wish,
) -> Result<Committed<M::Answer>> {
    let twice = async {
        match attempt(db, clock, mutation, input).await {
            // Another call took the request id meanwhile: its record can be read now.
            Err(Error::Unavailable(Outage::Raced(_))) => attempt(db, clock, mutation, input).await,
            other => other,
        }
    };
    db.within(twice).await
}

async fn attempt<Wish: Sync, M: Mutation<Wish>>(
    db: &Database,
    clock: &Clock,
    mutation: &M,
    input: &Wish,
) -> Result<Committed<M::Answer>> {
    db.transaction(async |tx| {
        let locked = mutation.lock(tx, input).await?;
        let mut changes = Changes::new(clock);
        // After the locks: a concurrent call of the same request has committed by now.
        if let Some((tenant, request)) = M::request(input)
            && let Some(known) = requests::before(tx, tenant, request, changes.at()).await?
        {
            if known.request != request {
                return Err(Error::RequestIdReused);
            }
            return mutation.repeat(tx, input, locked, known, changes.at()).await;
        }
        let answer = mutation.decide(tx, input, locked, &mut changes).await?;
        changes.write(tx).await?;
        Ok(answer)
    })
    .await
}
