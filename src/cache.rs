//! Between the rules and the database: the place of the session cache.

pub mod sessions;
