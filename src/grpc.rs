//! The entrance for requests: decode, one call into the rules, encode. The only home of tonic and
//! of the generated types; no SQL, no rules.

pub mod activity;
pub mod alert;
pub mod auth;
pub mod concurrency;
pub mod device;
pub mod health;
pub mod meters;
pub mod observe;
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
