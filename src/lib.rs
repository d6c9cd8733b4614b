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

#[macro_use]
pub mod model;

pub mod alert;
#[cfg(debug_assertions)]
pub mod broken;
pub mod cache;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod detection;
pub mod dev_postgres;
pub mod edge;
pub mod error;
pub mod gateway;
pub mod grpc;
pub mod http;
pub mod jobs;
pub mod metrics;
pub mod server;
pub mod session;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod token;
