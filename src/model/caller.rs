//! Callers.

#[cfg(feature = "server")]
pub mod connection;
pub mod operator;
pub mod principal;
pub mod scope;
pub mod usage;

/// The identity that a connection proved of its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nothing: no TLS, or TLS without a client certificate.
    Unknown,
    /// A client certificate of a trusted authority, with one name: its one URI or, without any URI, its one DNS name
    /// (subject alternative names, RFC 5280, section 4.2.1.6).
    Certificate(String),
    /// A client certificate of a trusted authority that does not name one principal; the reason.
    Nameless(String),
}
