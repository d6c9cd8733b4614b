//! The message that `serve` prints when it is ready.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use crate::config::access::CallersFlag;
use crate::dev_postgres::DevPostgres;

/// Prints the address, the data directory and example commands, from a thread, so that a blocked reader delays nothing.
pub fn print(
    addr: SocketAddr,
    encrypted: bool,
    postgres: Option<&DevPostgres>,
    callers: CallersFlag,
) {
    let text = text(addr, encrypted, postgres, callers);
    let write = move || {
        let mut out = std::io::stdout().lock();
        // Standard output may be closed.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    let _ = std::thread::Builder::new().name("banner".to_owned()).spawn(write);
}

fn text(
    addr: SocketAddr,
    encrypted: bool,
    postgres: Option<&DevPostgres>,
    callers: CallersFlag,
) -> String {
    let mut text = format!("sessiond listens on {addr}\n");
    if let Some(postgres) = postgres {
        let (dir, psql) = (postgres.data_dir().display(), postgres.psql_line());
        let _ = write!(text, "data lies in {dir}\nlook at it:\n  {psql}\n");
    }
    let how = if encrypted { "-cacert CA.pem" } else { "-plaintext" };
    text.push_str("try:\n");
    if callers == CallersFlag::Authenticated {
        text.push_str(
            "  sessiond api-key create login --expires-in 90d --role login --tenant default\n",
        );
        return text;
    }
    let _ = write!(
        text,
        "  grpcurl {how} {addr} list\n  \
         grpcurl {how} -d '{{\"user_id\": \"ada\", \"client_id\": \"web\"}}' {addr} \
         sessiond.v1.SessionService/CreateSession\n  \
         grpcurl {how} -d '{{\"filter\": {{\"user_id\": \"ada\"}}}}' {addr} \
         sessiond.v1.SessionService/ListSessions\n"
    );
    text
}
