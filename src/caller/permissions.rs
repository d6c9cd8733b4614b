//! Permissions: the scope that each method needs, and the roles, which are sets of scopes. The only table of
//! permissions; the server compares it with the descriptors of its services at start.

use crate::error::Result;
use crate::model::caller::principal::Principal;
use crate::model::caller::scope::{Scope, Scopes};

/// The permission that a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// None: credentials are not read.
    Nothing,
    Scope(Scope),
    /// The first scope, or one of the narrower others if the request keeps within it.
    AnyOf(Scope, &'static [Scope]),
}

impl Permission {
    /// The scope that permits every request of the method.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Permission::Nothing => None,
            Permission::Scope(scope) | Permission::AnyOf(scope, _) => Some(scope),
        }
    }

    /// The scopes that permit some requests of the method.
    pub const fn narrower(self) -> &'static [Scope] {
        match self {
            Permission::Nothing | Permission::Scope(_) => &[],
            Permission::AnyOf(_, narrower) => narrower,
        }
    }

    /// The scope by which `caller` may call the method. With a narrower one, only requests within it are permitted.
    ///
    /// # Errors
    /// [`crate::error::Error::NotPermitted`], which names the scope that permits every request.
    pub fn check(self, caller: &Principal) -> Result<Option<Scope>> {
        let Some(scope) = self.scope() else { return Ok(None) };
        let held = self.narrower().iter().find(|narrower| caller.scopes.has(**narrower));
        match (caller.check_scope(scope), held) {
            (Err(_), Some(narrower)) => Ok(Some(*narrower)),
            (permitted, _) => permitted.map(|()| Some(scope)),
        }
    }

    /// Checks one request of the method; `keeps_within` returns whether the request keeps within a narrower scope.
    ///
    /// # Errors
    /// As [`Permission::check`].
    pub fn check_request(
        self,
        caller: &Principal,
        keeps_within: impl Fn(Scope) -> bool,
    ) -> Result<()> {
        let Some(scope) = self.scope() else { return Ok(()) };
        let mut held = self.narrower().iter().filter(|narrower| caller.scopes.has(**narrower));
        caller.check_scope(scope).or_else(|error| match held.any(|held| keeps_within(*held)) {
            true => Ok(()),
            false => Err(error),
        })
    }
}

const ACCOUNT_READ: &[Scope] = &[Scope::AccountRead];
const ACCOUNT_WRITE: &[Scope] = &[Scope::AccountWrite];
const TERMINATE: &[Scope] = &[Scope::SessionTerminateHeld, Scope::AccountWrite];
const DETECTION: &[Scope] = &[Scope::DetectionWrite];

/// Every method that is served, and its permission. Other methods are refused.
pub const METHODS: &[(&str, Permission)] = &[
    ("sessiond.v1.SessionService/CreateSession", Permission::Scope(Scope::SessionCreate)),
    ("sessiond.v1.SessionService/RefreshSession", Permission::Scope(Scope::SessionRefresh)),
    ("sessiond.v1.SessionService/ValidateSession", Permission::Scope(Scope::SessionValidate)),
    ("sessiond.v1.SessionService/ValidateSessions", Permission::Scope(Scope::SessionValidate)),
    (
        "sessiond.v1.SessionService/ReauthenticateSession",
        Permission::Scope(Scope::SessionReauthenticate),
    ),
    (
        "sessiond.v1.SessionService/TerminateSession",
        Permission::AnyOf(Scope::SessionTerminate, TERMINATE),
    ),
    (
        "sessiond.v1.SessionService/TerminateSessions",
        Permission::AnyOf(Scope::SessionTerminateMany, ACCOUNT_WRITE),
    ),
    ("sessiond.v1.SessionService/EraseUser", Permission::Scope(Scope::UserErase)),
    ("sessiond.v1.SessionService/GetSession", Permission::AnyOf(Scope::SessionRead, ACCOUNT_READ)),
    (
        "sessiond.v1.SessionService/ListSessions",
        Permission::AnyOf(Scope::SessionRead, ACCOUNT_READ),
    ),
    (
        "sessiond.v1.SessionService/UpdateSession",
        Permission::AnyOf(Scope::SessionUpdate, ACCOUNT_WRITE),
    ),
    ("sessiond.v1.SessionService/WatchSessions", Permission::Scope(Scope::SessionWatch)),
    ("sessiond.v1.SessionService/GetJsonWebKeySet", Permission::Scope(Scope::KeyRead)),
    ("sessiond.v1.SessionService/ListDevices", Permission::AnyOf(Scope::DeviceRead, ACCOUNT_READ)),
    ("sessiond.v1.SessionService/GetDevice", Permission::AnyOf(Scope::DeviceRead, ACCOUNT_READ)),
    (
        "sessiond.v1.SessionService/UpdateDevice",
        Permission::AnyOf(Scope::DeviceWrite, ACCOUNT_WRITE),
    ),
    (
        "sessiond.v1.SessionService/RevokeDevice",
        Permission::AnyOf(Scope::DeviceWrite, ACCOUNT_WRITE),
    ),
    (
        "sessiond.v1.SessionService/ForgetDevice",
        Permission::AnyOf(Scope::DeviceWrite, ACCOUNT_WRITE),
    ),
    ("sessiond.v1.SessionService/GetPolicy", Permission::Scope(Scope::PolicyRead)),
    ("sessiond.v1.SessionService/ListPolicies", Permission::Scope(Scope::PolicyRead)),
    ("sessiond.v1.SessionService/ListTenants", Permission::Scope(Scope::TenantRead)),
    ("sessiond.v1.SessionService/ListUsers", Permission::Scope(Scope::SessionRead)),
    ("sessiond.v1.SessionService/UpdatePolicy", Permission::AnyOf(Scope::PolicyWrite, DETECTION)),
    ("sessiond.v1.SessionService/GetSessionStats", Permission::Scope(Scope::StatsRead)),
    ("sessiond.v1.SessionService/RecordActivities", Permission::Scope(Scope::ActivityWrite)),
    ("sessiond.v1.SessionService/ListActivities", Permission::Scope(Scope::ActivityRead)),
    ("sessiond.v1.SessionService/WatchRevocations", Permission::Scope(Scope::RevocationWatch)),
    ("sessiond.v1.AlertService/ListAlerts", Permission::Scope(Scope::AlertRead)),
    ("sessiond.v1.AlertService/GetAlert", Permission::Scope(Scope::AlertRead)),
    ("sessiond.v1.AlertService/GetAlertStats", Permission::Scope(Scope::AlertRead)),
    ("sessiond.v1.AlertService/ListRules", Permission::Scope(Scope::AlertRead)),
    ("sessiond.v1.AlertService/EvaluateRules", Permission::Scope(Scope::AlertRead)),
    ("sessiond.v1.AlertService/WatchAlerts", Permission::Scope(Scope::AlertWatch)),
    ("sessiond.v1.AlertService/RaiseAlert", Permission::Scope(Scope::AlertWrite)),
    ("sessiond.v1.AlertService/AcknowledgeAlert", Permission::Scope(Scope::AlertWrite)),
    ("sessiond.v1.AlertService/ResolveAlert", Permission::Scope(Scope::AlertWrite)),
    ("sessiond.v1.AlertService/ReopenAlert", Permission::Scope(Scope::AlertWrite)),
    ("sessiond.v1.AlertService/AddAlertNote", Permission::Scope(Scope::AlertWrite)),
    // For load balancers, which have no credentials.
    ("grpc.health.v1.Health/Check", Permission::Nothing),
    ("grpc.health.v1.Health/Watch", Permission::Nothing),
    // Served only if the operator enables it; the published protocol files say the same.
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Permission::Nothing),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Permission::Nothing),
];

/// Declares the roles with their names and scopes.
macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $scopes:expr),+ $(,)?) => {
        /// A set of scopes that go together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Role { $($(#[$doc])* $variant),+ }

        impl Role {
            /// All roles.
            pub const ALL: &[Role] = &[$(Role::$variant),+];

            /// The name, such as `gateway`.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name),+ }
            }

            /// The role of this name, if there is one.
            pub fn parse(name: &str) -> Option<Role> {
                match name { $($name => Some(Role::$variant),)+ _ => None }
            }

            /// The scopes of the role.
            pub const fn scopes(self) -> Scopes {
                match self { $(Role::$variant => Scopes::of($scopes)),+ }
            }
        }
    };
}

roles! {
    /// A gateway: validates tokens, by calls or by itself, refreshes them, and logs out the holder of a token.
    Gateway = "gateway": &[
        Scope::SessionValidate, Scope::SessionRefresh, Scope::SessionTerminateHeld,
        Scope::ActivityWrite, Scope::RevocationWatch, Scope::KeyRead,
    ],
    /// The login service: logs users in and out, on all their devices too, and settles conflicts.
    Login = "login": &[
        Scope::SessionCreate, Scope::SessionReauthenticate, Scope::SessionRefresh,
        Scope::SessionTerminateHeld, Scope::AccountRead, Scope::AccountWrite, Scope::ActivityWrite,
    ],
    /// Pages where users see their own sessions and devices.
    Account = "account": &[Scope::AccountRead, Scope::AccountWrite],
    /// Support: helps users with their sessions.
    Support = "support": &[
        Scope::SessionRead, Scope::DeviceRead, Scope::SessionTerminate, Scope::TenantRead,
    ],
    /// Security analysts: handle alerts, view and end the sessions in them, and tune the rules.
    Security = "security": &[
        Scope::AlertRead, Scope::AlertWatch, Scope::AlertWrite, Scope::ActivityRead,
        Scope::SessionRead, Scope::SessionTerminate, Scope::DeviceRead, Scope::AccountWrite,
        Scope::PolicyRead, Scope::DetectionWrite, Scope::TenantRead,
    ],
    Admin = "admin": Scope::ALL,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_name_of_its_own_and_only_admin_has_every_scope() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(*role));
            let all = Scope::ALL.iter().all(|scope| role.scopes().has(*scope));
            assert_eq!(all, *role == Role::Admin, "{role:?}");
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_gateway_may_validate_and_not_create() {
        let gateway = Role::Gateway.scopes();
        assert!(gateway.has(Scope::SessionValidate));
        assert!(!gateway.has(Scope::SessionCreate));
    }
}
