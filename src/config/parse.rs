//! Parsers of flag values.

use std::net::SocketAddr;
use std::time::Duration;

use super::{AcrLevels, HttpListen};
use crate::model::policy::acr;
use crate::model::policy::ranges::Range;

/// A parser of durations within `range`.
pub fn within(range: &'static Range) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let wrong = || format!("must be {}, like 90s, 30m, 12h or 30d", range.rule);
        let duration = humantime::parse_duration(text).map_err(|_| wrong())?;
        let fits = chrono::Duration::from_std(duration).is_ok_and(|length| range.holds(length));
        if fits { Ok(duration) } else { Err(wrong()) }
    }
}

pub(super) fn http_listen(text: &str) -> Result<HttpListen, String> {
    if text == "off" {
        return Ok(HttpListen(None));
    }
    let address = listen(text)?;
    if address.ip().is_loopback() {
        Ok(HttpListen(Some(address)))
    } else {
        Err("must be a loopback address or off: this port has neither TLS nor callers; collect \
             metrics by an agent on this machine"
            .to_owned())
    }
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address with a port, like 127.0.0.1:50051".to_owned())
}

/// Parses a number from 0 to 1.
#[cfg(feature = "otlp")]
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

pub(super) fn issuer(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    if (1..=256).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 256 visible ASCII characters except \" and \\".to_owned())
    }
}

pub(super) fn acr_levels(text: &str) -> Result<AcrLevels, String> {
    acr::check(text.split(',').map(str::to_owned).collect()).map(AcrLevels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::ranges;

    #[test]
    fn levels_are_separated_by_commas() {
        assert_eq!(acr_levels("low,high").unwrap().0, ["low", "high"]);
        assert!(acr_levels("low,").is_err());
        assert!(acr_levels("low, high").is_err());
    }

    #[test]
    fn durations_hold_both_edges() {
        let parse = within(&ranges::IDLE_TIMEOUT);
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("365d"), Ok(Duration::from_secs(365 * 86_400)));
        assert!(parse("999ms").is_err());
        assert!(parse("366d").unwrap_err().contains("1s to 365d"));
        assert!(parse("soon").is_err());
    }
}
