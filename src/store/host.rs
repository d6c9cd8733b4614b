//! The servers that a URL names, and sockets to them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{bail, ensure};
use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::store::socket::Socket;

/// The time after which a connection to a peer that acknowledges nothing is closed.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// One of the servers that a URL names.
pub(super) struct DatabaseHost {
    pub host: Host,
    /// Instead of what `host` resolves to.
    address: Option<IpAddr>,
    port: u16,
}

/// All of them, in the order of the URL.
///
/// # Errors
/// Lists that do not fit together.
pub(super) fn hosts(config: &Config) -> anyhow::Result<Vec<DatabaseHost>> {
    let (hosts, addresses, ports) =
        (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    ensure!(count > 0, "the database URL names no host");
    ensure!(
        hosts.is_empty() || addresses.is_empty() || hosts.len() == addresses.len(),
        "the database URL names {} hosts and {} addresses (hostaddr)",
        hosts.len(),
        addresses.len()
    );
    if ports.len() > 1 && ports.len() != count {
        bail!("the database URL names {count} hosts and {} ports", ports.len());
    }
    let host = |n: usize| {
        let address = addresses.get(n).copied();
        let own = || Host::Tcp(address.map(|address| address.to_string()).unwrap_or_default());
        let port = ports.get(n).or_else(|| ports.first()).copied().unwrap_or(5432);
        DatabaseHost { host: hosts.get(n).cloned().unwrap_or_else(own), address, port }
    };
    Ok((0..count).map(host).collect())
}

/// Divides the remaining timeout among the servers left to try.
pub(super) fn share_of(count: usize) -> u32 {
    u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

impl DatabaseHost {
    /// True if neither the name nor the address leads away from this machine.
    pub(super) fn is_local(&self) -> bool {
        if self.address.is_some_and(|address| !address.is_loopback()) {
            return false;
        }
        match &self.host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost"
                    || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// Connects. The addresses of a host share the timeout as hosts do.
    pub(super) async fn stream(&self, patience: Duration, config: &Config) -> io::Result<Socket> {
        let name = match (&self.host, self.address) {
            (_, Some(address)) => address.to_string(),
            (Host::Tcp(name), None) => name.clone(),
            (Host::Unix(dir), None) => {
                let socket = UnixStream::connect(dir.join(format!(".s.PGSQL.{}", self.port)));
                return Ok(Socket::Unix(socket.await?));
            }
        };
        let found = tokio::net::lookup_host((name, self.port)).await?;
        let addresses: Vec<SocketAddr> = found.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in &addresses {
            let share = patience / share_of(addresses.len());
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    keep_alive(&stream, config)?;
                    return Ok(Socket::Tcp(stream));
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            }
        }
        Err(last)
    }
}

fn keep_alive(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, config.get_keepalives())?;
    #[cfg(target_os = "linux")]
    {
        sockopt::set_tcp_keepidle(stream, config.get_keepalives_idle().min(KEEPALIVE))?;
        let milliseconds = u32::try_from(USER_TIMEOUT.as_millis()).expect("a few seconds");
        sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    }
    Ok(())
}

impl std::fmt::Display for DatabaseHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Unix(dir) => write!(f, "{} port {}", dir.display(), self.port),
            Host::Tcp(name) => write!(f, "{name} port {}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_local_if_its_name_and_its_address_are() {
        for (url, local) in [
            ("host=localhost", true),
            ("host=127.0.0.1", true),
            ("host=::1", true),
            ("host=/run/postgresql", true),
            ("hostaddr=127.0.0.1", true),
            ("host=localhost hostaddr=127.0.0.1", true),
            ("host=db.example", false),
            ("hostaddr=192.0.2.2", false),
            ("host=localhost hostaddr=192.0.2.2", false),
            ("host=/run/postgresql hostaddr=192.0.2.2", false),
            // Such as a tunnel: the server is still the one of that name.
            ("host=db.example hostaddr=127.0.0.1", false),
        ] {
            let config: Config = url.parse().unwrap();
            assert_eq!(hosts(&config).unwrap()[0].is_local(), local, "{url}");
        }
    }
}
