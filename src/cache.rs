//! Between the rules and the database: policies, and the place of the session cache.

pub mod policies;
pub mod sessions;
