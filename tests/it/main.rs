//! The service from outside: the real server on a real database, driven by a real client.

mod alerts;
mod claims;
mod command;
mod contention;
mod crash;
mod errors;
mod filters;
mod harness;
mod health;
mod life;
mod limit;
mod limit_races;
mod lists;
mod outage;
mod races;
mod readme;
mod refresh;
mod request_ids;
mod reuse;
mod secrets;
mod sweep;
mod timeouts;
mod tls;
mod tokens;
mod wire;
