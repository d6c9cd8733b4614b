//! I15: a caller is permitted exactly what the table of permissions says of its role, and an unknown path does nothing.

use std::collections::HashSet;

use sessiond::caller::permissions::{METHODS, Permission, Role};
use sessiond::model::caller::scope::Scope;
use tonic::Code;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Op, Outcome, What};
use crate::tables::kind;

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 4] = ["I15 permitted", "I15 denied", "I15 no effect", "I15 odd path"];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    let made: HashSet<&str> = history.tables.sessions.iter().map(|row| &*row.tag).collect();
    for (at, op) in history.ops.iter().enumerate() {
        match (need(op), op.role) {
            (None, _) => odd_path(judge, &made, at, op),
            (Some(need), Some(role)) => of_role(judge, at, op, role, need),
            _ => {}
        }
    }
    for change in &history.tables.trail {
        let (Some(role), Some(scopes)) = (Role::parse(&change.principal), scopes(change.kind))
        else {
            continue;
        };
        let may = scopes.iter().any(|scope| role.scopes().has(*scope));
        judge.holds("I15 no effect", may, || {
            (format!("{} did what it may not: {change:?}", role.name()), vec![])
        });
    }
}

/// The permission of a call in the table; `None` if its path is not a method.
fn need(op: &Op) -> Option<Permission> {
    let is_it = |name: &str| match &op.what {
        What::Probe { path, .. } => path.strip_prefix('/') == Some(name),
        what => name.rsplit('/').next() == Some(what.name()),
    };
    METHODS.iter().find(|(name, _)| is_it(name)).map(|(_, need)| *need)
}

fn of_role(judge: &mut Judge, at: usize, op: &Op, role: Role, need: Permission) {
    let Some(scope) = need.scope() else { return };
    // With a narrower scope the permission depends on the request; an empty request keeps within none.
    let is_narrow = need.narrower().iter().any(|scope| role.scopes().has(*scope));
    let is_empty = matches!(op.what, What::Probe { .. });
    let (code, reason) = match &op.outcome {
        Outcome::Unknown(_) => return,
        Outcome::No(code, reason) => (*code, &**reason),
        Outcome::Ok(_) => (Code::Ok, ""),
    };
    if role.scopes().has(scope) {
        let refused = code == Code::PermissionDenied || reason == "CALLER_UNAUTHENTICATED";
        judge.holds("I15 permitted", !refused, || (format!("{} may do it", role.name()), vec![at]));
    } else if !is_narrow || is_empty {
        let denied = code == Code::PermissionDenied && op.is_denied();
        judge.holds("I15 denied", denied, || (format!("{} may not do it", role.name()), vec![at]));
    }
}

/// Any reason other than that of an unknown method comes from a handler.
fn odd_path(judge: &mut Judge, made: &HashSet<&str>, at: usize, op: &Op) {
    let What::Probe { tag, .. } = &op.what else { return };
    let unreached = match &op.outcome {
        Outcome::Unknown(_) => true,
        Outcome::No(code, reason) => *code == Code::Unimplemented && reason == "METHOD_UNKNOWN",
        Outcome::Ok(_) => false,
    };
    let nothing = unreached && !made.contains(&**tag);
    judge.holds("I15 odd path", nothing, || ("it reached a handler".to_owned(), vec![at]));
}

/// The scopes that permit a change of this kind, unless the service makes it by itself.
fn scopes(of: i16) -> Option<&'static [Scope]> {
    Some(match of {
        kind::CREATED => &[Scope::SessionCreate],
        kind::REFRESHED => &[Scope::SessionRefresh],
        kind::REAUTHENTICATED => &[Scope::SessionReauthenticate],
        kind::SESSION_UPDATED => &[Scope::SessionUpdate, Scope::AccountWrite],
        kind::DEVICE_UPDATED | kind::DEVICE_REVOKED => &[Scope::DeviceWrite, Scope::AccountWrite],
        kind::POLICY_UPDATED => &[Scope::PolicyWrite, Scope::DetectionWrite],
        kind::ALERT_ACKNOWLEDGED | kind::ALERT_RESOLVED | kind::ALERT_REOPENED => {
            &[Scope::AlertWrite]
        }
        // The caller of a create may choose other sessions to end.
        kind::TERMINATED => &[
            Scope::SessionTerminate,
            Scope::SessionTerminateHeld,
            Scope::SessionTerminateMany,
            Scope::AccountWrite,
            Scope::DeviceWrite,
            Scope::AlertWrite,
            Scope::SessionCreate,
        ],
        _ => return None,
    })
}
