//! Who may do what: the scope that each method needs, and the roles, which are sets of scopes. The one table of
//! permissions; the server holds it against the descriptors of its services at start.

use crate::model::caller::scope::{Scope, Scopes};

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: credentials are not even looked at.
    Nothing,
    Scope(Scope),
}

/// Every method that is served, and what it needs. What is not here is refused.
pub const METHODS: &[(&str, Need)] = &[
    ("session.v1.SessionService/CreateSession", Need::Scope(Scope::SessionCreate)),
    ("session.v1.SessionService/RefreshSession", Need::Scope(Scope::SessionRefresh)),
    ("session.v1.SessionService/ValidateSession", Need::Scope(Scope::SessionValidate)),
    ("session.v1.SessionService/ValidateSessions", Need::Scope(Scope::SessionValidate)),
    ("session.v1.SessionService/ReauthenticateSession", Need::Scope(Scope::SessionReauthenticate)),
    ("session.v1.SessionService/TerminateSession", Need::Scope(Scope::SessionTerminate)),
    ("session.v1.SessionService/TerminateSessions", Need::Scope(Scope::SessionTerminateMany)),
    ("session.v1.SessionService/EraseUser", Need::Scope(Scope::UserErase)),
    ("session.v1.SessionService/GetSession", Need::Scope(Scope::SessionRead)),
    ("session.v1.SessionService/ListSessions", Need::Scope(Scope::SessionRead)),
    ("session.v1.SessionService/UpdateSession", Need::Scope(Scope::SessionUpdate)),
    ("session.v1.SessionService/WatchSessions", Need::Scope(Scope::SessionWatch)),
    ("session.v1.SessionService/GetJsonWebKeySet", Need::Scope(Scope::KeyRead)),
    ("session.v1.SessionService/ListDevices", Need::Scope(Scope::DeviceRead)),
    ("session.v1.SessionService/GetDevice", Need::Scope(Scope::DeviceRead)),
    ("session.v1.SessionService/UpdateDevice", Need::Scope(Scope::DeviceWrite)),
    ("session.v1.SessionService/RevokeDevice", Need::Scope(Scope::DeviceWrite)),
    ("session.v1.SessionService/GetPolicy", Need::Scope(Scope::PolicyRead)),
    ("session.v1.SessionService/UpdatePolicy", Need::Scope(Scope::PolicyWrite)),
    ("session.v1.SessionService/GetSessionStats", Need::Scope(Scope::StatsRead)),
    ("session.v1.SessionService/RecordActivities", Need::Scope(Scope::ActivityWrite)),
    ("session.v1.SessionService/ListActivities", Need::Scope(Scope::ActivityRead)),
    ("session.v1.SessionService/WatchRevocations", Need::Scope(Scope::RevocationWatch)),
    ("alert.v1.AlertService/ListAlerts", Need::Scope(Scope::AlertRead)),
    ("alert.v1.AlertService/GetAlert", Need::Scope(Scope::AlertRead)),
    ("alert.v1.AlertService/GetAlertStats", Need::Scope(Scope::AlertRead)),
    ("alert.v1.AlertService/ListRules", Need::Scope(Scope::AlertRead)),
    ("alert.v1.AlertService/EvaluateRules", Need::Scope(Scope::AlertRead)),
    ("alert.v1.AlertService/WatchAlerts", Need::Scope(Scope::AlertWatch)),
    ("alert.v1.AlertService/RaiseAlert", Need::Scope(Scope::AlertWrite)),
    ("alert.v1.AlertService/AcknowledgeAlert", Need::Scope(Scope::AlertWrite)),
    ("alert.v1.AlertService/ResolveAlert", Need::Scope(Scope::AlertWrite)),
    ("alert.v1.AlertService/ReopenAlert", Need::Scope(Scope::AlertWrite)),
    // Asked by load balancers, which have no credentials.
    ("grpc.health.v1.Health/Check", Need::Nothing),
    ("grpc.health.v1.Health/Watch", Need::Nothing),
    // Served only where the operator wants it; it says no more than the published protocol.
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Nothing),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need::Nothing),
];

/// Declares the roles with their names and scopes.
macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $scopes:expr),+ $(,)?) => {
        /// A set of scopes that go together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Role { $($(#[$doc])* $variant),+ }

        impl Role {
            /// All there are.
            pub const ALL: &[Role] = &[$(Role::$variant),+];

            /// As it is written, such as `gateway`.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name),+ }
            }

            /// The role of this name, if there is one.
            pub fn parse(name: &str) -> Option<Role> {
                match name { $($name => Some(Role::$variant),)+ _ => None }
            }

            /// What it may do.
            pub const fn scopes(self) -> Scopes {
                match self { $(Role::$variant => Scopes::of($scopes)),+ }
            }
        }
    };
}

roles! {
    /// Lets users through: validates and refreshes, by calls or by itself.
    Gateway = "gateway": &[
        Scope::SessionValidate, Scope::SessionRefresh, Scope::ActivityWrite, Scope::RevocationWatch,
        Scope::KeyRead,
    ],
    /// Knows who the user is.
    Login = "login": &[
        Scope::SessionCreate, Scope::SessionReauthenticate, Scope::SessionRefresh,
        Scope::ActivityWrite,
    ],
    /// Helps users with their sessions.
    Support = "support": &[Scope::SessionRead, Scope::DeviceRead, Scope::SessionTerminate],
    /// Works on alerts.
    Security = "security": &[
        Scope::AlertRead, Scope::AlertWatch, Scope::AlertWrite, Scope::ActivityRead,
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
