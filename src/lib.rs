//! sessiond owns the user sessions of a platform: a gRPC service on Postgres.
//!
//! The layers of the crate. Dependencies point only downward, which `tests/tidy.rs` checks:
//!
//! ```text
//! main -> cli -> server            parse, prepare, wire
//!                 |
//!        edge  ---+               connections: TLS, client identity, resource limits
//!                 |
//!        grpc  ---+---  jobs       entry points: requests, and periodic work
//!                 |
//!        session  |  alert         the business logic, one verb a file
//!                 |
//!         token   |  caller        credentials of users; authentication of callers
//!                 |
//!               cache              between business logic and database
//!                 |
//!               store              all SQL
//!                 |
//!               model              plain types and state machines
//!
//! detection                        rules over activities, pure; session calls it
//! gateway                          a client for gateways that verify tokens themselves
//! clock  config  error  metrics  supervise  telemetry        used by every layer
//! ```
//!
//! To follow an RPC: `grpc/<noun>.rs`, then `<noun>/<verb>.rs`, then `store/<noun>s.rs`.

//! The feature `gateway` alone builds [`gateway`] and what it needs; the feature `server`, on by default, all of it.

#[macro_use]
pub mod model;

#[cfg(debug_assertions)]
pub mod broken;
pub mod clock;
pub mod error;
#[cfg(feature = "gateway")]
pub mod gateway;

#[cfg(feature = "server")]
pub mod alert;
#[cfg(feature = "server")]
pub mod cache;
#[cfg(feature = "server")]
pub mod caller;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod detection;
#[cfg(feature = "server")]
pub mod dev_postgres;
#[cfg(feature = "server")]
pub mod edge;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod jobs;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod supervise;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod token;

/// The part of `grpc` that a gateway needs.
#[cfg(all(feature = "gateway", not(feature = "server")))]
pub mod grpc {
    pub mod pb;
}

/// The part of `token` that a gateway needs.
#[cfg(all(feature = "gateway", not(feature = "server")))]
pub mod token {
    pub mod access;
    pub mod jwk;
}
