//! Refuses to start the server with dangerous settings or an unsuitable database.

use std::net::SocketAddr;

use anyhow::{Context, bail};

use crate::caller::authenticator::Callers;
use crate::config::tls::TlsFiles;
use crate::error::Result;
use crate::store::durability::{self, Durability};
use crate::store::pool::Database;
use crate::store::pooler;

/// Whether every caller is authenticated: by the credentials of each call, or by a certificate of each connection.
pub fn callers_known(callers: Callers, tls: Option<&TlsFiles>) -> bool {
    callers == Callers::Authenticated || tls.is_some_and(|files| files.client_required)
}

/// Refuses an address other than loopback, unless the port requires TLS (`tls`) and authenticates every caller
/// (`callers`), or the operator accepts the risk (`insecure`).
///
/// # Errors
/// If the address is refused; the text names the missing flags.
pub fn address(listen: SocketAddr, tls: bool, callers: bool, insecure: bool) -> anyhow::Result<()> {
    if listen.ip().is_loopback() || insecure {
        return Ok(());
    }
    let missing = match (tls, callers) {
        (true, true) => return Ok(()),
        (false, _) => {
            "is no loopback address, and without TLS everything that is said there can be read: \
             give --tls-cert and --tls-key"
        }
        (true, false) => {
            "is no loopback address, and anyone who reaches it could end any session, since callers \
             are not authenticated: give --callers authenticated, for API keys and certificates, or \
             --tls-client-ca and --tls-client-required"
        }
    };
    bail!(
        "--listen {listen} {missing}, or listen on a loopback address (to do without all the \
         same, there is --dangerously-insecure)"
    );
}

/// Refuses a pooler that shares database sessions between clients (transaction pooling).
///
/// # Errors
/// If there is such a pooler, with a text for the operator, or the database does not answer.
pub async fn pooler(db: &Database) -> anyhow::Result<()> {
    let asking = async {
        let (mut one, mut other) = (db.acquire().await?, db.acquire().await?);
        pooler::share_a_session(&mut one, &mut other).await
    };
    if db.within(asking).await.context("the database")? {
        bail!(pooler::SHARED_SESSION);
    }
    Ok(())
}

/// Refuses a database that acknowledges commits before they are durable; warns if `fsync` is off.
///
/// # Errors
/// If `synchronous_commit` is off, with a text for the operator, or the database does not answer.
pub(super) async fn database(db: &Database) -> anyhow::Result<()> {
    let asking = async {
        let mut conn = db.acquire().await?;
        durability::read(&mut conn).await
    };
    let found: Result<Durability> = db.within(asking).await;
    let Durability { synchronous_commit, fsync } = found?;
    if synchronous_commit == "off" {
        bail!(
            "the database acknowledges what it has not written (synchronous_commit = off), so a crash \
             could bring ended sessions back: ALTER ROLE or ALTER DATABASE ... SET \
             synchronous_commit = on, or set it in postgresql.conf"
        );
    }
    if fsync == "off" {
        tracing::warn!(
            "the database does not wait for its disks (fsync = off): a crash of its machine loses \
             sessions, or all of it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(listen: &str, tls: bool, callers: bool, insecure: bool) -> Option<String> {
        let listen = listen.parse().unwrap();
        address(listen, tls, callers, insecure).err().map(|error| error.to_string())
    }

    #[test]
    fn a_public_address_needs_tls_and_authenticated_callers() {
        for loopback in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1"] {
            assert_eq!(refused(loopback, false, false, false), None);
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            assert_eq!(refused(open, true, true, false), None);
            assert_eq!(refused(open, false, false, true), None);
            let without_tls = refused(open, false, true, false).unwrap();
            assert!(without_tls.contains("--tls-cert"), "{without_tls}");
            let unknown = refused(open, true, false, false).unwrap();
            assert!(unknown.contains("--tls-client-ca"), "{unknown}");
            for said in [without_tls, unknown] {
                assert!(said.contains(open) && said.contains("--dangerously-insecure"), "{said}");
            }
        }
    }
}
