//! The generated types. Elsewhere they are qualified: `pb::session::Session`.

// As the packages are nested, so that one can name the types of the other.
mod packages {
    pub mod session {
        /// `session.v1`
        #[expect(
            clippy::doc_lazy_continuation,
            reason = "generated: prost re-wraps lists in comments"
        )]
        #[expect(clippy::large_enum_variant, reason = "generated: most answers are the large one")]
        pub mod v1 {
            tonic::include_proto!("session.v1");
        }
    }

    pub mod alert {
        /// `alert.v1`
        pub mod v1 {
            tonic::include_proto!("alert.v1");
        }
    }
}

pub use packages::alert::v1 as alert;
pub use packages::session::v1 as session;

/// All of `proto/`, comments included, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
