//! The generated types of `sessiond.v1`. Elsewhere they are qualified: `pb::Session`.
#![expect(clippy::doc_lazy_continuation, reason = "generated: prost re-wraps lists in comments")]
#![expect(clippy::large_enum_variant, reason = "generated: most answers are the large one")]

tonic::include_proto!("sessiond.v1");

/// All of `proto/`, comments included, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
