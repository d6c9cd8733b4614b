//! The progress of a request over its calls: each batch updates the row of the request, in its transaction.

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::request::{Progress, RecordedRequest, RequestId};
use crate::session::terminate_many::walk::NextStart;
use crate::session::terminate_many::{
    BatchResult, MassTermination, MassTerminationResult, SAMPLE, TerminateMany,
};
use crate::store::changes::Changes;
use crate::store::pool::Transaction;
use crate::store::{requests, sessions};
use uuid::Uuid;

/// The progress of the request, locked; `None` if it has not begun. A concurrent call of the same request waits.
pub async fn begun(
    tx: &mut Transaction,
    input: &MassTermination,
    now: Time,
) -> Result<Option<Progress>> {
    let Some(request) = input.request else { return Ok(None) };
    let known = requests::lock(tx, &input.tenant, request.id).await?;
    match known.filter(|known| known.request.holds_at(now)) {
        Some(known) if known.request.request != request => Err(Error::RequestIdReused),
        known => Ok(known),
    }
}

/// The further of the positions of the call and of its request: everything newer is done, or left to the end.
pub fn further(after: Option<Uuid>, begun: Option<&Progress>) -> Option<Uuid> {
    let begun = begun.and_then(|begun| begun.request.subject);
    after.into_iter().chain(begun).min()
}

/// Adds a batch to the progress, and records where the next call of the request begins.
pub fn advance(
    begun: Option<Progress>,
    input: &MassTermination,
    request: RequestId,
    step: &BatchResult,
    subject: NextStart,
    changes: &mut Changes,
) -> Progress {
    let mut progress = begun.unwrap_or_else(|| {
        let first = RecordedRequest {
            tenant: input.tenant.clone(),
            request,
            // Without a user: a batch that locks no session of the user could otherwise record the
            // user after an erasure.
            user: None,
            subject: None,
            related: Vec::new(),
            at: changes.at(),
        };
        changes.record_request(first.clone());
        Progress { request: first, count: 0, complete: false }
    });
    progress.count += step.ended.len() as u64;
    match subject {
        NextStart::Next if !step.leaves_some() => {
            progress.complete = step.next.is_none();
            progress.request.subject = step.next;
        }
        NextStart::Next => progress.request.subject = step.from,
        NextStart::Stays(at) => progress.request.subject = Some(at),
        NextStart::Last(at) => {
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
    /// The answer of a request with this progress.
    pub(super) async fn answer(
        &self,
        progress: Progress,
        held_up: bool,
    ) -> Result<MassTerminationResult> {
        let Progress { request, count, complete } = progress;
        let sample = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            sessions::find_all_by_id(&mut conn, &request.tenant, &request.related).await
        });
        let sample = sample.await?;
        Ok(MassTerminationResult {
            count,
            sample,
            complete,
            held_up,
            ..MassTerminationResult::default()
        })
    }
}

/// The position of a batch that begins with this session.
pub fn just_before(session: Uuid) -> Uuid {
    Uuid::from_u128(session.as_u128().saturating_add(1))
}
