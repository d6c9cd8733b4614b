//! The generated types. Elsewhere they are qualified: `pb::session::Session`.

/// `session.v1`
#[expect(clippy::doc_lazy_continuation, reason = "generated: prost re-wraps lists in comments")]
pub mod session {
    tonic::include_proto!("session.v1");
}

/// `alert.v1`
pub mod alert {
    tonic::include_proto!("alert.v1");
}

/// All of `proto/`, comments included, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
