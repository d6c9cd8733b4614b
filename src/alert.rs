//! Security alerts: reading them, and their workflow.

pub mod read;
pub mod rules;
pub mod work;
