//! A create that exceeds a limit: the limit, and the sessions to choose from.

use std::fmt;

use crate::clock::Time;
use crate::model::session::Session;

/// The most sessions that a conflict lists.
pub const TOLD: usize = 20;

/// Which live sessions of the user a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// All.
    User,
    /// Those of the client of the new one.
    Client,
    /// Those on the type of device of the new one.
    DeviceType,
}

/// A limit that one more session would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitBreach {
    pub scope: LimitScope,
    pub max: u32,
    /// How many live sessions it counts, `max` or more.
    pub active: usize,
}

/// A create that waits for a choice. Nothing has ended for it.
#[derive(Clone)]
pub struct Conflict {
    pub breach: LimitBreach,
    /// Those that the limit counts, least recently used first, [`TOLD`] of them.
    pub sessions: Vec<Session>,
    /// The token that resolves it, once.
    pub token: String,
    /// When the token expires.
    pub expires_at: Time,
}

impl LimitScope {
    /// Its name in `ErrorInfo`.
    pub fn name(self) -> &'static str {
        match self {
            LimitScope::User => "user",
            LimitScope::Client => "client",
            LimitScope::DeviceType => "device_type",
        }
    }
}

impl LimitBreach {
    /// How many of the sessions have to end, so that the new one fits in.
    pub fn must_end(&self) -> usize {
        (self.active + 1).saturating_sub(self.max as usize)
    }
}

/// For people.
impl fmt::Display for LimitBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.scope {
            LimitScope::User => "the user",
            LimitScope::Client => "the user at this client",
            LimitScope::DeviceType => "the user on this type of device",
        };
        let LimitBreach { max, active, .. } = self;
        write!(f, "a limit of sessions, no failed login: {whose} has {active} of {max} allowed")
    }
}

/// Without the token.
impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict").field("breach", &self.breach).finish_non_exhaustive()
    }
}
