//! Between the rules and the database: policies, the place of the session cache, and who watches.

pub mod feed;
pub mod policies;
pub mod sessions;
