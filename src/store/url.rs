//! A database URL, read as libpq 18 reads it ("Connection URIs" in the manual of Postgres). A parameter that is not
//! supported is refused by name: none is ignored.

use anyhow::{Context, bail, ensure};
use tokio_postgres::Config;

use crate::store::tls;

/// The parameters that the driver gets under the same name. The driver checks their values.
const TAKEN: [&str; 12] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "keepalives",
    "channel_binding",
    "target_session_attrs",
];

/// The parts of a URL for the driver and for TLS.
///
/// # Errors
/// What cannot be parsed, is stated twice, or is not supported.
pub(super) fn parse(url: &str) -> anyhow::Result<(Config, tls::Parameters)> {
    let mut text = String::new();
    let mut secure = tls::Parameters::default();
    for (name, value) in pairs(url)? {
        match name.as_str() {
            "sslmode" => secure.mode = Some(value),
            "sslrootcert" => secure.root = Some(value),
            // The driver has no such value. A primary is a server outside recovery, so it takes writes, as the service
            // needs in any case.
            "target_session_attrs" if value == "primary" => {
                text.push_str("target_session_attrs='read-write' ");
            }
            name if TAKEN.contains(&name) => {
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                text.push_str(&format!("{name}='{value}' "));
            }
            name => bail!(
                "sessiond does not support {} in the database URL: it takes {}, sslmode and sslrootcert",
                name.escape_debug(),
                TAKEN.join(", ")
            ),
        }
    }
    let config = text.parse().context("the database URL cannot be read")?;
    Ok((config, secure))
}

/// Names and values, decoded. An empty value counts as absent. White space around the URL is dropped.
fn pairs(url: &str) -> anyhow::Result<Vec<(String, String)>> {
    let url = url.trim();
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.context("the database URL must begin with postgres:// or postgresql://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.split_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (hosts, ports) = hosts_and_ports(hosts)?;
    let mut said = vec![
        ("user".to_owned(), user.to_owned()),
        ("password".to_owned(), password.to_owned()),
        ("host".to_owned(), hosts),
        ("port".to_owned(), ports),
        ("dbname".to_owned(), database.to_owned()),
    ];
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .with_context(|| format!("{} in the database URL has no value", part.escape_debug()))?;
        said.push((decoded(name).context("a parameter's name cannot be read")?, value.to_owned()));
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in said.into_iter().filter(|(_, value)| !value.is_empty()) {
        let value = decoded(&value).with_context(|| format!("{name} cannot be read"))?;
        let twice = pairs.iter().any(|(other, _)| *other == name);
        ensure!(!twice, "the database URL says {} twice", name.escape_debug());
        ensure!(
            name != "host" || !value.split(',').any(|host| host.starts_with('@')),
            "the database URL has a host that begins with @, an abstract socket, which sessiond does not support: \
             name the directory of the server's socket"
        );
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// `a:1,[::1]:2,c` as `a,::1,c` and `1,2,`. No port at all is no list of ports.
fn hosts_and_ports(text: &str) -> anyhow::Result<(String, String)> {
    ensure!(!text.contains('@'), "an @ in a user or a password of the database URL is written %40");
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for one in text.split(',') {
        let (host, port) = match one.strip_prefix('[') {
            Some(rest) => rest.split_once(']').context("a [ in the database URL has no ]")?,
            None => one.split_at(one.find(':').unwrap_or(one.len())),
        };
        ensure!(
            port.is_empty() || port.starts_with(':'),
            "a colon must follow the ] in the database URL"
        );
        hosts.push(host);
        ports.push(port.trim_start_matches(':'));
    }
    ensure!(
        hosts.len() == 1 || hosts.iter().all(|host| !host.is_empty()),
        "the database URL has a list of hosts with an empty one"
    );
    let ports = if ports.iter().all(|port| port.is_empty()) { Vec::new() } else { ports };
    Ok((hosts.join(","), ports.join(",")))
}

/// Percent-decoded.
fn decoded(text: &str) -> anyhow::Result<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.context("two hexadecimal digits must follow a %")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    ensure!(!bytes.contains(&0), "%00 is not allowed");
    String::from_utf8(bytes).context("it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> String {
        let pairs = pairs(url).map_err(|error| format!("{error:#}"));
        let said = pairs.map(|pairs| {
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        });
        said.map_or_else(|error| error, |said| said.join(" "))
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        for (url, said) in [
            ("postgres://", ""),
            ("postgresql:///d", "dbname=d"),
            ("postgres://h", "host=h"),
            ("postgres://u@h:5/d", "user=u host=h port=5 dbname=d"),
            ("postgres://u:p%40%3a%2F@h", "user=u password=p@:/ host=h"),
            ("postgres://h:1,[2001:db8::1]:2,c/", "host=h,2001:db8::1,c port=1,2,"),
            ("postgres://[::1]/d", "host=::1 dbname=d"),
            ("postgres://%2Ftmp%2Fa%20b/d", "host=/tmp/a b dbname=d"),
            ("postgres:///d?host=/tmp&user=u", "dbname=d host=/tmp user=u"),
            (
                "postgres://h/d?password=a@b&ssl%6Dode=disable",
                "host=h dbname=d password=a@b sslmode=disable",
            ),
            ("postgres://h?sslrootcert=/tmp/a%20b%2Fca.pem", "host=h sslrootcert=/tmp/a b/ca.pem"),
            ("postgres://h/d?options=-c%20a=b", "host=h dbname=d options=-c a=b"),
            ("postgres://h/?user=&sslmode=", "host=h"),
            (" \tpostgres://h/d\r\n", "host=h dbname=d"),
        ] {
            assert_eq!(read(url), said, "{url}");
        }
    }

    #[test]
    fn what_is_in_doubt_or_not_honoured_is_refused_by_name() {
        for (url, word) in [
            ("host=127.0.0.1 user=u dbname=d sslmode=require", "must begin with postgres://"),
            ("http://h/d", "must begin with postgres://"),
            ("postgres://h/d?sslmode=require&sslmode=disable", "says sslmode twice"),
            ("postgres://h/d?sslmode=require&ssl%6dode=require", "says sslmode twice"),
            ("postgres://h/d?host=other", "says host twice"),
            ("postgres://u@h/d?user=v", "says user twice"),
            ("postgres://h/d?dbname=e", "says dbname twice"),
            ("postgres://h:1/d?port=2", "says port twice"),
            ("postgres://h/d?sslmode", "sslmode in the database URL has no value"),
            ("postgres://h/d?sslrootcert=a%2", "sslrootcert cannot be read"),
            ("postgres://h/d?sslrootcert=%ff", "sslrootcert cannot be read"),
            ("postgres://h/d?user=a%00", "user cannot be read"),
            ("postgres://u:p@ss@h/d", "%40"),
            ("postgres:///d?host=@sessiond", "abstract socket"),
            ("postgres://%40sessiond/d", "abstract socket"),
            ("postgres:///d?host=a,@sessiond", "abstract socket"),
            ("postgres://a,,b/d", "an empty one"),
            ("postgres://[::1/d", "has no ]"),
            ("postgres://[::1]5/d", "a colon must follow"),
            ("postgres://h/d?sslcert=/tmp/c.pem", "does not support sslcert"),
            ("postgres://h/d?SSLMODE=disable", "does not support SSLMODE"),
            ("postgres://h/d?tcp_user_timeout=5", "does not support tcp_user_timeout"),
            ("postgres://h/d?service=x", "does not support service"),
            ("postgres://h:x/d", "port"),
            ("postgres://h/d?connect_timeout=x", "connect_timeout"),
            ("postgres://h/d?channel_binding=maybe", "channel_binding"),
            ("postgres://h/d?target_session_attrs=standby", "target_session_attrs"),
        ] {
            let error = format!("{:#}", parse(url).map(drop).unwrap_err());
            assert!(error.contains(word), "{url}: {error}");
        }
        let error = format!("{:#}", parse("postgres://u:s3cret@h:x/d?nonsense=1").unwrap_err());
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_value_reaches_the_driver_as_it_was_meant() {
        let url = r"postgres://u%27:p%5C'%20%22@h:1,k/d?application_name=a%27b&connect_timeout=3";
        let (config, secure) = parse(url).unwrap();
        assert_eq!(config.get_user(), Some("u'"));
        assert_eq!(config.get_password(), Some(&br#"p\' ""#[..]));
        assert_eq!(config.get_ports(), [1, 5432]);
        assert_eq!(config.get_application_name(), Some("a'b"));
        assert_eq!(config.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
        assert_eq!(secure, tls::Parameters::default());
        for attrs in ["primary", "read-write"] {
            let url = format!("postgres://h/d?target_session_attrs={attrs}");
            let attrs = parse(&url).unwrap().0.get_target_session_attrs();
            assert_eq!(attrs, tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        }
    }
}
