//! `request_id` and the fingerprint of its request.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;
use uuid::Uuid;

use crate::grpc::convert::check::Check;
use crate::model::request::RequestId;

/// Reads a `request_id`; empty = absent. `body` is the request without it. The id is derived from the text and the
/// principal, so that no principal gets the response to another's request. All keys of a principal share its ids.
pub fn request_id(
    check: &mut Check,
    principal: &str,
    method: &str,
    id: &str,
    body: &impl Message,
) -> Option<RequestId> {
    let id = check.uuid("request_id", id)?;
    let own = sha256(&[b"request id", principal.as_bytes(), id.as_bytes()]);
    let id = Uuid::new_v8(*own.first_chunk().expect("SHA-256 has 32 bytes"));
    let fingerprint = sha256(&[method.as_bytes(), &body.encode_to_vec()]);
    Some(RequestId { id, fingerprint })
}

/// The hash of the parts, separated by NUL. Only the last part may contain NUL, or parts would be ambiguous.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b"\0");
        }
        hash.update(part);
    }
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
