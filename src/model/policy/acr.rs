//! The order of authentication levels: values of `acr`, lowest first.

/// The rule for a list of levels.
pub const RULE: &str =
    "must be 1 to 16 different values of 1 to 128 visible ASCII characters except \" and \\";
const MOST: usize = 16;

/// Checks a list of levels.
///
/// # Errors
/// [`RULE`].
pub fn check(levels: Vec<String>) -> Result<Vec<String>, String> {
    if violations(&levels).is_empty() { Ok(levels) } else { Err(RULE.to_owned()) }
}

/// The rules that a list of levels breaks, each with the index of the level; `None` = the list itself. Only the first 16
/// levels are checked.
pub fn violations(levels: &[String]) -> Vec<(Option<usize>, &'static str)> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    let mut violations = Vec::new();
    if !(1..=MOST).contains(&levels.len()) {
        violations.push((None, "must be 1 to 16 values"));
    }
    for (index, level) in levels.iter().enumerate().take(MOST) {
        if !(1..=128).contains(&level.len()) || !level.bytes().all(plain) {
            let rule = "must be 1 to 128 visible ASCII characters except \" and \\";
            violations.push((Some(index), rule));
        } else if levels[..index].contains(level) {
            violations.push((Some(index), "must not repeat an earlier value"));
        }
    }
    violations
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
        for odd in ["", "a b", "\u{e9}", "a\n", "a\"", "a\\"] {
            assert!(check(vec![odd.to_owned()]).is_err(), "{odd:?}");
        }
        assert!(check(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]).is_err());
    }
}
