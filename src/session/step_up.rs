//! Decides whether an authentication is strong and recent enough for the requirements of a caller or of a rule. Pure.

use chrono::Duration;

use crate::clock::Time;
use crate::model::session::Session;
use crate::model::token::StepUpReason;

/// The requirements of a validation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirements {
    /// The least authentication context class.
    pub acr: Option<String>,
    /// The longest time since the user was authenticated.
    pub max_auth_age: Option<Duration>,
}

/// The requirements, of `required` and of a rule's demand, that the session does not meet at `now`.
/// `levels` are the classes in order, lowest first; a class that is not listed is met by itself
/// alone.
pub fn unmet(
    required: &Requirements,
    session: &Session,
    levels: &[String],
    now: Time,
) -> Vec<StepUpReason> {
    let authentication = &session.authentication;
    let level = |acr: &str| levels.iter().position(|level| level == acr);
    let reaches = |acr: &str| {
        authentication.acr.as_deref().is_some_and(|has| match level(acr) {
            Some(least) => level(has) >= Some(least),
            None => has == acr,
        })
    };
    let recent = |max| now - authentication.auth_time <= max;
    let mut unmet = Vec::new();
    if !required.acr.as_deref().is_none_or(reaches) {
        unmet.push(StepUpReason::AcrTooLow);
    }
    if !required.max_auth_age.is_none_or(recent) {
        unmet.push(StepUpReason::AuthenticationTooOld);
    }
    if session.step_up_at.is_some() {
        unmet.push(StepUpReason::SuspiciousActivity);
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::tests::{session, start};
    use crate::model::session::{Authentication, End, EndReason};

    fn proven(acr: Option<&str>) -> Session {
        let acr = acr.map(str::to_owned);
        let authentication = Authentication { acr, amr: vec![], auth_time: start() };
        Session { authentication, ..session() }
    }

    fn meets(has: Option<&str>, required: &str, levels: &[&str]) -> bool {
        let levels: Vec<String> = levels.iter().map(|level| level.to_string()).collect();
        let required = Requirements { acr: Some(required.to_owned()), max_auth_age: None };
        unmet(&required, &proven(has), &levels, start()).is_empty()
    }

    #[test]
    fn classes_are_compared_by_their_order_and_others_by_name() {
        let levels = ["aal1", "aal2", "aal3"];
        for (has, required, met) in [
            (Some("aal2"), "aal2", true),
            (Some("aal3"), "aal2", true),
            (Some("aal1"), "aal2", false),
            (Some("aal3"), "other", false),
            (Some("other"), "aal1", false),
            (Some("other"), "other", true),
            (None, "aal1", false),
            (None, "other", false),
        ] {
            assert_eq!(meets(has, required, &levels), met, "{has:?} for {required}");
        }
        assert!(meets(Some("aal3"), "aal3", &[]), "without an order, the same class is enough");
        assert!(!meets(Some("aal3"), "aal2", &[]));
    }

    #[test]
    fn an_authentication_is_recent_until_the_last_instant_of_its_age() {
        let recent = |max: Duration, age: Duration| {
            let required = Requirements { acr: None, max_auth_age: Some(max) };
            unmet(&required, &proven(None), &[], start() + age).is_empty()
        };
        let instant = Duration::microseconds(1);
        assert!(recent(Duration::minutes(5), Duration::minutes(5)));
        assert!(!recent(Duration::minutes(5), Duration::minutes(5) + instant));
        assert!(recent(Duration::zero(), Duration::zero()));
        assert!(!recent(Duration::zero(), instant));
        // The clock of the service that authenticated the user is ahead.
        assert!(recent(Duration::zero(), Duration::seconds(-5)));
    }

    #[test]
    fn all_reasons_are_reported() {
        let mut session = proven(None);
        assert!(session.demand_step_up(start()));
        let required =
            Requirements { acr: Some("aal2".to_owned()), max_auth_age: Some(Duration::zero()) };
        let told = unmet(&required, &session, &[], start() + Duration::seconds(1));
        let (low, old) = (StepUpReason::AcrTooLow, StepUpReason::AuthenticationTooOld);
        assert_eq!(told, [low, old, StepUpReason::SuspiciousActivity]);
        assert!(unmet(&Requirements::default(), &proven(None), &[], start()).is_empty());
    }

    #[test]
    fn a_demand_stands_until_an_authentication_from_then_or_later() {
        let (instant, at) = (Duration::microseconds(1), start() + Duration::minutes(1));
        let prove = |session: &mut Session, auth_time| {
            session.prove(Authentication { acr: None, amr: vec![], auth_time });
            session.chain.min_generation += 1;
        };
        let mut session = proven(None);
        assert!(session.demand_step_up(at));
        assert!(!session.demand_step_up(at) && !session.demand_step_up(at - instant), "no news");
        prove(&mut session, at - instant);
        assert_eq!(session.step_up_at, Some(at));
        assert!(session.demand_step_up(at + instant), "a later one takes its place");
        prove(&mut session, at + instant);
        assert_eq!(session.step_up_at, None);
        assert!(!session.demand_step_up(at + instant), "was proven since");
        assert!(session.demand_step_up(at + instant * 2));
    }

    #[test]
    fn the_authentication_of_the_creation_answers_no_demand_and_an_ended_session_has_none() {
        let mut session = proven(None);
        assert!(session.demand_step_up(start()), "the login itself may be what is suspicious");
        let mut ended = proven(None);
        ended.end(End { reason: EndReason::Logout, at: start(), by: None, note: None });
        assert!(!ended.demand_step_up(start()));
    }
}
