//! The answer when a limit refuses a create.

use crate::clock::Time;
use crate::model::conflict::{Conflict, TOLD};
use crate::model::session::Session;
use crate::session::create::NewSession;
use crate::session::create::plan::CreateRefusal;
use crate::session::limits::Refused;
use crate::token::conflict::{ConflictTokens, LIFE};
use uuid::Uuid;

/// The refusal of `new`, with a conflict token of this id if there is a choice among `live`.
pub(super) fn ask(
    Refused { breach, choice }: Refused,
    live: &[Session],
    new: &NewSession,
    tokens: &ConflictTokens,
    id: Uuid,
    now: Time,
) -> CreateRefusal {
    let Some(choice) = choice else { return CreateRefusal::LimitReached(breach) };
    let expires_at = now + LIFE;
    let sessions = choice.into_iter().take(TOLD).map(|i| live[i].clone()).collect();
    let token = tokens.write(new.holder(), id, expires_at);
    CreateRefusal::Conflict(Box::new(Conflict { breach, sessions, token, expires_at }))
}
