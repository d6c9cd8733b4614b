//! A user's devices as a resource, one verb a file. The module `device` decides which device a session is on.

pub mod forget;
pub mod read;
pub mod revoke;
pub mod update;

use crate::error::{Error, Reason};
use crate::model::ids::DeviceKey;

/// The same error for a device of another user or tenant, and for one that does not exist.
fn not_found(key: &DeviceKey) -> Error {
    Error::NotFound {
        reason: Reason::DeviceNotFound,
        kind: "sessiond.v1.UserDevice",
        name: key.device.to_string(),
    }
}
