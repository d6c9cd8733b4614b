//! Converts between the generated types and the model, and validates requests as far as that needs no stored data.

pub(super) mod activity;
pub(super) mod alert;
pub(super) mod check;
pub(super) mod client;
pub(super) mod device;
pub(super) mod evaluation;
pub(super) mod keys;
pub(super) mod lists;
pub(super) mod mask;
pub(super) mod policy;
pub(super) mod request;
pub(super) mod revocations;
pub(super) mod rules;
pub(super) mod session;
pub(super) mod tenants;
pub(super) mod time;
pub(super) mod watch;
pub(super) mod window;
