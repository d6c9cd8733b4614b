//! A session and its life: active, then ended once and for all.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::Duration;

use crate::clock::Time;
use crate::model::claims::CustomClaims;
use crate::model::device::{ClientContext, Device, DeviceType, Location};
use crate::model::ids::{ClientId, DeviceKey, SessionKey, UserId};
use uuid::Uuid;

/// A session as the database holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub key: SessionKey,
    pub client: ClientId,
    pub device: Device,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub location: Option<Location>,
    pub authentication: Authentication,
    /// `aud` of its access tokens: 1 to 16 values.
    pub audiences: Vec<String>,
    /// `scope` of its access tokens, as RFC 6749 writes it, at most 1024 characters.
    pub scope: Option<String>,
    /// The custom claims of its access tokens.
    pub claims: Option<CustomClaims>,
    /// The caller's own: up to 32 entries and 4096 bytes.
    pub metadata: BTreeMap<String, String>,
    pub created_at: Time,
    /// When the absolute timeout began to run: creation, or the last re-authentication.
    pub renewed_at: Time,
    /// The last create, refresh, re-authentication or active validation; validations up to one flush late.
    pub last_active_at: Time,
    /// From the last activity, 1 s or more; `None` = never by idleness.
    pub idle_timeout: Option<Duration>,
    /// Activity does not move it; a re-authentication moves it on, a stricter policy brings it nearer.
    pub absolute_expires_at: Time,
    /// When the sweeper reads it next, at the deadline or before. Later only where a policy moved the idle deadline
    /// into the past: then the time of that.
    pub sweep_at: Time,
    /// Since when it waits for a re-authentication that a rule demanded; `None` = it does not. Set by
    /// [`Session::demand_step_up`].
    pub step_up_at: Option<Time>,
    pub state: State,
    pub chain: Chain,
}

/// The state of a session. `Ended` is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not ended; it may be past a deadline (`Session::state_at`).
    Active,
    /// For good.
    Ended(End),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub reason: EndReason,
    /// For an expiry the deadline, not the time of its detection.
    pub at: Time,
    /// The principal that ended it; `None` where the service itself did.
    pub by: Option<String>,
    /// At most 512 characters.
    pub note: Option<String>,
}

numbered! {
    /// Why a session ended.
    EndReason {
        Logout = 1, Admin = 2, Limit = 3, DeviceRevoked = 4, CredentialChanged = 5,
        RefreshReuse = 6, SuspiciousActivity = 7, IdleTimeout = 8, AbsoluteTimeout = 9,
        UserErased = 10, Policy = 11, DataRegression = 12,
    }
}

/// How the user was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// Authentication context class, at most 128 characters.
    pub acr: Option<String>,
    /// Authentication methods, RFC 8176.
    pub amr: Vec<String>,
    /// When the user was authenticated; creation if the caller did not state it.
    pub auth_time: Time,
}

/// The refresh chain. The current token is derived from it and a MAC key; none is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Starts at 1; every refresh and every re-authentication adds one.
    pub generation: u32,
    /// The MAC key of this generation, so that a replay is byte-identical across key rotation.
    pub key_id: i16,
    /// When the current generation was made.
    pub rotated_at: Time,
    /// The highest generation of which an access token was seen in use; 0 = none.
    pub confirmed: u32,
    /// The generation that the last re-authentication made, else 1. Tokens of a lower one are superseded.
    pub min_generation: u32,
    /// Random, of this session alone; part of what the MAC covers.
    pub nonce: [u8; 16],
}

impl Session {
    /// The device it is on.
    pub fn device_key(&self) -> DeviceKey {
        let SessionKey { tenant, user, .. } = self.key.clone();
        DeviceKey { tenant, user, device: self.device.id }
    }

    /// The idle deadline, if there is one.
    pub fn idle_expires_at(&self) -> Option<Time> {
        self.idle_timeout.map(|idle| self.last_active_at + idle)
    }

    /// The next moment at which this session expires if nothing happens.
    pub fn deadline(&self) -> Time {
        self.idle_expires_at().map_or(self.absolute_expires_at, |t| t.min(self.absolute_expires_at))
    }

    /// The state judged at `now`: a session at or past a deadline is expired, swept or not.
    pub fn state_at(&self, now: Time) -> State {
        #[cfg(debug_assertions)]
        if crate::broken::is("never-expires") {
            return self.state.clone();
        }
        if self.state != State::Active || now < self.deadline() {
            return self.state.clone();
        }
        let reason = match self.idle_expires_at() {
            Some(idle) if idle < self.absolute_expires_at => EndReason::IdleTimeout,
            _ => EndReason::AbsoluteTimeout,
        };
        State::Ended(End { reason, at: self.deadline(), by: None, note: None })
    }

    /// The session with the chain it began with, from which its first tokens are derived; `None` if
    /// those are superseded.
    pub fn first_generation(&self) -> Option<Session> {
        let chain = Chain { generation: 1, ..self.chain.clone() };
        (chain.min_generation == 1).then(|| Session { chain, ..self.clone() })
    }

    /// Takes over the present address and location of its client; true if that is a change. A location belongs to its
    /// address: if none is stated, that of a new address is looked up, or unknown. A session stays with its device.
    pub fn locate(
        &mut self,
        client: &ClientContext,
        look_up: impl FnOnce(IpAddr) -> Option<Location>,
    ) -> bool {
        let before = (self.ip, self.user_agent.clone(), self.location.clone());
        let moved = client.ip.is_some() && client.ip != self.ip;
        self.ip = client.ip.or(self.ip);
        self.user_agent = client.user_agent.clone().or(self.user_agent.take());
        let kept = self.location.take().filter(|_| !moved);
        let located = || client.ip.and_then(look_up);
        self.location = client.location.clone().or(kept).or_else(located);
        before != (self.ip, self.user_agent.clone(), self.location.clone())
    }

    /// Demands a re-authentication of the user, for what happened at `at`; true if that is a change. An authentication
    /// since then has answered it, but for that of the creation, which may be what is suspicious.
    pub fn demand_step_up(&mut self, at: Time) -> bool {
        let proven = self.chain.min_generation > 1 && self.authentication.auth_time >= at;
        let news = self.state == State::Active && !proven && self.step_up_at < Some(at);
        if news {
            self.step_up_at = Some(at);
        }
        news
    }

    /// Takes over how the user was authenticated again. An authentication from before a demand does not
    /// answer it.
    pub fn prove(&mut self, authentication: Authentication) {
        self.step_up_at = self.step_up_at.filter(|at| authentication.auth_time < *at);
        self.authentication = authentication;
    }

    /// Ends an active session.
    ///
    /// # Panics
    /// If it ended before: an end is final.
    pub fn end(&mut self, end: End) {
        assert_eq!(self.state, State::Active, "an ended session does not end again");
        self.state = State::Ended(end);
    }

    /// How the session has ended by `now`, if that can be stored: an idle deadline only `settled_after` it, since
    /// another replica may hold activity that it has not written yet; and where a policy moved the deadline into the
    /// past, `settled_after` that, which `sweep_at` then states. Otherwise `sweep_at` is never after the deadline.
    pub fn settled_at(&self, now: Time, settled_after: Duration) -> State {
        match self.state_at(now) {
            State::Ended(End { reason: EndReason::IdleTimeout, .. })
                if now - settled_after < self.sweep_at =>
            {
                State::Active
            }
            State::Ended(End { reason: EndReason::IdleTimeout, .. }) => {
                self.state_at(now - settled_after)
            }
            state => state,
        }
    }

    /// The same session with its state judged at `now`, for showing it.
    pub fn seen_at(self, now: Time) -> Session {
        Session { state: self.state_at(now), ..self }
    }
}

impl EndReason {
    /// True where time alone ended the session.
    pub fn is_expiry(self) -> bool {
        matches!(self, EndReason::IdleTimeout | EndReason::AbsoluteTimeout)
    }
}

/// Which sessions a list shows. Empty shows all of the tenant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionFilter {
    pub user: Option<UserId>,
    pub device: Option<Uuid>,
    pub client: Option<ClientId>,
    pub state: Option<StateFilter>,
    pub device_type: Option<DeviceType>,
    /// The network of the last known address.
    pub ip: Option<ipnet::IpNet>,
    /// Inclusive.
    pub created_after: Option<Time>,
    /// Exclusive.
    pub created_before: Option<Time>,
    /// Inclusive.
    pub last_active_after: Option<Time>,
    /// Exclusive.
    pub last_active_before: Option<Time>,
}

impl SessionFilter {
    /// Whether a session that it selected still matches, where use of a session ends the match. One that moved to
    /// another network or device type meanwhile still matches, so that a move is no escape.
    pub fn still_selects(&self, session: &Session) -> bool {
        self.last_active_before.is_none_or(|before| session.last_active_at < before)
    }
}

/// A state to filter by, judged at the time of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// Neither ended nor past a deadline.
    Active,
    /// Not stored as ended, past a deadline or not.
    Unended,
    /// Ended by a caller or by a rule.
    Terminated,
    /// Past a deadline, stored as expired or not.
    Expired,
}
