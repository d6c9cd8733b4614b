//! `request_id` and the fingerprint of what it stands for.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;

use crate::grpc::convert::check::Check;
use crate::model::request::RequestId;

/// Reads a `request_id`; empty = absent. `body` is the request without it.
pub fn request_id(
    check: &mut Check,
    method: &str,
    id: &str,
    body: &impl Message,
) -> Option<RequestId> {
    let id = check.uuid("request_id", id)?;
    let mut hash = Context::new(&SHA256);
    hash.update(method.as_bytes());
    hash.update(b"\0");
    hash.update(&body.encode_to_vec());
    let fingerprint = hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
    Some(RequestId { id, fingerprint })
}
