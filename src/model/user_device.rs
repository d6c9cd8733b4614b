//! A device as a resource: its data over all sessions of its user.

use std::net::IpAddr;

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::device::{DeviceDetails, DeviceType, Location};
use crate::model::ids::{DeviceKey, SessionKey};
use crate::model::session::Session;

/// A device of a user. Its parts move forward each by its own measure, so that writes of them may come in any
/// order: the description by `described_at`, what was last seen by its time, choice and revocation by `revision`.
#[derive(Debug, Clone, PartialEq)]
pub struct UserDevice {
    pub key: DeviceKey,
    /// As the newest create on it stated.
    pub kind: DeviceType,
    /// As the newest create on it stated.
    pub details: DeviceDetails,
    /// When that was.
    pub described_at: Time,
    pub choice: Choice,
    /// Never changes.
    pub first_seen: DeviceSighting,
    pub last_seen: DeviceSighting,
    /// The last time; `None` = never.
    pub revoked_at: Option<Time>,
    /// Counts choices and revocations.
    pub revision: i32,
}

/// What callers set. No create changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// 1 to 128 characters; `None` = as the caller names the device.
    pub display_name: Option<String>,
    /// Never unspecified; `None` = as creates state it.
    pub kind: Option<DeviceType>,
    pub trusted: bool,
}

/// When and where.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSighting {
    pub at: Time,
    pub ip: Option<IpAddr>,
    pub location: Option<Location>,
}

impl UserDevice {
    /// The data of `session` about its device.
    pub fn of_session(session: &Session) -> UserDevice {
        let seen = |at| DeviceSighting { at, ip: session.ip, location: session.location.clone() };
        UserDevice {
            key: session.device_key(),
            kind: session.device.kind,
            details: session.device.details.clone(),
            described_at: session.created_at,
            choice: Choice::default(),
            first_seen: seen(session.created_at),
            last_seen: seen(session.last_active_at.max(session.created_at)),
            revoked_at: None,
            revision: 1,
        }
    }

    /// Its version. A device that is deleted and seen again counts anew, so the count alone does not identify one.
    pub fn etag(&self) -> String {
        format!("{:x}.{}", self.first_seen.at.timestamp_micros(), self.revision)
    }

    /// Merges the newer parts of `other`, the same device.
    pub fn merge(&mut self, other: UserDevice) {
        if other.first_seen.at < self.first_seen.at {
            self.first_seen = other.first_seen;
        }
        if other.described_at > self.described_at {
            self.kind = other.kind;
            self.details = other.details;
            self.described_at = other.described_at;
        }
        if other.last_seen.at > self.last_seen.at {
            self.last_seen = other.last_seen;
        }
        if other.revision > self.revision {
            self.choice = other.choice;
            self.revoked_at = other.revoked_at;
            self.revision = other.revision;
        }
    }

    /// The type to show.
    pub fn shown_kind(&self) -> DeviceType {
        self.choice.kind.unwrap_or(self.kind)
    }

    /// The name to show.
    pub fn shown_name(&self) -> Option<&String> {
        self.choice.display_name.as_ref().or(self.details.name.as_ref())
    }
}

/// Which devices a list shows. Empty shows all of the user.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    pub has_active_session: Option<bool>,
    /// Inclusive.
    pub last_seen_after: Option<Time>,
    /// Exclusive.
    pub last_seen_before: Option<Time>,
}

impl DeviceFilter {
    /// True for a device that the list would show, with `active` sessions.
    pub fn matches(&self, device: &UserDevice, active: u32) -> bool {
        let seen = device.last_seen.at;
        self.has_active_session.is_none_or(|wanted| wanted == (active > 0))
            && self.last_seen_after.is_none_or(|after| seen >= after)
            && self.last_seen_before.is_none_or(|before| seen < before)
    }
}

/// A session on a device, as far as it concerns the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence {
    pub session: SessionKey,
    pub device: Uuid,
    /// At its last activity.
    pub seen: DeviceSighting,
    pub idle_timeout: Option<Duration>,
    pub absolute_expires_at: Time,
}

impl Presence {
    /// Whether the session, which is not ended, is not past a deadline either.
    pub fn lives_at(&self, now: Time) -> bool {
        now < self.absolute_expires_at
            && self.idle_timeout.is_none_or(|idle| now < self.seen.at + idle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::model::ids::{TenantId, UserId};

    /// A device with a distinct value in each part.
    fn known(first: u8, described: u8, last: u8, revision: u8) -> UserDevice {
        let at = |minutes: u8| Time::UNIX_EPOCH + Duration::minutes(minutes.into());
        let seen = |minutes| DeviceSighting {
            at: at(minutes),
            ip: Some([192, 0, 2, minutes].into()),
            location: None,
        };
        let name = Some(described.to_string());
        let display_name = Some(revision.to_string());
        UserDevice {
            key: DeviceKey {
                tenant: TenantId::parse("").expect("the default"),
                user: UserId::parse("ada").expect("a user"),
                device: Uuid::nil(),
            },
            kind: DeviceType::Unspecified,
            details: DeviceDetails { name, ..DeviceDetails::default() },
            described_at: at(described),
            choice: Choice { display_name, ..Choice::default() },
            first_seen: seen(first),
            last_seen: seen(last),
            revoked_at: None,
            revision: revision.into(),
        }
    }

    proptest! {
        #[test]
        fn each_part_comes_from_its_best_source_in_any_order(
            a in any::<(u8, u8, u8, u8)>(), b in any::<(u8, u8, u8, u8)>(),
        ) {
            let device = |(first, described, last, revision)| known(first, described, last, revision);
            let (mut ab, mut ba) = (device(a), device(b));
            ab.merge(device(b));
            ba.merge(device(a));
            let best = known(a.0.min(b.0), a.1.max(b.1), a.2.max(b.2), a.3.max(b.3));
            prop_assert_eq!(&ab, &best);
            prop_assert_eq!(&ba, &best);
        }
    }
}
