//! What a repeated call goes on with: each batch moves the row of its request, in its transaction.

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::request::{Progress, Remembered, RequestId};
use crate::model::session::Session;
use crate::session::terminate_many::{MassTermination, SAMPLE};
use crate::store::changes::Changes;
use crate::store::pool::Transaction;
use crate::store::requests;
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

/// Adds a batch to what the request did; the next one begins at `next`, if there is one.
pub fn advance(
    begun: Option<Progress>,
    wish: &MassTermination,
    request: RequestId,
    ended: &[Session],
    next: Option<Uuid>,
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
    progress.count += ended.len() as u64;
    progress.complete = next.is_none();
    progress.request.subject = next;
    let related = &mut progress.request.related;
    related.extend(ended.iter().map(|session| session.key.session).take(SAMPLE - related.len()));
    changes.advance(progress.clone());
    progress
}
