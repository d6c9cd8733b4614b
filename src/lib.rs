//! sessiond owns the user sessions of a platform: a gRPC service on Postgres.
//!
//! Three shelves and a floor. Arrows run only downward, and `tests/tidy.rs` holds them:
//!
//! ```text
//! main -> cli -> server            parse, prepare, wire
//!                 |
//!        edge  ---+               connections: TLS, who is there, what they may cost
//!                 |
//!        grpc  ---+---  jobs       entrances: requests, and the clock
//!                 |
//!        session  |  alert         the rules, one verb a file
//!                 |
//!         token   |  caller        credentials of users; who may call
//!                 |
//!               cache              between rules and database
//!                 |
//!               store              the only home of SQL
//!                 |
//!               model              plain types and state machines
//!
//! detection                        rules over activities, pure; session calls it
//! gateway                          a client for those who verify tokens themselves
//! clock  config  error  metrics  supervise  telemetry        the floor, open to all
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

/// What a gateway needs of `grpc`.
#[cfg(all(feature = "gateway", not(feature = "server")))]
pub mod grpc {
    pub mod pb;
}

/// What a gateway needs of `token`.
#[cfg(all(feature = "gateway", not(feature = "server")))]
pub mod token {
    pub mod access;
    pub mod jwk;
}
