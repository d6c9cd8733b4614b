//! The operator who runs a command.

use std::fs;

use anyhow::anyhow;

use crate::config::Config;
use crate::model::caller::operator::Operator;

/// The operator that `config` names, or else the user of the operating system.
///
/// # Errors
/// If the user's name is not a valid operator name.
pub fn of(config: &Config) -> anyhow::Result<Operator> {
    if let Some(named) = &config.access.operator {
        return Ok(named.clone());
    }
    // The real user: a setuid program may have changed the effective one.
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid).unwrap_or_else(|| format!("uid {uid}"));
    Operator::named(&name).map_err(|rule| anyhow!("--operator: the user {name:?} {rule}"))
}

/// The name of a user in the text of `/etc/passwd`.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n:x:7:7::/:\nbroken\nada:x:1000:100:,,,:/home/ada:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(passwd, 0).as_deref(), Some("root"));
        for absent in [7, 100, 1001] {
            assert_eq!(name_of(passwd, absent), None, "{absent}");
        }
    }
}
