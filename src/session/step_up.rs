//! Whether a user has proven enough, and lately enough, for what is asked. Pure.

use chrono::Duration;

use crate::clock::Time;
use crate::model::session::Authentication;
use crate::model::token::StepUpReason;

/// What the one who validates asks of the user's authentication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirements {
    /// The least authentication context class.
    pub acr: Option<String>,
    /// The longest time since the user was authenticated.
    pub max_auth_age: Option<Duration>,
}

/// What of `required` the authentication does not meet at `now`. `levels` are the classes in order,
/// lowest first; one that is not among them stands for itself alone.
pub fn unmet(
    required: &Requirements,
    authentication: &Authentication,
    levels: &[String],
    now: Time,
) -> Vec<StepUpReason> {
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
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::rotation::tests::start;

    fn meets(has: Option<&str>, required: &str, levels: &[&str]) -> bool {
        let authentication =
            Authentication { acr: has.map(str::to_owned), amr: vec![], auth_time: start() };
        let levels: Vec<String> = levels.iter().map(|level| level.to_string()).collect();
        let required = Requirements { acr: Some(required.to_owned()), max_auth_age: None };
        unmet(&required, &authentication, &levels, start()).is_empty()
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
        let authentication = Authentication { acr: None, amr: vec![], auth_time: start() };
        let recent = |max: Duration, age: Duration| {
            let required = Requirements { acr: None, max_auth_age: Some(max) };
            unmet(&required, &authentication, &[], start() + age).is_empty()
        };
        let instant = Duration::microseconds(1);
        assert!(recent(Duration::minutes(5), Duration::minutes(5)));
        assert!(!recent(Duration::minutes(5), Duration::minutes(5) + instant));
        assert!(recent(Duration::zero(), Duration::zero()));
        assert!(!recent(Duration::zero(), instant));
        // The clock of the service that authenticated the user runs ahead.
        assert!(recent(Duration::zero(), Duration::seconds(-5)));
    }

    #[test]
    fn both_are_told() {
        let authentication = Authentication { acr: None, amr: vec![], auth_time: start() };
        let required =
            Requirements { acr: Some("aal2".to_owned()), max_auth_age: Some(Duration::zero()) };
        let told = unmet(&required, &authentication, &[], start() + Duration::seconds(1));
        assert_eq!(told, [StepUpReason::AcrTooLow, StepUpReason::AuthenticationTooOld]);
        assert!(unmet(&Requirements::default(), &authentication, &[], start()).is_empty());
    }
}
