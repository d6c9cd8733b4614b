//! `devices`.

use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{are_possible, corrupt, json};
use crate::clock::Time;
use crate::error::Error;
use crate::model::device::DeviceType;
use crate::model::ids::{DeviceKey, TenantId, UserId};
use crate::model::user_device::{Choice, DeviceSighting, UserDevice};
use crate::store::schema::devices;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = devices, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct DeviceRow {
    tenant_id: String,
    user_id: String,
    device_id: Uuid,
    device_type: i16,
    details: Value,
    described_at: Time,
    display_name: Option<String>,
    chosen_type: Option<i16>,
    trusted: bool,
    first_seen_at: Time,
    first_seen_ip: Option<ipnet::IpNet>,
    first_seen_location: Option<Value>,
    last_seen_at: Time,
    last_seen_ip: Option<ipnet::IpNet>,
    last_seen_location: Option<Value>,
    revoked_at: Option<Time>,
    revision: i32,
}

stored!(DeviceRow as devices::SqlType: "devices" by "device_id", "listed_at");

impl From<&UserDevice> for DeviceRow {
    fn from(device: &UserDevice) -> DeviceRow {
        let UserDevice { first_seen, last_seen, choice, .. } = device;
        DeviceRow {
            tenant_id: device.key.tenant.to_string(),
            user_id: device.key.user.to_string(),
            device_id: device.key.device,
            device_type: device.kind as i16,
            details: json(&device.details),
            described_at: device.described_at,
            display_name: choice.display_name.clone(),
            chosen_type: choice.kind.map(|kind| kind as i16),
            trusted: choice.trusted,
            first_seen_at: first_seen.at,
            first_seen_ip: first_seen.ip.map(ipnet::IpNet::from),
            first_seen_location: first_seen.location.as_ref().map(json),
            last_seen_at: last_seen.at,
            last_seen_ip: last_seen.ip.map(ipnet::IpNet::from),
            last_seen_location: last_seen.location.as_ref().map(json),
            revoked_at: device.revoked_at,
            revision: device.revision,
        }
    }
}

impl TryFrom<DeviceRow> for UserDevice {
    type Error = Error;

    fn try_from(row: DeviceRow) -> Result<UserDevice, Error> {
        let id = row.device_id;
        let bad = |column| move || corrupt("devices", column, id);
        let times = [row.described_at, row.first_seen_at, row.last_seen_at].map(Some);
        if !are_possible(times.into_iter().chain([row.revoked_at])) || row.revision == i32::MAX {
            return Err(bad("times or revision")());
        }
        let kind = |number: i16| DeviceType::from_number(number.into());
        let place = |place: Option<Value>| place.map(serde_json::from_value).transpose();
        Ok(UserDevice {
            key: DeviceKey {
                tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
                user: UserId::parse(&row.user_id).map_err(|_| bad("user_id")())?,
                device: id,
            },
            kind: kind(row.device_type).ok_or_else(bad("device_type"))?,
            details: serde_json::from_value(row.details).map_err(|_| bad("details")())?,
            described_at: row.described_at,
            choice: Choice {
                display_name: row.display_name,
                kind: row
                    .chosen_type
                    .map(|number| kind(number).ok_or_else(bad("chosen_type")))
                    .transpose()?,
                trusted: row.trusted,
            },
            first_seen: DeviceSighting {
                at: row.first_seen_at,
                ip: row.first_seen_ip.map(|net| net.addr()),
                location: place(row.first_seen_location)
                    .map_err(|_| bad("first_seen_location")())?,
            },
            last_seen: DeviceSighting {
                at: row.last_seen_at,
                ip: row.last_seen_ip.map(|net| net.addr()),
                location: place(row.last_seen_location).map_err(|_| bad("last_seen_location")())?,
            },
            revoked_at: row.revoked_at,
            revision: row.revision,
        })
    }
}
