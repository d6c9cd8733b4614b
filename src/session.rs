//! The rules of sessions, one verb a file. `limits`, `rotation` and the arithmetic of `model` are
//! pure. A verb reads, decides by them, writes, and only then answers.

pub mod apply_policy;
pub mod create;
pub mod detect;
pub mod device;
pub mod devices;
pub mod erase;
pub mod etag;
pub mod evaluate;
pub mod expire;
pub mod get;
pub mod get_policy;
pub mod incidents;
pub mod list;
pub mod list_activities;
pub mod list_tenants;
pub mod location;
pub(crate) mod mutation;
pub mod observations;
pub mod reauthenticate;
pub mod record_activities;
pub mod refresh;
pub mod restore;
pub mod retain;
pub mod roll_up;
pub mod skipped_rows;
pub mod stats;
pub mod step_up;
pub mod terminate;
pub mod terminate_many;
pub mod touch;
pub mod update;
pub mod update_policy;
pub mod validate;
pub mod watch;
pub mod watch_revocations;

mod batch_size;
mod feed_reader;
mod lanes;
mod limits;
mod reuse;
mod rotation;
mod shorten;
