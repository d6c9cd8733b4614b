//! The records of a run: each call with its times, its inputs and its outcome.

use std::sync::Mutex;
use std::time::Instant;

use sessiond::caller::permissions::Role;
use sessiond::clock::Clock;
use tonic::Code;
use uuid::Uuid;

/// Microseconds since the run began, on one monotonic clock.
pub type Micros = i64;

/// The start of the run, by the monotonic clock and by the wall clock of the machine, which Postgres uses too.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    began: Instant,
    wall: i64,
}

impl Epoch {
    pub fn begin() -> Epoch {
        let wall = Clock::system().now().timestamp_micros();
        Epoch { began: Instant::now(), wall }
    }

    pub fn now(&self) -> Micros {
        i64::try_from(self.began.elapsed().as_micros()).expect("a run of less than 290,000 years")
    }

    /// The time of a wall-clock time in microseconds since 1970.
    pub fn of_wall(&self, wall: i64) -> Micros {
        wall - self.wall
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Op {
    pub caller: u32,
    pub replica: usize,
    /// The role of the caller's key; `None` = no key, and all permissions.
    pub role: Option<Role>,
    pub start: Micros,
    pub end: Micros,
    /// The user concerned, an index of `USERS`.
    pub who: usize,
    /// The call names the other tenant, in which the resource does not exist.
    pub foreign: bool,
    pub what: What,
    /// The `request_id`, and a digest of the body.
    pub request: Option<(Uuid, u64)>,
    pub outcome: Outcome,
}

/// What a call requests.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The tag is in the metadata.
    Create {
        client: &'static str,
        tag: String,
        settles: bool,
    },
    Refresh {
        session: Uuid,
        generation: u32,
    },
    Reauthenticate {
        session: Uuid,
    },
    Validate {
        session: Uuid,
        generation: u32,
        how: How,
    },
    UpdateSession {
        session: Uuid,
        tag: String,
    },
    UpdateDevice {
        device: Uuid,
    },
    RevokeDevice {
        device: Uuid,
    },
    Terminate {
        session: Uuid,
    },
    TerminateMany {
        of: Of,
    },
    UpdatePolicy,
    Record {
        session: Uuid,
        tags: Vec<String>,
    },
    Erase,
    Raise {
        key: String,
    },
    Step {
        alert: Uuid,
        step: Step,
    },
    Get {
        session: Uuid,
    },
    List,
    /// Any method with an empty message, or a create with an unknown path, with its tag.
    Probe {
        path: String,
        tag: String,
    },
}

/// The freshness of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Default,
    MaxStaleness,
    Strong,
    /// As fresh as the answer that ended the session.
    AtLeast,
}

/// The sessions that a call ends together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    User,
    Device(Uuid),
    Client(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Acknowledge,
    /// Whether it also ends the sessions of the alert's user.
    Resolve(bool),
    Reopen,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Ok(Box<Answer>),
    /// Refused, with the name of the reason.
    No(Code, String),
    /// It may have been applied or not.
    Unknown(Code),
}

/// The essence of a successful answer; fields that a kind of call does not return stay empty.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub session: Option<Seen>,
    pub tokens: Option<Tokens>,
    /// For validations.
    pub verdict: Option<Verdict>,
    /// The sessions that the answer lists, or reports as ended.
    pub sessions: Vec<Seen>,
    pub count: u64,
    pub complete: bool,
    /// The device or alert of the answer, its revision and, for an alert, its state.
    pub subject: Option<(Uuid, u64, i32)>,
}

/// A session in an answer.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: Uuid,
    pub tenant: String,
    pub user: String,
    pub client: String,
    pub device: Uuid,
    pub generation: u32,
    pub active: bool,
    pub absolute: Micros,
    /// Its idle timeout, if it has one.
    pub idle: Option<Micros>,
    /// The tag that its create wrote into the metadata.
    pub tag: String,
}

/// The digests of a pair of tokens, and the claims of the access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub session: Uuid,
    pub generation: u32,
    pub access: u64,
    pub refresh: u64,
    pub expires: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Active,
    StepUp,
    /// With the name of the reason.
    Inactive(&'static str),
}

impl Op {
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            _ => None,
        }
    }

    /// True if the call certainly changed nothing.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::No(..))
    }

    /// True if the caller has no permission.
    pub fn is_denied(&self) -> bool {
        self.refusal() == Some("CALLER_NOT_PERMITTED")
    }

    pub fn refusal(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::No(_, reason) => Some(reason),
            _ => None,
        }
    }

    /// True for a validation that found the token active.
    pub fn is_let_in(&self) -> bool {
        let verdict = self.answer().and_then(|answer| answer.verdict.as_ref());
        matches!(verdict, Some(Verdict::Active | Verdict::StepUp))
    }

    /// The session that it names.
    pub fn session(&self) -> Option<Uuid> {
        match &self.what {
            What::Refresh { session, .. }
            | What::Reauthenticate { session }
            | What::Validate { session, .. }
            | What::UpdateSession { session, .. }
            | What::Terminate { session }
            | What::Record { session, .. }
            | What::Get { session } => Some(*session),
            What::Create { .. } => Some(self.answer()?.session.as_ref()?.id),
            _ => None,
        }
    }
}

impl What {
    pub fn name(&self) -> &'static str {
        match self {
            What::Create { .. } => "CreateSession",
            What::Refresh { .. } => "RefreshSession",
            What::Reauthenticate { .. } => "ReauthenticateSession",
            What::Validate { .. } => "ValidateSession",
            What::UpdateSession { .. } => "UpdateSession",
            What::UpdateDevice { .. } => "UpdateDevice",
            What::RevokeDevice { .. } => "RevokeDevice",
            What::Terminate { .. } => "TerminateSession",
            What::TerminateMany { .. } => "TerminateSessions",
            What::UpdatePolicy => "UpdatePolicy",
            What::Record { .. } => "RecordActivities",
            What::Erase => "EraseUser",
            What::Raise { .. } => "RaiseAlert",
            What::Step { step: Step::Acknowledge, .. } => "AcknowledgeAlert",
            What::Step { step: Step::Resolve(_), .. } => "ResolveAlert",
            What::Step { step: Step::Reopen, .. } => "ReopenAlert",
            What::Get { .. } => "GetSession",
            What::List => "ListSessions",
            What::Probe { .. } => "any path",
        }
    }
}

/// The recorder of all calls.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Op>>);

impl Recorder {
    pub fn push(&self, op: Op) {
        self.0.lock().expect("nobody panics while writing").push(op);
    }

    /// All calls, in the order of their start.
    pub fn take(&self) -> Vec<Op> {
        let mut ops = std::mem::take(&mut *self.0.lock().expect("nobody panics while writing"));
        ops.sort_by_key(|op| (op.start, op.end));
        ops
    }
}
