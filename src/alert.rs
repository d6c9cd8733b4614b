//! Security alerts: reading and watching them, their workflow, and their statistics.

pub mod raise;
pub mod read;
pub mod resolve;
pub mod rules;
pub mod stats;
pub mod watch;
pub mod work;
