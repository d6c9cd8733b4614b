//! The address of the database. Every connection is made and set up here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use diesel::{ConnectionError, ConnectionResult};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, NoTls};
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::connection::{Connection, Driver};
use crate::store::host::{DatabaseHost, hosts, share_of};
use crate::store::pooler;
use crate::store::socket::Socket;
use crate::store::tls;
use crate::store::url;
use crate::store::wire::{Coded, CodedInside};
use crate::store::writer::{TIMELINE, Writer};

/// The defaults that a role, a database or a configuration file may have changed, and that statements here rely on:
/// they need READ COMMITTED, and parse the text form of types.
const DEFAULTS: &str = "SET default_transaction_isolation = 'read committed'; \
     SET default_transaction_deferrable = off; SET idle_session_timeout = 0; \
     SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; SET quote_all_identifiers = off; \
     SET row_security = on; SET transform_null_equals = off; SET array_nulls = on";

/// A parsed database URL.
pub(super) struct DatabaseTarget {
    config: Config,
    /// `None` = plain text.
    tls: Option<MakeRustlsConnect>,
    hosts: Vec<DatabaseHost>,
    /// The server that answered last.
    last: AtomicUsize,
    writer: Writer,
}

/// The purpose of a connection.
#[derive(Clone, Copy)]
pub(super) struct ServerSettings<'a> {
    /// The longest it takes to establish.
    pub patience: Duration,
    /// Settings besides [`DEFAULTS`].
    pub settings: &'a str,
    /// Also accepts a server that takes no writes, to report that.
    pub to_any: bool,
}

impl DatabaseTarget {
    /// Parses `url`. `sslmode` is `disable`, `verify-ca` or `verify-full`; `require` means `verify-full`. `sslrootcert` is
    /// a PEM file, or `system`: the system's roots, also without it.
    pub(super) fn parse(url: &str) -> anyhow::Result<DatabaseTarget> {
        let (mut config, parameters) = url::parse(url)?;
        let hosts = hosts(&config)?;
        let attrs = config.get_target_session_attrs();
        ensure!(
            attrs != TargetSessionAttrs::ReadOnly,
            "the database URL asks for a read-only server (target_session_attrs): sessiond writes"
        );
        let remote = hosts.iter().any(|host| !host.is_local());
        let tls = tls::client_config(&parameters, remote)?.map(MakeRustlsConnect::new);
        if config.get_application_name().is_none() {
            config.application_name("sessiond");
        }
        Ok(DatabaseTarget {
            config,
            tls,
            hosts,
            last: AtomicUsize::new(0),
            writer: Writer::default(),
        })
    }

    /// The newest timeline that a connection found; 0 = none yet.
    pub(super) fn timeline(&self) -> u32 {
        self.writer.timeline()
    }

    /// Establishes a connection to the first server that takes the writes. Servers share the timeout, so that a silent
    /// one leaves time for those after it.
    pub(super) async fn connect(
        &self,
        session: ServerSettings<'_>,
    ) -> ConnectionResult<Connection> {
        let until = Instant::now() + session.patience;
        let count = self.hosts.len();
        let mut failures = Vec::new();
        let last = self.last.load(Ordering::Relaxed);
        for tried in 0..count {
            let index = (last + tried) % count;
            let host = &self.hosts[index];
            let share = until.saturating_duration_since(Instant::now()) / share_of(count - tried);
            let share = share.min(self.config.get_connect_timeout().copied().unwrap_or(share));
            match timeout(share, self.open(host, share, session)).await {
                Ok(Ok(conn)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(conn);
                }
                Ok(Err(error)) => failures.push(format!("{host}: {error:#}")),
                Err(_) => failures.push(format!("{host}: it does not answer in time")),
            }
        }
        Err(ConnectionError::BadConnection(failures.join("; ")))
    }

    async fn open(
        &self,
        host: &DatabaseHost,
        patience: Duration,
        session: ServerSettings<'_>,
    ) -> anyhow::Result<Connection> {
        let refused_write = Arc::new(AtomicBool::new(false));
        let stream = host.stream(patience, &self.config).await.context("cannot connect")?;
        let mut config = self.config.clone();
        let (client, driver, about) = match (&self.tls, &host.host) {
            (Some(tls), Host::Tcp(name)) => {
                config.ssl_mode(SslMode::Require);
                let connector = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls.clone(), name)?;
                let connector = CodedInside { connector, refused_write: refused_write.clone() };
                let (client, connection) =
                    config.connect_raw(stream, connector).await.map_err(explain)?;
                let about = ServerGreeting::of(&connection);
                (client, Driver::start(connection), about)
            }
            // As in libpq: a Unix socket cannot be intercepted.
            _ => {
                config.ssl_mode(SslMode::Disable);
                let stream = Coded::new(stream, refused_write.clone());
                let (client, connection) =
                    config.connect_raw(stream, NoTls).await.map_err(explain)?;
                let about = ServerGreeting::of(&connection);
                (client, Driver::start(connection), about)
            }
        };
        about.check(self.config.get_dbname())?;
        let timeline = set_up(&client, &about, session.settings).await?;
        let member = match self.writer.join(&timeline) {
            Err(_) if session.to_any && self.hosts.len() == 1 => None,
            joined => Some(joined.map_err(anyhow::Error::msg)?),
        };
        Connection::new(client, driver, member, refused_write).await.map_err(|error| {
            let text = error.to_string();
            match pooler::shows(&text) {
                true => anyhow::anyhow!("{}: {text}", pooler::SHARED_SESSION),
                false => error.into(),
            }
        })
    }
}

/// One round trip, before anything else is done. Returns the answer to [`TIMELINE`].
async fn set_up(client: &Client, about: &ServerGreeting, settings: &str) -> anyhow::Result<String> {
    let since_17 = if about.version >= 17 { "SET transaction_timeout = 0;" } else { "" };
    let sql = format!("{DEFAULTS}; {since_17} {settings}; {TIMELINE}");
    let answers = client.simple_query(&sql).await.map_err(explain)?;
    let timeline = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(timeline.unwrap_or_default().to_owned())
}

/// The parameters that a server reports when a session begins.
struct ServerGreeting {
    encoding: String,
    version: u32,
}

impl ServerGreeting {
    fn of<S, T>(connection: &tokio_postgres::Connection<S, T>) -> ServerGreeting
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let reported = |name| connection.parameter(name).unwrap_or_default();
        let version = reported("server_version").split(|c: char| !c.is_ascii_digit()).next();
        let version = version.and_then(|digits| digits.parse().ok()).unwrap_or_default();
        ServerGreeting { encoding: reported("server_encoding").to_owned(), version }
    }

    /// Names, places and notes are Unicode. In another encoding Postgres would refuse some of them, one by one. Empty =
    /// a pooler does not report it.
    fn check(&self, database: Option<&str>) -> anyhow::Result<()> {
        ensure!(
            matches!(self.encoding.as_str(), "UTF8" | ""),
            "the database {} has the encoding {}, and sessiond needs UTF8: make another one by CREATE DATABASE ... \
             ENCODING 'UTF8' TEMPLATE template0",
            database.unwrap_or("of this user"),
            self.encoding
        );
        Ok(())
    }
}

/// Explains an error whose text is in another language or says little.
fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    let Some(said) = error.as_db_error() else { return error.into() };
    let code = said.code();
    let means = if *code == SqlState::INVALID_PASSWORD
        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        "it refuses the user or the password"
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "there is no such database"
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "it has no connection left"
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        "it does not take connections now"
    } else {
        "it refuses the connection"
    };
    anyhow::anyhow!("{means}: {}", said.message())
}
