//! The environment: an unknown or empty variable is refused by name, so that a misspelled setting is not ignored.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::CommandFactory;

use super::Cli;
use crate::config::Config;

/// The prefix of this program's variables.
const OURS: &str = "SESSIOND_";
/// An alias of `DATABASE_URL` that operators are likely to guess.
const DATABASE_URL: &str = "SESSIOND_DATABASE_URL";

/// Checks the variables, and sets the database URL from its alias unless a flag states it.
///
/// # Errors
/// If a variable is unknown or empty, or the database is given twice; the text names the variables.
pub fn take(config: &mut Config, variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
    check(variables)?;
    let Some(url) = variables.get(DATABASE_URL) else { return Ok(()) };
    if ["DATABASE_URL", "DATABASE_URL_FILE"].iter().any(|name| variables.contains_key(*name)) {
        bail!("{DATABASE_URL} and DATABASE_URL name the database twice: unset one of them");
    }
    if config.database_url_file.is_none() {
        config.database_url.get_or_insert_with(|| url.clone());
    }
    Ok(())
}

/// # Errors
/// If a variable is unknown, empty or not UTF-8; the text names it.
pub fn check(variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let command = Cli::command();
    let of_flags = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let known: Vec<&str> = of_flags.chain([DATABASE_URL]).collect();
    for (name, value) in variables {
        if known.contains(&name.as_str()) {
            if value.is_empty() {
                bail!("{name} is set and empty: give it a value, or unset it");
            }
            if value.contains(char::REPLACEMENT_CHARACTER) {
                bail!("{name} is not valid UTF-8");
            }
        } else if name.starts_with(OURS) && !is_fault(name) {
            bail!("{name} is no setting of sessiond: see `sessiond --help`");
        }
    }
    Ok(())
}

/// Whether the variable injects a fault for tests; a release build has none.
fn is_fault(name: &str) -> bool {
    cfg!(debug_assertions) && name == "SESSIOND_BROKEN"
}

/// All environment variables.
pub fn variables() -> BTreeMap<String, String> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_refused_by_name() {
        let check = |name: &str| check(&[(name.to_owned(), "a\u{fffd}".to_owned())].into());
        let error = check("SESSIOND_LISTEN").unwrap_err().to_string();
        assert!(error.contains("SESSIOND_LISTEN") && error.contains("UTF-8"), "{error}");
        assert!(check("LS_COLORS").is_ok(), "not ours");
    }
}
