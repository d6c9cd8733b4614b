//! The order of authentication levels: values of `acr`, lowest first.

/// The rule for a list of levels.
pub const RULE: &str = "must be 1 to 16 different values of 1 to 128 visible ASCII characters";

/// Checks a list of levels.
///
/// # Errors
/// [`RULE`].
pub fn check(levels: Vec<String>) -> Result<Vec<String>, String> {
    let fits = |level: &String| {
        (1..=128).contains(&level.len()) && level.bytes().all(|b| b.is_ascii_graphic())
    };
    let repeated = levels.iter().enumerate().any(|(i, level)| levels[..i].contains(level));
    if (1..=16).contains(&levels.len()) && levels.iter().all(fits) && !repeated {
        Ok(levels)
    } else {
        Err(RULE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_hold_both_edges() {
        let numbered = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert!(check(numbered(1)).is_ok());
        assert!(check(numbered(16)).is_ok());
        assert!(check(numbered(0)).is_err());
        assert!(check(numbered(17)).is_err());
        assert!(check(vec!["a".repeat(128)]).is_ok());
        assert!(check(vec!["a".repeat(129)]).is_err());
        assert!(check(vec!["urn:mace:incommon:iap:silver".to_owned()]).is_ok());
        for odd in ["", "a b", "\u{e9}", "a\n"] {
            assert!(check(vec![odd.to_owned()]).is_err(), "{odd:?}");
        }
        assert!(check(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]).is_err());
    }
}
