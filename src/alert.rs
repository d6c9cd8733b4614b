//! Security alerts: reading and watching them, and their workflow.

pub mod read;
pub mod rules;
pub mod watch;
pub mod work;
