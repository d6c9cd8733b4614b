//! What a caller may do: scopes, and sets of them.

/// Declares the scopes with their names.
macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// One kind of call. What each method needs is in `caller/permissions.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Scope { $($(#[$doc])* $variant),+ }

        impl Scope {
            /// All scopes.
            pub const ALL: &[Scope] = &[$(Scope::$variant),+];

            /// As it is written, such as `session.create`.
            pub const fn name(self) -> &'static str {
                match self { $(Scope::$variant => $name),+ }
            }

            /// The scope of this name, if there is one.
            pub fn parse(name: &str) -> Option<Scope> {
                match name { $($name => Some(Scope::$variant),)+ _ => None }
            }
        }
    };
}

scopes! {
    SessionCreate = "session.create",
    SessionValidate = "session.validate",
    SessionRefresh = "session.refresh",
    SessionRead = "session.read",
    SessionUpdate = "session.update",
    SessionWatch = "session.watch",
    SessionTerminate = "session.terminate",
    /// Only the session whose token the caller shows.
    SessionTerminateHeld = "session.terminate_held",
    /// By a filter, not one by one.
    SessionTerminateMany = "session.terminate_many",
    SessionReauthenticate = "session.reauthenticate",
    DeviceRead = "device.read",
    /// Revoking ends the device's sessions.
    DeviceWrite = "device.write",
    ActivityRead = "activity.read",
    ActivityWrite = "activity.write",
    AlertRead = "alert.read",
    AlertWatch = "alert.watch",
    /// A resolution may end the user's sessions.
    AlertWrite = "alert.write",
    PolicyRead = "policy.read",
    PolicyWrite = "policy.write",
    StatsRead = "stats.read",
    /// The list of tenants, of those that the caller may work for.
    TenantRead = "tenant.read",
    KeyRead = "key.read",
    KeyAdmin = "key.admin",
    UserErase = "user.erase",
    RevocationWatch = "revocation.watch",
    /// Sessions and devices of one user a call.
    AccountRead = "account.read",
    /// The same; it may end them too.
    AccountWrite = "account.write",
    /// The detection part of a policy.
    DetectionWrite = "detection.write",
}

impl Scope {
    /// True if each call is logged with its caller: such calls change things for many, or show the data of users.
    pub const fn is_administrative(self) -> bool {
        match self {
            Scope::SessionRead
            | Scope::SessionWatch
            | Scope::SessionTerminateMany
            | Scope::DeviceRead
            | Scope::DeviceWrite
            | Scope::ActivityRead
            | Scope::AlertRead
            | Scope::AlertWatch
            | Scope::AlertWrite
            | Scope::PolicyWrite
            | Scope::KeyAdmin
            | Scope::DetectionWrite
            | Scope::UserErase => true,
            Scope::SessionCreate
            | Scope::SessionValidate
            | Scope::SessionRefresh
            | Scope::SessionUpdate
            | Scope::SessionTerminate
            | Scope::SessionReauthenticate
            | Scope::ActivityWrite
            | Scope::PolicyRead
            | Scope::StatsRead
            | Scope::TenantRead
            | Scope::KeyRead
            | Scope::RevocationWatch
            | Scope::SessionTerminateHeld
            | Scope::AccountRead
            | Scope::AccountWrite => false,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u32);

impl Scopes {
    /// Those of a list.
    pub const fn of(list: &[Scope]) -> Scopes {
        let (mut bits, mut at) = (0, 0);
        while at < list.len() {
            bits |= 1 << list[at] as u32;
            at += 1;
        }
        Scopes(bits)
    }

    /// True if `scope` is in it.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// The union of both.
    pub const fn with(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_name_of_its_own_and_a_place_in_the_set() {
        assert!(Scope::ALL.len() <= 32);
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.name()), Some(*scope));
            let alone = Scopes::of(&[*scope]);
            let held = Scope::ALL.iter().filter(|other| alone.has(**other));
            assert_eq!(held.collect::<Vec<_>>(), [scope]);
        }
        assert_eq!(Scope::parse("session"), None);
    }
}
