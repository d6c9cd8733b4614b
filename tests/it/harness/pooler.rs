//! A pooler that assigns a session of Postgres for one transaction, as PgBouncer does with `pool_mode = transaction`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

const SOCKET: &str = ".s.PGSQL.5432";

/// Listens in a directory of its own. Dropping it cuts all connections.
pub struct Pooler {
    /// The database's URL through this pooler.
    pub url: String,
    accepting: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Pooler {
    /// In front of the database at `url`, whose host is the directory of its socket.
    pub async fn before(url: &str) -> Pooler {
        let config: tokio_postgres::Config = url.parse().expect("a URL");
        let [tokio_postgres::config::Host::Unix(real)] = config.get_hosts() else {
            panic!("not one socket directory: {url}");
        };
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join(SOCKET)).expect("a socket");
        let name = config.get_dbname().expect("a database");
        let host = dir.path().to_str().expect("a plain path").replace('/', "%2F");
        let url = format!("postgresql:///{name}?host={host}&user=sessiond");
        let (session, greeting) = open(real.join(SOCKET), name).await.expect("a session");
        let session = Arc::new(Mutex::new(session));
        let accepting = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // A client that is done disconnects, which is not an error.
                clients.spawn(lend(client, session.clone(), greeting.clone()));
            }
        });
        Pooler { url, accepting, _dir: dir }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Opens a session; returns it with the messages of its start.
async fn open(socket: PathBuf, database: &str) -> std::io::Result<(UnixStream, Vec<u8>)> {
    let mut server = UnixStream::connect(socket).await?;
    let parameters = format!("user\0sessiond\0database\0{database}\0client_encoding\0UTF8\0\0");
    let length = u32::try_from(8 + parameters.len()).expect("a short packet");
    server.write_all(&length.to_be_bytes()).await?;
    server.write_all(&[0, 3, 0, 0]).await?;
    server.write_all(parameters.as_bytes()).await?;
    let mut greeting = Vec::new();
    loop {
        let message = message(&mut server).await?;
        greeting.extend_from_slice(&message);
        if message[0] == b'Z' {
            return Ok((server, greeting));
        }
    }
}

async fn message(from: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
    message.resize(usize::try_from(length).expect("a length") + 1, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok(message)
}

/// Serves one client, which has the session from its first message to the end of its transaction.
async fn lend(
    mut client: UnixStream,
    session: Arc<Mutex<UnixStream>>,
    greeting: Vec<u8>,
) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).expect("a length") - 4];
    client.read_exact(&mut startup).await?;
    client.write_all(&greeting).await?;
    loop {
        let mut said = message(&mut client).await?;
        let mut server = session.lock().await;
        loop {
            if said[0] == b'X' {
                return Ok(());
            }
            server.write_all(&said).await?;
            // The server answers a query at once, and all other messages at a sync.
            if matches!(said[0], b'Q' | b'S') && !in_transaction(&mut server, &mut client).await? {
                break;
            }
            said = match message(&mut client).await {
                Ok(said) => said,
                Err(gone) => {
                    // The next client must find no open transaction.
                    for end in [&b"S\0\0\0\x04"[..], b"Q\0\0\0\x0dROLLBACK\0"] {
                        server.write_all(end).await?;
                        in_transaction(&mut server, &mut client).await?;
                    }
                    return Err(gone);
                }
            };
        }
    }
}

/// Forwards an answer, also if the client is gone; returns whether a transaction is open after it.
async fn in_transaction(server: &mut UnixStream, client: &mut UnixStream) -> std::io::Result<bool> {
    loop {
        let answer = message(server).await?;
        // The answer must be read even if the client does not take it.
        let _ = client.write_all(&answer).await;
        if answer[0] == b'Z' {
            return Ok(answer[5] != b'I');
        }
    }
}
