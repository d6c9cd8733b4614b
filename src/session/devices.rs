//! A user's devices as a resource, one verb a file. Which device a session is on is decided in `device`.

pub mod forget;
pub mod read;
pub mod revoke;
pub mod update;

use crate::error::{Error, Reason};
use crate::model::ids::DeviceKey;

/// Of another user or tenant, or of nobody: all the same.
fn not_found(key: &DeviceKey) -> Error {
    Error::NotFound {
        reason: Reason::DeviceNotFound,
        kind: "sessiond.v1.UserDevice",
        name: key.device.to_string(),
    }
}
