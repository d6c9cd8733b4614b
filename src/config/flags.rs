//! The types of flag values.

use std::net::SocketAddr;

use clap::ValueEnum;

use crate::model::policy::OnLimit;

/// `--http-listen`; `None` = off
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpListen(pub Option<SocketAddr>);

/// `--acr-levels`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcrLevels(pub Vec<String>);

/// `--on-limit`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLimitFlag {
    /// Refuse the new session
    Reject,
    /// End the session that was created first
    TerminateOldest,
    /// End the session whose last activity is longest ago
    TerminateLeastRecentlyUsed,
}

impl From<OnLimitFlag> for OnLimit {
    fn from(flag: OnLimitFlag) -> OnLimit {
        match flag {
            OnLimitFlag::Reject => OnLimit::Reject,
            OnLimitFlag::TerminateOldest => OnLimit::TerminateOldest,
            OnLimitFlag::TerminateLeastRecentlyUsed => OnLimit::TerminateLeastRecentlyUsed,
        }
    }
}

/// `--key-algorithm`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlgorithmFlag {
    /// EdDSA with Ed25519
    Eddsa,
    /// ECDSA with P-256
    Es256,
    /// RSA with 2048 bits
    Rs256,
}

/// `--log-format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Auto,
    Json,
    Text,
}
