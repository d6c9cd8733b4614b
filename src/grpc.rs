//! The gRPC layer: decodes a request, makes one call into the domain, encodes the response. Only this module uses tonic
//! and the generated types. It has no SQL and no domain rules.

pub mod activity;
pub mod alert;
pub mod auth;
pub mod device;
pub mod door;
pub mod health;
pub mod pb;
pub mod reflection;
pub mod session;
pub mod validate;
pub mod watch;

mod convert;
mod deadline;
mod error;
mod policy;
mod revocations;
mod tenant;
