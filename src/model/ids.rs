//! Identifiers. An identifier is checked once, when it is parsed; its type then proves that it is valid.

use std::fmt;

use uuid::Uuid;

/// The tenant of a caller that names none.
pub const DEFAULT_TENANT: &str = "default";

/// Stands for every tenant; no tenant has this name.
pub const ALL_TENANTS: &str = "*";

/// A tenant: 1 to 64 characters of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

/// A user, as the platform names them: 1 to 128 characters, no control characters. Opaque.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

/// An application that opens sessions: 1 to 128 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

/// The primary key of a session. Its order is the order in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    pub tenant: TenantId,
    pub user: UserId,
    pub session: Uuid,
}

/// The primary key of a device. Its order is the order in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey {
    pub tenant: TenantId,
    pub user: UserId,
    pub device: Uuid,
}

impl SessionKey {
    /// The key of no session, instead of this one, for a caller that may not know of it: its look-up runs the same code
    /// as that of any unknown id, with the same answer.
    pub fn nowhere(&self) -> SessionKey {
        // Sessions have UUIDv7; with all bits turned over, it is of another version.
        SessionKey { session: Uuid::from_u128(!self.session.as_u128()), ..self.clone() }
    }
}

impl TenantId {
    /// Parses a tenant id; empty means [`DEFAULT_TENANT`]. The error is the rule.
    pub fn parse(text: &str) -> Result<TenantId, String> {
        let text = if text.is_empty() { DEFAULT_TENANT } else { text };
        if text.len() <= 64 && is_label(text) {
            Ok(TenantId(text.to_owned()))
        } else {
            Err("must be 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned())
        }
    }
}

impl TenantId {
    /// Parses a tenant id, or [`ALL_TENANTS`]: the audit trail has under it what concerns every tenant.
    pub fn parse_or_all(text: &str) -> Result<TenantId, String> {
        if text == ALL_TENANTS { Ok(TenantId(text.to_owned())) } else { TenantId::parse(text) }
    }
}

impl Default for TenantId {
    fn default() -> TenantId {
        TenantId(DEFAULT_TENANT.to_owned())
    }
}

impl UserId {
    /// Parses a user id. The error is the rule.
    pub fn parse(text: &str) -> Result<UserId, String> {
        text_of(text, 1, 128).map(UserId)
    }
}

impl ClientId {
    /// Parses a client id. The error is the rule.
    pub fn parse(text: &str) -> Result<ClientId, String> {
        text_of(text, 1, 128).map(ClientId)
    }
}

/// Accepts `min` to `max` characters (Unicode scalar values) without control characters, which
/// also keeps out NUL, which Postgres refuses. The error is the rule.
pub fn text_of(text: &str, min: usize, max: usize) -> Result<String, String> {
    // A character is at most four bytes: the first test keeps the count cheap on huge input.
    let fits = text.len() <= max * 4 && (min..=max).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        let least = if min == 0 { "at most".to_owned() } else { format!("{min} to") };
        Err(format!("must be {least} {max} characters without control characters"))
    }
}

/// True for a non-empty text of `[A-Za-z0-9._-]`.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

macro_rules! text_id {
    ($($name:ident),*) => {$(
        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_id!(TenantId, UserId, ClientId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_keep_their_rule_at_the_edges() {
        assert_eq!(TenantId::parse("").unwrap().as_str(), "default");
        assert!(TenantId::parse(&"a".repeat(64)).is_ok());
        assert!(TenantId::parse(&"a".repeat(65)).is_err());
        assert!(TenantId::parse("a b").is_err());
        assert!(TenantId::parse("*").is_err() && TenantId::parse_or_all("**").is_err());
        assert_eq!(TenantId::parse_or_all("*").unwrap().as_str(), "*");
    }

    #[test]
    fn nowhere_is_no_session_and_its_own_for_each() {
        let key = |id: u128| SessionKey {
            tenant: TenantId::default(),
            user: UserId::parse("ada").unwrap(),
            session: Uuid::from_u128(id),
        };
        // Of a UUIDv7, and its neighbour.
        let here = key(0x0195_d6a0_0000_7000_8000_0000_0000_0001);
        let there = here.nowhere();
        assert_eq!((&there.tenant, &there.user), (&here.tenant, &here.user));
        assert_ne!(there.session.get_version_num(), 7);
        assert_ne!(there, key(0x0195_d6a0_0000_7000_8000_0000_0000_0002).nowhere());
    }

    #[test]
    fn user_ids_count_characters_not_bytes() {
        assert!(UserId::parse(&"ü".repeat(128)).is_ok());
        assert!(UserId::parse(&"ü".repeat(129)).is_err());
        assert!(UserId::parse("").is_err());
        assert!(UserId::parse("a\0b").is_err());
        assert!(UserId::parse("a\u{9b}31m").is_err());
    }
}
