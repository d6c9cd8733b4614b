//! Devices of users, and the requests about them.

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client::location_to_pb;
use crate::grpc::convert::lists::page_size;
use crate::grpc::convert::mask;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::time::{time, to_pb};
use crate::grpc::pb;
use crate::model::device::{DeviceDetails, DeviceType};
use crate::model::ids::{DeviceKey, TenantId, UserId};
use crate::model::request::RequestId;
use crate::model::user_device::DeviceFilter;
use crate::session::devices::read::ListedDevice;
use crate::session::devices::revoke::DeviceRevocation;
use crate::session::devices::update::{DeviceUpdate, Setting};

/// A device as a protobuf message.
pub fn to_pb_device(seen: ListedDevice) -> pb::UserDevice {
    let ListedDevice { device, active } = seen;
    let (kind, etag) = (device.shown_kind(), device.etag());
    let DeviceDetails { name, platform, app_version, os, browser, model } = device.details;
    let address = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    pb::UserDevice {
        device_id: device.key.device.to_string(),
        tenant_id: device.key.tenant.to_string(),
        user_id: device.key.user.to_string(),
        display_name: device.choice.display_name.or(name).unwrap_or_default(),
        trusted: Some(device.choice.trusted),
        r#type: i32::from(kind as i16),
        os: platform.clone().or(os).unwrap_or_default(),
        browser: browser.unwrap_or_default(),
        model: model.unwrap_or_default(),
        platform: platform.unwrap_or_default(),
        app_version: app_version.unwrap_or_default(),
        first_seen_time: Some(to_pb(device.first_seen.at)),
        first_seen_ip_address: address(device.first_seen.ip),
        first_seen_location: device.first_seen.location.map(location_to_pb),
        last_seen_time: Some(to_pb(device.last_seen.at)),
        last_seen_ip_address: address(device.last_seen.ip),
        last_seen_location: device.last_seen.location.map(location_to_pb),
        active_session_count: active,
        revoke_time: device.revoked_at.map(to_pb),
        etag,
    }
}

/// Checks a request for a device; returns its key.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn name(request: &pb::GetDeviceRequest) -> Result<DeviceKey> {
    let mut check = Check::default();
    let key = key(&mut check, &request.tenant_id, &request.user_id, &request.device_id);
    let Some(key) = key else { return Err(check.failed()) };
    check.done()?;
    Ok(key)
}

/// Checks a list request; returns tenant, user, filter and page size.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn list(request: &pb::ListDevicesRequest) -> Result<(TenantId, UserId, DeviceFilter, usize)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = check.take("user_id", UserId::parse(&request.user_id));
    let size = page_size(&mut check, request.page_size);
    let pb = request.filter.unwrap_or_default();
    let (after, before) = (pb.last_seen_after_time, pb.last_seen_before_time);
    let filter = DeviceFilter {
        has_active_session: pb.has_active_session,
        last_seen_after: time(&mut check, "filter.last_seen_after_time", after),
        last_seen_before: time(&mut check, "filter.last_seen_before_time", before),
    };
    let (Some(tenant), Some(user)) = (tenant, user) else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, user, filter, size))
}

/// Checks an update of a device.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn update(mut request: pb::UpdateDeviceRequest, principal: String) -> Result<DeviceUpdate> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "UpdateDevice", &id, &request);
    let Some(device) = request.device else {
        let names = ["display_name", "trusted", "type"];
        mask::names_only(&mut check, request.update_mask.as_ref(), &names);
        return Err(check.missing("device"));
    };
    let mut given = Check::default();
    let key = key(&mut given, &device.tenant_id, &device.user_id, &device.device_id);
    let name = given.text("display_name", &device.display_name, 128);
    let kind = given.value("type", device.r#type, DeviceType::from_number);
    check.within("device", given);
    let fields = [
        ("display_name", !device.display_name.is_empty()),
        ("trusted", device.trusted.is_some()),
        ("type", device.r#type != 0),
    ];
    let chosen = mask::chosen(&mut check, request.update_mask, &fields);
    let Some(key) = key else { return Err(check.failed()) };
    check.done()?;
    let sets = |field| chosen.contains(&field);
    Ok(DeviceUpdate {
        key,
        set: Setting {
            display_name: sets("display_name").then_some(name),
            kind: sets("type").then_some(kind),
            trusted: sets("trusted").then_some(device.trusted.unwrap_or_default()),
        },
        etag: Some(device.etag).filter(|etag| !etag.is_empty()),
        request: remember,
        principal,
    })
}

/// Checks a revocation.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn revocation(
    mut request: pb::RevokeDeviceRequest,
    principal: String,
) -> Result<DeviceRevocation> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "RevokeDevice", &id, &request);
    let key = key(&mut check, &request.tenant_id, &request.user_id, &request.device_id);
    revoking(check, key, request.note, remember, principal)
}

/// Checks a request to forget a device.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn forgetting(
    mut request: pb::ForgetDeviceRequest,
    principal: String,
) -> Result<DeviceRevocation> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "ForgetDevice", &id, &request);
    let key = key(&mut check, &request.tenant_id, &request.user_id, &request.device_id);
    revoking(check, key, request.note, remember, principal)
}

fn revoking(
    mut check: Check,
    key: Option<DeviceKey>,
    note: String,
    request: Option<RequestId>,
    principal: String,
) -> Result<DeviceRevocation> {
    let note = check.note("note", note, 512);
    let Some(key) = key else { return Err(check.failed()) };
    check.done()?;
    Ok(DeviceRevocation { key, note, request, principal })
}

fn key(check: &mut Check, tenant: &str, user: &str, device: &str) -> Option<DeviceKey> {
    let tenant = check.take("tenant_id", TenantId::parse(tenant));
    let user = check.take("user_id", UserId::parse(user));
    let device = check.required_uuid("device_id", device);
    Some(DeviceKey { tenant: tenant?, user: user?, device: device? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_bad_mask_is_named_beside_the_missing_device() {
        let request = pb::UpdateDeviceRequest {
            update_mask: Some(prost_types::FieldMask { paths: vec!["x".to_owned()] }),
            ..Default::default()
        };
        let Err(Error::Invalid(violations)) = update(request, String::new()) else {
            panic!("it was accepted")
        };
        let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["update_mask", "device"]);
    }
}
