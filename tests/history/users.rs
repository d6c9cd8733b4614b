//! The few users that all callers share, so that their calls collide.

use sessiond::grpc::pb;

/// The tenants. Both have an `ann` and a `bob`, so that a mix-up of tenants shows.
pub const TENANTS: [&str; 2] = ["default", "other"];

/// A user, and the properties of its sessions.
#[derive(Debug)]
pub struct User {
    pub tenant: &'static str,
    pub name: &'static str,
    /// The clients that they log in with.
    pub clients: &'static [&'static str],
    /// The session limit.
    pub limit: Option<Limit>,
    /// Sessions with timeouts of a few seconds.
    pub short_lived: bool,
    /// Erased during the run, so that the tables do not keep all of its rows.
    pub erased: bool,
}

/// A limit, and what it counts.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub counts: Counts,
    pub max: u32,
    pub strategy: pb::LimitStrategy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// All sessions of the user.
    User,
    /// The sessions of this client.
    Client(&'static str),
    /// The sessions on mobile devices; those on TVs have the same limit, and end on the same device.
    DeviceType,
}

const fn user(tenant: &'static str, name: &'static str, clients: &'static [&'static str]) -> User {
    User { tenant, name, clients, limit: None, short_lived: false, erased: false }
}

const fn limit(counts: Counts, max: u32, strategy: pb::LimitStrategy) -> Option<Limit> {
    Some(Limit { counts, max, strategy })
}

pub const USERS: [User; 9] = [
    User {
        limit: limit(Counts::User, 1, pb::LimitStrategy::TerminateOldest),
        ..user("default", "ann", &["one"])
    },
    User {
        limit: limit(Counts::User, 3, pb::LimitStrategy::TerminateLeastRecentlyUsed),
        ..user("default", "bob", &["three"])
    },
    User {
        limit: limit(Counts::Client("two"), 2, pb::LimitStrategy::Reject),
        ..user("default", "cid", &["two", "free"])
    },
    User {
        limit: limit(Counts::User, 2, pb::LimitStrategy::Ask),
        ..user("default", "dot", &["asks"])
    },
    User {
        limit: limit(Counts::DeviceType, 2, pb::LimitStrategy::TerminateOldest),
        ..user("default", "eve", &["kinds"])
    },
    User { erased: true, ..user("default", "fay", &["free"]) },
    User { short_lived: true, ..user("other", "ann", &["free"]) },
    user("other", "bob", &["changing"]),
    User { short_lived: true, ..user("other", "gil", &["free"]) },
];

/// The first users are shared: any call may be about them.
pub const SHARED: usize = 8;

/// The user without limits, who gets the most calls.
pub const FREE: usize = 7;

/// The user whose sessions last for seconds and are left to expire: no call uses or ends them before.
pub const LEFT_ALONE: usize = 8;

/// The type of device whose limit ends sessions of the same device.
pub const TV: i16 = pb::DeviceType::Tv as i16;

/// The client whose policy is changed during the run, and its tenant.
pub const CHANGING: (&str, &str) = ("other", "changing");

/// The policies of the clients, as they are before the run.
pub fn policies() -> Vec<pb::Policy> {
    let mut levels = Vec::new();
    for user in &USERS {
        let Some(limit) = user.limit else { continue };
        let stated = pb::SessionLimit { max: limit.max, strategy: limit.strategy.into() };
        let mut policy = pb::Policy {
            tenant_id: user.tenant.to_owned(),
            client_id: user.clients[0].to_owned(),
            ..Default::default()
        };
        match limit.counts {
            Counts::User => policy.user_limit = Some(stated),
            Counts::Client(_) => policy.client_limit = Some(stated),
            Counts::DeviceType => {
                let kinds = [
                    (pb::DeviceType::Mobile, limit.strategy),
                    (pb::DeviceType::Tv, pb::LimitStrategy::TerminateSameDevice),
                ];
                policy.device_type_limits = kinds
                    .map(|(kind, strategy)| pb::DeviceTypeLimit {
                        device_type: kind.into(),
                        max: limit.max,
                        strategy: strategy.into(),
                    })
                    .to_vec();
            }
        }
        levels.push(policy);
    }
    levels
}
