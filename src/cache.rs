//! Between the rules and the database: sessions known by heart, what revokes them, policies, and who watches.

pub mod feed;
mod meters;
pub mod policies;
pub mod progress;
pub mod revocation_feed;
pub mod sessions;
pub mod table;
