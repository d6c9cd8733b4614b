//! What `serve` says when it is ready.

use std::net::SocketAddr;

use crate::config::access::CallersFlag;
use crate::dev_postgres::DevPostgres;

/// Prints where it listens, where the data lies, and lines to try.
pub fn print(
    addr: SocketAddr,
    encrypted: bool,
    postgres: Option<&DevPostgres>,
    callers: CallersFlag,
) {
    println!("sessiond listens on {addr}");
    if let Some(postgres) = postgres {
        println!("data lies in {}", postgres.data_dir().display());
        println!("look at it:");
        println!("  {}", postgres.psql_line());
    }
    let how = if encrypted { "-cacert CA.pem" } else { "-plaintext" };
    println!("try:");
    if callers == CallersFlag::Authenticated {
        println!("  sessiond api-key create login --expires-in 90d --role login --tenant default");
        return;
    }
    println!("  grpcurl {how} {addr} list");
    println!(
        "  grpcurl {how} -d '{{\"user_id\": \"ada\", \"client_id\": \"web\"}}' {addr} \
         session.v1.SessionService/CreateSession"
    );
    println!(
        "  grpcurl {how} -d '{{\"filter\": {{\"user_id\": \"ada\"}}}}' {addr} \
         session.v1.SessionService/ListSessions"
    );
}
