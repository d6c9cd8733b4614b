//! Changes of sessions.

use super::{Changes, SessionChange};
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::revocation::Revocation;
use crate::model::session::{End, EndReason, Session, State};

impl Changes {
    /// Adds a new session.
    pub fn create_session(&mut self, session: &Session, by: &str) {
        self.record(ActivityKind::Created, by, session);
        let change = SessionChange { session: session.clone(), is_new: true };
        self.sessions.insert(session.key.clone(), change);
    }

    /// Ends a locked, active session, or one that this transaction made, and withdraws its tokens. A session past a
    /// deadline stays expired; its tokens are withdrawn all the same. True if it had not expired.
    pub fn end_session(
        &mut self,
        session: &mut Session,
        reason: EndReason,
        by: Option<&str>,
        note: Option<String>,
    ) -> bool {
        let end = End { reason, at: self.at, by: by.map(str::to_owned), note };
        let (kind, end) = match session.state_at(self.at) {
            State::Active => (ActivityKind::Terminated, end),
            State::Ended(expiry) => (ActivityKind::Expired, expiry),
        };
        session.end(end);
        self.record(kind, by.unwrap_or(SYSTEM), session);
        self.revoke(Revocation::of_all_tokens(session, self.at));
        self.put(session);
        kind == ActivityKind::Terminated
    }

    /// Withdraws the tokens of a session that expired before, which a caller ends explicitly. Its row says so already.
    pub fn withdraw_tokens(&mut self, session: &Session) {
        self.revoke(Revocation::of_all_tokens(session, self.at));
    }

    /// Stores that a locked session has expired. Its tokens expire by the same deadlines.
    pub fn expire_session(&mut self, session: &mut Session, expiry: End) {
        session.end(expiry);
        self.record(ActivityKind::Expired, SYSTEM, session);
        self.revoke(Revocation::of_cached(session, self.at));
        self.put(session);
    }

    /// Moves a locked session to its next generation. Cached records of it stay true, unless it waits for a
    /// re-authentication: then the new tokens are not valid either.
    pub fn refresh_session(&mut self, session: &Session, by: &str) {
        self.record(ActivityKind::Refreshed, by, session);
        if session.step_up_at.is_some() {
            self.revoke(Revocation::of_tokens(session, self.at));
        }
        self.put(session);
    }

    /// Starts a locked session anew, and withdraws the tokens from before.
    pub fn reauthenticate_session(&mut self, session: &Session, by: &str) {
        self.record(ActivityKind::Reauthenticated, by, session);
        self.revoke(Revocation::of_superseded(session, self.at));
        self.put(session);
    }

    /// Makes a locked session wait for a re-authentication, and withdraws its present tokens.
    pub fn require_step_up(&mut self, session: &Session) {
        self.record(ActivityKind::StepUpRequired, SYSTEM, session);
        self.revoke(Revocation::of_tokens(session, self.at));
        self.put(session);
    }

    /// Changes the description of a locked session.
    pub fn update_session(&mut self, session: &Session, by: &str) {
        self.record(ActivityKind::SessionUpdated, by, session);
        self.show_in_session(session);
    }

    /// Brings the deadlines of a locked session nearer, as an updated policy demands; the activity is that of the
    /// policy. The tokens last longer than the session now, so they are withdrawn.
    pub fn shorten_session(&mut self, session: &Session) {
        self.revoke(Revocation::of_tokens(session, self.at));
        self.put(session);
    }

    /// Moves the time at which the sweeper reads a locked session next. No caller can see that, so there is no
    /// activity.
    pub fn reschedule_session(&mut self, session: &Session) {
        self.put(session);
    }

    /// The sessions that this transaction made and that are still active at its end.
    pub fn created_sessions(&self) -> impl Iterator<Item = &Session> {
        let created = self.sessions.values().filter(|change| change.is_new);
        created.map(|change| &change.session).filter(|session| session.state == State::Active)
    }

    /// Writes a session that shows what changed elsewhere, where the activity is.
    pub(super) fn show_in_session(&mut self, session: &Session) {
        self.revoke(Revocation::of_cached(session, self.at));
        self.put(session);
    }

    /// The activity of a refresh without its change, for a broken twin.
    #[cfg(debug_assertions)]
    pub fn record_refresh(&mut self, session: &Session, by: &str) {
        self.record(ActivityKind::Refreshed, by, session);
    }

    fn record(&mut self, kind: ActivityKind, by: &str, session: &Session) {
        let id = self.clock.new_id();
        self.activities.push(Activity::of_session(id, self.at, kind, by, session));
    }

    fn put(&mut self, session: &Session) {
        let is_new = match self.sessions.get(&session.key) {
            Some(before) => {
                let absorbed =
                    before.session.state == State::Active || before.session.state == session.state;
                assert!(absorbed, "an ended session does not change");
                before.is_new
            }
            None => false,
        };
        let change = SessionChange { session: session.clone(), is_new };
        self.sessions.insert(session.key.clone(), change);
    }
}
