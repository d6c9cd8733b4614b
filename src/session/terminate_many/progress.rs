//! What a repeated call goes on with: each batch moves the row of its request, in its transaction.

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::request::{Progress, Remembered, RequestId};
use crate::session::terminate_many::walk::Subject;
use crate::session::terminate_many::{MassTermination, SAMPLE, Step, TerminateMany, Terminated};
use crate::store::changes::Changes;
use crate::store::pool::Transaction;
use crate::store::{requests, sessions};
use uuid::Uuid;

/// How far the request got before, locked; `None` if it did not begin. Whoever works on the same
/// request meanwhile waits.
pub async fn begun(
    tx: &mut Transaction,
    wish: &MassTermination,
    now: Time,
) -> Result<Option<Progress>> {
    let Some(request) = wish.request else { return Ok(None) };
    let known = requests::lock(tx, &wish.tenant, request.id).await?;
    match known.filter(|known| known.request.holds_at(now)) {
        Some(known) if known.request.request != request => Err(Error::RequestIdReused),
        known => Ok(known),
    }
}

/// The further of where the call is and where its request is: everything newer is done, or left to the end.
pub fn further(after: Option<Uuid>, begun: Option<&Progress>) -> Option<Uuid> {
    let begun = begun.and_then(|begun| begun.request.subject);
    after.into_iter().chain(begun).min()
}

/// Adds a batch to what the request did, and says where its next call begins.
pub fn advance(
    begun: Option<Progress>,
    wish: &MassTermination,
    request: RequestId,
    step: &Step,
    subject: Subject,
    changes: &mut Changes,
) -> Progress {
    let mut progress = begun.unwrap_or_else(|| {
        let first = Remembered {
            tenant: wish.tenant.clone(),
            request,
            // Not named: a batch that locks no session of theirs must not outlive an erasure with it.
            user: None,
            subject: None,
            related: Vec::new(),
            at: changes.at(),
        };
        changes.remember(first.clone());
        Progress { request: first, count: 0, complete: false }
    });
    progress.count += step.ended.len() as u64;
    match subject {
        Subject::Next if !step.leaves_some() => {
            progress.complete = step.next.is_none();
            progress.request.subject = step.next;
        }
        Subject::Next => progress.request.subject = step.from,
        Subject::Stays(at) => progress.request.subject = Some(at),
        Subject::Last(at) => {
            progress.complete = !step.leaves_some();
            progress.request.subject = Some(at);
        }
    }
    let related = &mut progress.request.related;
    let ended = step.ended.iter().map(|session| session.key.session);
    related.extend(ended.take(SAMPLE - related.len()));
    changes.advance(progress.clone());
    progress
}

impl TerminateMany {
    /// The answer of a request that got this far.
    pub(super) async fn answer(&self, progress: Progress, held_up: bool) -> Result<Terminated> {
        let Progress { request, count, complete } = progress;
        let sample = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            sessions::find_all_by_id(&mut conn, &request.tenant, &request.related).await
        });
        let sample = sample.await?;
        Ok(Terminated { count, sample, complete, held_up, ..Terminated::default() })
    }
}

/// Where a batch begins whose first session this is.
pub fn just_before(session: Uuid) -> Uuid {
    Uuid::from_u128(session.as_u128().saturating_add(1))
}
