//! Asks a server whether it accepts connections, with a minimal client of its protocol.
//!
//! Owns nothing: connects, opens a session, and closes it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A server that is silent for longer is stopped, or not Postgres.
const SILENCE: Duration = Duration::from_secs(2);
/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;
/// `cannot_connect_now`: starting up, recovering, shutting down.
const NOT_NOW: &str = "57P03";
/// More than any message before a session is ready.
const LONGEST_MESSAGE: u32 = 64 * 1024;

/// What the server answered.
#[derive(Debug)]
pub(super) enum ReadyAnswer {
    /// A session began.
    Ready,
    /// The server runs, but does not accept sessions yet.
    Starting(String),
    /// There is no server, or it refused.
    Not(String),
}

/// Opens a session in the database `name` as user `name`, and closes it.
pub(super) fn ask(socket: &Path, name: &str) -> ReadyAnswer {
    match open_session(socket, name) {
        Ok(answer) => answer,
        Err(error) => ReadyAnswer::Not(error.to_string()),
    }
}

fn open_session(socket: &Path, name: &str) -> io::Result<ReadyAnswer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let body = format!("user\0{name}\0database\0{name}\0\0");
    let length = u32::try_from(body.len() + 8).expect("the names are short");
    let startup = [&length.to_be_bytes(), &PROTOCOL.to_be_bytes(), body.as_bytes()].concat();
    stream.write_all(&startup)?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        if length > LONGEST_MESSAGE {
            return Ok(ReadyAnswer::Not("it does not speak the Postgres protocol".to_owned()));
        }
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body)?;
        match kind {
            // ReadyForQuery. AuthenticationOk comes before the database is opened.
            b'Z' => {
                let terminate = [b'X', 0, 0, 0, 4];
                stream.write_all(&terminate)?;
                return Ok(ReadyAnswer::Ready);
            }
            b'E' => return Ok(refusal(&body)),
            _ => {}
        }
    }
}

/// Reads an ErrorResponse: fields of a kind byte and text, each ended by a NUL.
fn refusal(body: &[u8]) -> ReadyAnswer {
    let fields: Vec<_> = body.split(|&byte| byte == 0).filter_map(|f| f.split_first()).collect();
    let field = |kind: u8| {
        let found = fields.iter().find(|(found, _)| **found == kind);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    let message = field(b'M');
    if field(b'C') == NOT_NOW { ReadyAnswer::Starting(message) } else { ReadyAnswer::Not(message) }
}

#[cfg(test)]
mod tests {
    use super::{ReadyAnswer, refusal};

    #[test]
    fn only_a_starting_server_asks_for_patience() {
        let starting = refusal(b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert!(matches!(starting, ReadyAnswer::Starting(why) if why.ends_with("starting up")));
        let refused = refusal(b"SFATAL\0C28000\0Mrole \"sessiond\" does not exist\0\0");
        assert!(matches!(refused, ReadyAnswer::Not(why) if why.contains("does not exist")));
    }
}
