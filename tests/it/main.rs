//! The service from outside: the real server on a real database, driven by a real client.

mod harness;
mod life;
mod readme;
mod tls;
