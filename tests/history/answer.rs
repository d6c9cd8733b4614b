//! Answers, and their essence for the checks.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sessiond::grpc::pb;
use uuid::Uuid;

use crate::record::{Answer, Epoch, Seen, Tokens, Verdict};

/// The key of the metadata that a create writes its tag to.
pub const TAG: &str = "tag";

/// An unprocessed answer.
pub enum Raw {
    Create(pb::CreateSessionResponse),
    Refresh(pb::RefreshSessionResponse),
    Reauthenticate(pb::ReauthenticateSessionResponse),
    Validate(pb::ValidateSessionResponse),
    Session(Option<pb::Session>),
    Device(Option<pb::UserDevice>),
    /// The number of ended sessions, and whether the call is complete.
    Done(u64, bool),
    Terminate(pb::TerminateSessionResponse),
    TerminateMany(pb::TerminateSessionsResponse),
    Policy(pb::UpdatePolicyResponse),
    Alert(Option<pb::SecurityAlert>),
    Resolve(pb::ResolveAlertResponse),
    List(Vec<pb::Session>),
}

impl Raw {
    /// The tokens of the answer.
    pub fn pair(&self) -> Option<&pb::TokenPair> {
        match self {
            Raw::Create(answer) => answer.tokens.as_ref(),
            Raw::Refresh(answer) => answer.tokens.as_ref(),
            Raw::Reauthenticate(answer) => answer.tokens.as_ref(),
            _ => None,
        }
    }

    pub fn watermark(&self) -> Option<&str> {
        match self {
            Raw::Terminate(answer) => Some(&answer.watermark),
            _ => None,
        }
    }

    pub fn essence(&self, epoch: &Epoch) -> Answer {
        let mut answer = Answer { complete: true, ..Answer::default() };
        let mut sessions = |listed: &[pb::Session]| {
            answer.sessions = listed.iter().map(|session| seen(session, epoch)).collect();
        };
        let session = match self {
            Raw::Create(of) => {
                sessions(&of.terminated_sessions);
                of.session.as_ref()
            }
            Raw::Refresh(of) => of.session.as_ref(),
            Raw::Reauthenticate(of) => of.session.as_ref(),
            Raw::Validate(of) => {
                answer.verdict = Some(verdict(of));
                of.session.as_ref()
            }
            Raw::Session(of) => of.as_ref(),
            Raw::Terminate(of) => of.session.as_ref(),
            Raw::TerminateMany(of) => {
                sessions(&of.sample);
                (answer.count, answer.complete) = (of.terminated_count, of.complete);
                None
            }
            Raw::List(of) => {
                sessions(of);
                None
            }
            Raw::Done(count, complete) => {
                (answer.count, answer.complete) = (*count, *complete);
                None
            }
            Raw::Policy(of) => {
                // A policy has no id, and only one policy changes.
                answer.subject =
                    of.policy.as_ref().map(|policy| (Uuid::nil(), revision(&policy.etag), 0));
                (answer.count, answer.complete) = (of.terminated_count, of.complete);
                None
            }
            Raw::Device(of) => {
                answer.subject =
                    of.as_ref().map(|device| (id(&device.device_id), revision(&device.etag), 0));
                None
            }
            Raw::Alert(of) => {
                answer.subject = of.as_ref().map(subject);
                None
            }
            Raw::Resolve(of) => {
                answer.subject = of.alert.as_ref().map(subject);
                (answer.count, answer.complete) = (of.terminated_count, of.complete);
                None
            }
        };
        answer.session = session.map(|session| seen(session, epoch));
        answer.tokens = self.pair().and_then(|pair| tokens(pair, epoch));
        answer
    }
}

fn subject(alert: &pb::SecurityAlert) -> (Uuid, u64, i32) {
    (id(&alert.alert_id), revision(&alert.etag), alert.state)
}

/// An etag that counts changes; 0 for others.
fn revision(etag: &str) -> u64 {
    etag.parse().unwrap_or(0)
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap_or_default()
}

fn seen(session: &pb::Session, epoch: &Epoch) -> Seen {
    let micros = |at: &Option<prost_types::Timestamp>| {
        at.map(|at| epoch.of_wall(at.seconds * 1_000_000 + i64::from(at.nanos) / 1000))
    };
    let idle = micros(&session.idle_expire_time).zip(micros(&session.last_active_time));
    Seen {
        id: id(&session.session_id),
        tenant: session.tenant_id.clone(),
        user: session.user_id.clone(),
        client: session.client_id.clone(),
        device: session.device.as_ref().map(|device| id(&device.device_id)).unwrap_or_default(),
        generation: session.refresh_generation,
        active: session.state() == pb::SessionState::Active,
        absolute: micros(&session.absolute_expire_time).unwrap_or_default(),
        idle: idle.map(|(expires, active)| expires - active),
        tag: session.metadata.get(TAG).cloned().unwrap_or_default(),
    }
}

/// The claims of an access token, without a check of its signature.
fn claims(access: &str) -> Option<serde_json::Value> {
    let payload = URL_SAFE_NO_PAD.decode(access.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn tokens(pair: &pb::TokenPair, epoch: &Epoch) -> Option<Tokens> {
    let claims = claims(&pair.access_token)?;
    Some(Tokens {
        session: claims["sid"].as_str()?.parse().ok()?,
        generation: u32::try_from(claims["rg"].as_u64()?).ok()?,
        access: digest(&pair.access_token),
        refresh: digest(&pair.refresh_token),
        expires: epoch.of_wall(claims["exp"].as_i64()? * 1_000_000),
    })
}

fn digest(secret: &str) -> u64 {
    let mut digest = DefaultHasher::new();
    secret.hash(&mut digest);
    digest.finish()
}

fn verdict(answer: &pb::ValidateSessionResponse) -> Verdict {
    match answer.outcome() {
        pb::Outcome::Active => Verdict::Active,
        pb::Outcome::StepUpRequired => Verdict::StepUp,
        _ => Verdict::Inactive(answer.inactive_reason().as_str_name()),
    }
}
