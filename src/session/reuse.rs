//! The alerts that refresh itself raises: a stolen token, and a database that lost writes.

use crate::clock::Time;
use crate::model::alert::{ActionTaken, Alert, Category, DATA_REGRESSION, REFRESH_REUSE, Severity};
use crate::model::device::ClientContext;
use crate::model::evidence::{Evidence, RefreshReuse, TypedEvidence};
use crate::model::ids::SessionKey;
use crate::model::session::Session;
use uuid::Uuid;

/// An exchanged refresh token came again while its successor is in use: one of the two holders of
/// the chain is a thief (RFC 9700, section 4.14.2).
pub(super) fn reuse(
    id: Uuid,
    now: Time,
    session: &Session,
    presented: u32,
    presenter: Option<&ClientContext>,
) -> Alert {
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string());
    let evidence = RefreshReuse {
        presented_generation: presented,
        current_generation: session.chain.generation,
        rotated_at: session.chain.rotated_at,
        presenter_ip: text(presenter.and_then(|client| client.ip)),
        presenter_user_agent: presenter.and_then(|client| client.user_agent.clone()),
        session_ip: text(session.ip),
        session_user_agent: session.user_agent.clone(),
    };
    Alert {
        title: "A used refresh token was presented again".to_owned(),
        description: format!(
            "Generation {presented} of the session's refresh token came after it had been \
             exchanged and its successor was in use. Somebody else holds a copy; the session was \
             terminated.",
        ),
        ..alert(
            id,
            now,
            session,
            (REFRESH_REUSE, Category::TokenTheft),
            TypedEvidence::RefreshReuse(evidence),
        )
    }
}

/// A genuine token of a generation that the database does not contain: the database was restored
/// from a backup, or failed over to a replica that lagged behind.
pub(super) fn regression(id: Uuid, now: Time, session: &Session, presented: u32) -> Alert {
    let current_generation = session.chain.generation;
    let evidence =
        TypedEvidence::DataRegression { presented_generation: presented, current_generation };
    Alert {
        title: "The database lost acknowledged writes".to_owned(),
        description: format!(
            "A genuine refresh token of generation {presented} was presented, but the database \
             knows only {current_generation}. Other changes may be lost too; the session was \
             terminated.",
        ),
        ..alert(id, now, session, (DATA_REGRESSION, Category::DataIntegrity), evidence)
    }
}

fn alert(
    id: Uuid,
    now: Time,
    session: &Session,
    (rule, category): (&str, Category),
    evidence: TypedEvidence,
) -> Alert {
    let SessionKey { tenant, user, session: of } = &session.key;
    Alert {
        user: Some(user.clone()),
        session: Some(*of),
        device: Some(session.device.id),
        evidence: Evidence { typed: Some(evidence), ..Evidence::default() },
        dedup_key: format!("{rule}:{of}"),
        action_taken: ActionTaken::SessionTerminated,
        ..Alert::opened(id, tenant.clone(), now, (rule, 1), (category, Severity::Critical))
    }
}
