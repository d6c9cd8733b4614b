//! Collects the violations of a request, so that one response reports all of them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::error::{Error, Result, Violation};
use crate::model::ids::{is_label, text_of};

/// The violations found so far.
#[derive(Default)]
pub struct Check {
    violations: Vec<Violation>,
}

impl Check {
    /// Returns a parsed value, or records the rule that `field` breaks.
    pub fn take<T>(&mut self, field: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|rule| self.broken(field, rule)).ok()
    }

    /// The same for a check that returns a list of violations.
    pub fn all<T>(&mut self, checked: Result<T, Vec<Violation>>) -> Option<T> {
        checked.map_err(|violations| self.violations.extend(violations)).ok()
    }

    /// The same for a check of one field that returns a list of rules.
    pub fn take_all<T>(&mut self, field: &str, parsed: Result<T, Vec<String>>) -> Option<T> {
        parsed.map_err(|rules| rules.into_iter().for_each(|rule| self.broken(field, rule))).ok()
    }

    /// True if there is no violation so far.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    /// The number of violations so far.
    pub fn count(&self) -> usize {
        self.violations.len()
    }

    /// Records that `field` breaks `rule`.
    pub fn broken(&mut self, field: &str, rule: impl Into<String>) {
        self.violations.push(Violation { field: field.to_owned(), rule: rule.into() });
    }

    /// Optional text of at most `max` characters without control characters; empty = absent.
    pub fn text(&mut self, field: &str, text: &str, max: usize) -> Option<String> {
        self.take(field, text_of(text, 0, max)).filter(|text| !text.is_empty())
    }

    /// Optional text of several lines, at most `max` characters; empty = absent.
    pub fn note(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
        if text.chars().count() > max || text.chars().any(odd) {
            let rule = format!("must be at most {max} characters without control characters");
            self.broken(field, rule);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Free-form data: at most 32 entries of together 4096 bytes; keys of 1 to 64 letters, digits, `.`, `_` or `-`,
    /// values of at most 512 characters.
    pub fn entries(&mut self, field: &str, entries: &BTreeMap<String, String>) {
        if entries.len() > 32 {
            self.broken(field, "must be at most 32 entries");
        }
        if entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > 4096 {
            self.broken(field, "must be at most 4096 bytes of keys and values");
        }
        let is_key = |key: &str| key.len() <= 64 && is_label(key);
        let is_bad =
            |(key, value): &(&String, &String)| !is_key(key) || text_of(value, 0, 512).is_err();
        // The first invalid ones, wherever the valid ones sort.
        for (key, value) in entries.iter().filter(is_bad).take(32) {
            if is_key(key) {
                self.text(&format!("{field}[{key}]"), value, 512);
                continue;
            }
            // The key is not repeated in the response, since it may have any length.
            self.broken(field, "keys must be 1 to 64 characters of A-Z a-z 0-9 . _ -");
            self.take(field, text_of(value, 0, 512).map_err(|rule| format!("values {rule}")));
        }
    }

    /// Checks text for a token: `min` to `max` visible ASCII characters except `"` and `\`.
    pub fn token_text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if !(min..=max).contains(&text.len()) || !text.bytes().all(plain) {
            let rule = format!("must be {min} to {max} visible ASCII characters except \" and \\");
            self.broken(field, rule);
        }
    }

    /// Adds the violations that another check found in the message `field`.
    pub fn within(&mut self, field: &str, inner: Check) {
        let named = |v: Violation| Violation { field: format!("{field}.{}", v.field), ..v };
        self.violations.extend(inner.violations.into_iter().map(named));
    }

    /// A UUID; empty = absent.
    pub fn uuid(&mut self, field: &str, text: &str) -> Option<Uuid> {
        if text.is_empty() {
            return None;
        }
        self.take(field, text.parse().map_err(|_| "must be a UUID".to_owned()))
    }

    /// A required UUID.
    pub fn required_uuid(&mut self, field: &str, text: &str) -> Option<Uuid> {
        self.take(field, text.parse().map_err(|_| "is required and must be a UUID".to_owned()))
    }

    /// An enum value; 0 = absent.
    pub fn value<T>(
        &mut self,
        field: &str,
        number: i32,
        parse: impl Fn(i32) -> Option<T>,
    ) -> Option<T> {
        if number == 0 {
            return None;
        }
        self.take(field, parse(number).ok_or_else(|| format!("has no value {number}")))
    }

    /// Several enum values: at most `most`, none of them 0.
    pub fn values<T>(
        &mut self,
        field: &str,
        numbers: &[i32],
        most: usize,
        parse: impl Fn(i32) -> Option<T>,
    ) -> Vec<T> {
        if numbers.len() > most {
            self.broken(field, format!("must be at most {most} values"));
        }
        let value = |(i, number): (usize, &i32)| {
            let value = Some(*number).filter(|number| *number != 0).and_then(&parse);
            self.take(&format!("{field}[{i}]"), value.ok_or(format!("has no value {number}")))
        };
        numbers.iter().take(most).enumerate().filter_map(value).collect()
    }

    /// Ends the check.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all violations.
    pub fn done(self) -> Result<()> {
        if self.violations.is_empty() { Ok(()) } else { Err(Error::Invalid(self.violations)) }
    }

    /// Ends a check in which the required message `field` is missing.
    pub fn missing(mut self, field: &str) -> Error {
        self.broken(field, "is required");
        self.failed()
    }

    /// Ends a check in which a required value is missing or invalid; the violation is already recorded.
    pub fn failed(self) -> Error {
        debug_assert!(!self.violations.is_empty(), "a missing value was noted");
        Error::Invalid(self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(entries: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
        let mut check = Check::default();
        check.entries("metadata", &entries.into_iter().collect());
        check.violations.into_iter().map(|v| (v.field, v.rule)).collect()
    }

    #[test]
    fn every_violation_of_entries_is_named() {
        let keys = "keys must be 1 to 64 characters of A-Z a-z 0-9 . _ -";
        let value = "must be at most 512 characters without control characters";
        let many = (0..32).map(|i| (format!("a{i}"), String::new()));
        assert_eq!(violations(many.clone()), []);
        let more = [("b".to_owned(), "\n".to_owned()), ("ü".to_owned(), "\n".to_owned())];
        let expected = [
            ("metadata", "must be at most 32 entries".to_owned()),
            ("metadata[b]", value.to_owned()),
            ("metadata", keys.to_owned()),
            ("metadata", format!("values {value}")),
        ]
        .map(|(field, rule)| (field.to_owned(), rule));
        assert_eq!(violations(many.chain(more)), expected);
    }
}
