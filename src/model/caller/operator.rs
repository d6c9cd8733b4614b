//! The operator who runs a command, as the audit trail names them.

use std::fmt;

use crate::model::activity::SYSTEM;
use crate::model::ids::text_of;

/// The prefix of an operator's name in a field for principals. No principal's name has it.
pub const PREFIX: &str = "operator:";

/// An operator, or the service instead of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator(String);

impl Operator {
    /// The operator of this name: 1 to 128 characters. The error is the rule.
    pub fn named(name: &str) -> Result<Operator, String> {
        text_of(name, 1, 128).map(|name| Operator(format!("{PREFIX}{name}")))
    }

    /// What the service does by itself.
    pub fn service() -> Operator {
        Operator(SYSTEM.to_owned())
    }

    /// The form in the audit trail.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_neither_the_service_nor_a_principal() {
        assert_eq!(Operator::named("system").unwrap().as_str(), "operator:system");
        assert_ne!(Operator::named("system").unwrap(), Operator::service());
        assert!(Operator::named(&"ü".repeat(128)).is_ok());
        for wrong in ["", "a\nb", &"a".repeat(129)] {
            assert!(Operator::named(wrong).is_err(), "{wrong:?}");
        }
    }
}
