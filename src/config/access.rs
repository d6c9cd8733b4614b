//! Who may call, and how often.

use clap::{Args, ValueEnum};

use crate::model::caller::operator::Operator;

/// What is asked of callers, and granted to them.
#[derive(Args, Debug, Clone)]
pub struct Access {
    /// Who may call. Credentials that are shown are checked and bind in any case
    #[arg(long, env = "SESSIOND_CALLERS", global = true, default_value = "open", value_enum)]
    pub callers: CallersFlag,

    /// Whether gRPC reflection serves the description of the protocol
    #[arg(long, env = "SESSIOND_REFLECTION", global = true, default_value = "auto", value_enum)]
    pub reflection: ReflectionFlag,

    /// How often a principal may call a method a second, up to 1000000; 0 = as often as it likes
    #[arg(long, env = "SESSIOND_RATE_LIMIT", global = true, default_value_t = 50_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000), value_name = "NUMBER")]
    pub rate_limit: u32,

    /// How often a session may be refreshed a minute, up to 100000; 0 = as often as it likes
    #[arg(long, env = "SESSIOND_REFRESH_LIMIT", global = true, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "NUMBER")]
    pub refresh_limit: u32,

    /// Who runs a command, for the audit trail: 1 to 128 characters [default: the name of the system's user]
    #[arg(long, env = "SESSIOND_OPERATOR", global = true, value_parser = Operator::named)]
    #[arg(value_name = "NAME")]
    pub operator: Option<Operator>,
}

/// `--callers`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CallersFlag {
    /// Every client that reaches the port may do everything
    Open,
    /// Only principals, with an API key or a certificate, and what they are granted
    Authenticated,
}

/// `--reflection`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReflectionFlag {
    On,
    Off,
    /// On while callers are open
    Auto,
}
