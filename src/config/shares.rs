//! The shares of the server: how many calls and streams may be in progress, in all, of one principal and from one
//! address.

use clap::Args;

use crate::model::caller::usage::CallKind;

/// The most calls of each kind at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    pub calls: KindLimits,
    pub streams: KindLimits,
    pub public: KindLimits,
}

/// The most calls of one kind at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLimits {
    pub all: u32,
    pub per_principal: u32,
    pub per_peer: u32,
}

/// The flags.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct ShareFlags {
    /// Concurrent calls in all, 1 to 1000000; one more is refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "SESSIOND_MAX_REQUESTS", global = true, default_value_t = 4_096)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_requests: u32,

    /// Concurrent calls of one principal, 1 to 1000000
    #[arg(
        long,
        env = "SESSIOND_MAX_REQUESTS_PER_PRINCIPAL",
        global = true,
        default_value_t = 1_024
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_requests_per_principal: u32,

    /// Concurrent calls from one address (IPv6: from one /64), 1 to 1000000
    #[arg(long, env = "SESSIOND_MAX_REQUESTS_PER_PEER", global = true, default_value_t = 2_048)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_requests_per_peer: u32,

    /// Open streams in all, 1 to 1000000: watches and streams of validations
    #[arg(long, env = "SESSIOND_MAX_OPEN_STREAMS", global = true, default_value_t = 4_096)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_open_streams: u32,

    /// Open streams of one principal, 1 to 1000000
    #[arg(long, env = "SESSIOND_MAX_OPEN_STREAMS_PER_PRINCIPAL", global = true)]
    #[arg(default_value_t = 512, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_open_streams_per_principal: u32,

    /// Open streams from one address (IPv6: from one /64), 1 to 1000000
    #[arg(
        long,
        env = "SESSIOND_MAX_OPEN_STREAMS_PER_PEER",
        global = true,
        default_value_t = 2_048
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_open_streams_per_peer: u32,

    /// Concurrent calls of health, and as many streams of health and reflection, which need no credentials, in all, 1
    /// to 1000000
    #[arg(long, env = "SESSIOND_MAX_PUBLIC_REQUESTS", global = true, default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_public_requests: u32,

    /// The same from one address (IPv6: from one /64), 1 to 1000000
    #[arg(
        long,
        env = "SESSIOND_MAX_PUBLIC_REQUESTS_PER_PEER",
        global = true,
        default_value_t = 64
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_public_requests_per_peer: u32,
}

impl ShareFlags {
    /// The limits that the flags set.
    pub fn limits(&self) -> ShareLimits {
        let limits = |all, per_principal, per_peer| KindLimits { all, per_principal, per_peer };
        ShareLimits {
            calls: limits(
                self.max_requests,
                self.max_requests_per_principal,
                self.max_requests_per_peer,
            ),
            streams: limits(
                self.max_open_streams,
                self.max_open_streams_per_principal,
                self.max_open_streams_per_peer,
            ),
            // Nobody is authenticated for these.
            public: limits(self.max_public_requests, u32::MAX, self.max_public_requests_per_peer),
        }
    }
}

impl ShareLimits {
    /// Those of one kind.
    pub fn of(&self, kind: CallKind) -> KindLimits {
        match kind {
            CallKind::Call => self.calls,
            CallKind::Stream => self.streams,
            CallKind::Public | CallKind::PublicStream => self.public,
        }
    }
}
