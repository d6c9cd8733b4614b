//! The settings of access: callers, reflection and rate limits.

use clap::{Args, ValueEnum};

use crate::model::caller::operator::Operator;

/// The flags.
#[derive(Args, Debug, Clone)]
pub struct Access {
    /// Which callers are accepted. Credentials that a caller presents are always verified, and limit what it may do
    #[arg(long, env = "SESSIOND_CALLERS", global = true, default_value = "open", value_enum)]
    pub callers: CallersFlag,

    /// Whether the gRPC reflection services are served
    #[arg(long, env = "SESSIOND_REFLECTION", global = true, default_value = "auto", value_enum)]
    pub reflection: ReflectionFlag,

    /// Calls per second of one principal to one method, up to 1000000; 0 = unlimited
    #[arg(long, env = "SESSIOND_RATE_LIMIT", global = true, default_value_t = 50_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000), value_name = "NUMBER")]
    pub rate_limit: u32,

    /// Refreshes per minute of one session, up to 100000; 0 = unlimited
    #[arg(long, env = "SESSIOND_REFRESH_LIMIT", global = true, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "NUMBER")]
    pub refresh_limit: u32,

    /// Name of the operator that commands record in the audit trail: 1 to 128 characters [default: the name of the
    /// system's user]
    #[arg(long, env = "SESSIOND_OPERATOR", global = true, value_parser = Operator::named)]
    #[arg(value_name = "NAME")]
    pub operator: Option<Operator>,
}

/// `--callers`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CallersFlag {
    /// Every client that reaches the port may do everything
    Open,
    /// Only principals with an API key or a client certificate, within their permissions
    Authenticated,
}

/// `--reflection`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReflectionFlag {
    On,
    Off,
    /// On if callers are open
    Auto,
}
