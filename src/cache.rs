//! Between the rules and the database: cached sessions, the revocation feed, cached policies, and watchers.

pub mod feed;
mod flights;
mod meters;
pub mod policies;
pub mod progress;
pub mod revocation_feed;
pub mod sessions;
pub mod table;
