//! The limits of connections, streams and messages, which apply before a request is processed.

use std::time::Duration;

use clap::Args;

use super::parse::within;
use super::shares::ShareFlags;
use crate::model::policy::ranges::Range;

const HANDSHAKE: Range = Range::new("1s to 60s", 1, 60, false);
const KEEPALIVE: Range = Range::new("1s to 1h", 1, 3_600, false);
const AGE: Range = Range::new("0s, or 1m to 24h", 60, 86_400, true);
const GRACE: Range = Range::new("0s to 10m", 0, 600, false);
const REQUEST: Range = Range::new("1s to 10m", 1, 600, false);

/// The limits of one server. Sizes are in KiB.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Concurrent connections, 1 to 1000000; one more displaces the oldest idle connection without an authenticated
    /// caller, or is closed immediately
    #[arg(long, env = "SESSIOND_MAX_CONNECTIONS", global = true, default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_connections: u32,

    /// Concurrent connections from one address (IPv6: from one /64), 1 to 1000000
    #[arg(long, env = "SESSIOND_MAX_CONNECTIONS_PER_PEER", global = true, default_value_t = 1_024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_connections_per_peer: u32,

    /// New connections per second from one address, 0 to 100000, 0 = unlimited; bursts up to
    /// --max-connections-per-peer. A connection that violates TLS or HTTP/2, or exceeds the handshake timeout,
    /// counts as 21
    #[arg(long, env = "SESSIOND_MAX_CONNECTION_RATE_PER_PEER", global = true)]
    #[arg(default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=100_000))]
    #[arg(value_name = "COUNT")]
    pub max_connection_rate_per_peer: u32,

    /// Concurrent handshakes, 1 to 100000; one more displaces the oldest
    #[arg(long, env = "SESSIOND_MAX_HANDSHAKES", global = true, default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "COUNT")]
    pub max_handshakes: u32,

    /// How long a connection may take for TLS and the first bytes of HTTP/2, 1s to 60s
    #[arg(long, env = "SESSIOND_HANDSHAKE_TIMEOUT", global = true, default_value = "10s")]
    #[arg(value_parser = within(&HANDSHAKE), value_name = "DURATION")]
    pub handshake_timeout: Duration,

    /// Age at which a connection gets a GOAWAY, so that its client reconnects, give or take a tenth, 1m to 24h; 0s
    /// = never
    #[arg(long, env = "SESSIOND_CONNECTION_AGE", global = true, default_value = "30m")]
    #[arg(value_parser = within(&AGE), value_name = "DURATION")]
    pub connection_age: Duration,

    /// How long calls and streams may continue after the GOAWAY, 0s to 10m
    #[arg(long, env = "SESSIOND_CONNECTION_GRACE", global = true, default_value = "30s")]
    #[arg(value_parser = within(&GRACE), value_name = "DURATION")]
    pub connection_grace: Duration,

    /// How long a connection may be silent before it gets a PING, 1s to 1h
    #[arg(long, env = "SESSIOND_KEEPALIVE_INTERVAL", global = true, default_value = "30s")]
    #[arg(value_parser = within(&KEEPALIVE), value_name = "DURATION")]
    pub keepalive_interval: Duration,

    /// How long a client may take to acknowledge a PING, and how long it may leave sent data unread, 1s to 1h
    #[arg(long, env = "SESSIOND_KEEPALIVE_TIMEOUT", global = true, default_value = "10s")]
    #[arg(value_parser = within(&KEEPALIVE), value_name = "DURATION")]
    pub keepalive_timeout: Duration,

    /// Concurrent calls and streams on one connection, 1 to 10000
    #[arg(long, env = "SESSIOND_MAX_STREAMS", global = true, default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "COUNT")]
    pub max_streams: u32,

    /// Calls that a client may cancel before the server begins them, 1 to 10000; a connection with more is closed
    #[arg(long, env = "SESSIOND_MAX_PENDING_RESETS", global = true, default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "COUNT")]
    pub max_pending_resets: u32,

    /// Streams of a connection that may violate HTTP/2 or send after their end, in its whole life, 1 to 100000;
    /// then the connection is closed
    #[arg(long, env = "SESSIOND_MAX_ERROR_RESETS", global = true, default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "COUNT")]
    pub max_error_resets: u32,

    /// Largest HTTP/2 frame, in KiB, 16 to 16383
    #[arg(long, env = "SESSIOND_MAX_FRAME_SIZE", global = true, default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=16_383), value_name = "KIB")]
    pub max_frame_size: u32,

    /// Largest total size of the headers of a call, in KiB, 1 to 1024
    #[arg(long, env = "SESSIOND_MAX_HEADER_LIST_SIZE", global = true, default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_024), value_name = "KIB")]
    pub max_header_list_size: u32,

    /// Largest request of RecordActivities, in KiB, 64 to 65536; those of other methods have 32 at most
    #[arg(long, env = "SESSIOND_MAX_MESSAGE_SIZE", global = true, default_value_t = 4_096)]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=65_536), value_name = "KIB")]
    pub max_message_size: u32,

    #[command(flatten)]
    pub shares: ShareFlags,

    /// How long a response, or a part of one, may lie ready without being read, 1s to 10m; then its stream is reset. A
    /// connection on which that does not help is closed after one and a half to three times as long
    #[arg(long, env = "SESSIOND_ANSWER_TIMEOUT", global = true, default_value = "45s")]
    #[arg(value_parser = within(&REQUEST), value_name = "DURATION")]
    pub answer_timeout: Duration,

    /// How long a call may take from its headers to its response, 1s to 10m; an open stream is not limited
    #[arg(long, env = "SESSIOND_REQUEST_TIMEOUT", global = true, default_value = "35s")]
    #[arg(value_parser = within(&REQUEST), value_name = "DURATION")]
    pub request_timeout: Duration,
}

impl EdgeLimits {
    /// `max_message_size` in bytes.
    pub fn message_bytes(&self) -> usize {
        usize::try_from(self.max_message_size).unwrap_or(usize::MAX).saturating_mul(1_024)
    }
}

impl Default for EdgeLimits {
    /// The defaults of the flags.
    fn default() -> EdgeLimits {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            limits: EdgeLimits,
        }
        let alone: Alone = clap::Parser::try_parse_from(["sessiond"]).expect("sound defaults");
        alone.limits
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        limits: EdgeLimits,
    }

    fn parse(flag: &str, value: &str) -> Result<EdgeLimits, String> {
        let parsed = Alone::try_parse_from(["sessiond", flag, value]);
        parsed.map(|alone| alone.limits).map_err(|error| error.to_string())
    }

    #[test]
    fn each_limit_holds_both_edges() {
        for (flag, least, most, below, above) in [
            ("--max-connections", "1", "1000000", "0", "1000001"),
            ("--max-connections-per-peer", "1", "1000000", "0", "1000001"),
            ("--max-connection-rate-per-peer", "0", "100000", "-1", "100001"),
            ("--max-handshakes", "1", "100000", "0", "100001"),
            ("--handshake-timeout", "1s", "60s", "999ms", "61s"),
            ("--connection-age", "1m", "24h", "59s", "24h 1s"),
            ("--connection-grace", "0s", "10m", "-1s", "601s"),
            ("--keepalive-interval", "1s", "1h", "0s", "3601s"),
            ("--keepalive-timeout", "1s", "1h", "0s", "3601s"),
            ("--max-streams", "1", "10000", "0", "10001"),
            ("--max-pending-resets", "1", "10000", "0", "10001"),
            ("--max-error-resets", "1", "100000", "0", "100001"),
            ("--max-frame-size", "16", "16383", "15", "16384"),
            ("--max-header-list-size", "1", "1024", "0", "1025"),
            ("--max-message-size", "64", "65536", "63", "65537"),
            ("--max-requests", "1", "1000000", "0", "1000001"),
            ("--max-requests-per-principal", "1", "1000000", "0", "1000001"),
            ("--max-requests-per-peer", "1", "1000000", "0", "1000001"),
            ("--max-open-streams", "1", "1000000", "0", "1000001"),
            ("--max-open-streams-per-principal", "1", "1000000", "0", "1000001"),
            ("--max-open-streams-per-peer", "1", "1000000", "0", "1000001"),
            ("--max-public-requests", "1", "1000000", "0", "1000001"),
            ("--max-public-requests-per-peer", "1", "1000000", "0", "1000001"),
            ("--answer-timeout", "1s", "10m", "999ms", "601s"),
            ("--request-timeout", "1s", "10m", "999ms", "601s"),
        ] {
            assert!(parse(flag, least).is_ok(), "{flag} {least}");
            assert!(parse(flag, most).is_ok(), "{flag} {most}");
            for wrong in [below, above] {
                let error = parse(flag, wrong).unwrap_err();
                assert!(error.contains(flag) || wrong.starts_with('-'), "{error}");
            }
        }
        assert_eq!(parse("--connection-age", "0s").unwrap().connection_age, Duration::ZERO);
        assert_eq!(EdgeLimits::default().message_bytes(), 4 << 20);
    }
}
