//! The only home of diesel: tables, statements, migrations and the mapping of database errors.
//!
//! Functions take the connection first, and the caller owns the transaction.

#[macro_use]
mod statement;
#[macro_use]
mod rows;

pub mod activities;
pub mod alerts;
pub mod callers;
pub mod changes;
pub mod devices;
pub mod durability;
pub mod erase;
pub mod feed;
pub mod keys;
pub mod lineage;
pub mod listener;
pub mod memories;
pub mod migrations;
pub mod observations;
pub mod partitions;
pub mod policies;
pub mod pool;
pub mod pooler;
pub mod replay;
pub mod requests;
pub mod revocations;
pub mod rule_counts;
pub mod sessions;
pub mod statistics;
pub mod time;
pub mod timeouts;
pub mod users;
pub mod watermark;

mod connection;
mod error;
mod host;
mod in_flight;
mod probe;
mod schema;
mod socket;
mod target;
mod tls;
mod transaction;
mod url;
mod wire;
mod writer;

pub use connection::Connection;
