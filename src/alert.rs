//! Security alerts: reading and watching them, and their workflow.

pub mod raise;
pub mod read;
pub mod resolve;
pub mod rules;
pub mod watch;
pub mod work;
