//! Databases: one private Postgres for all tests, a migrated template, and a copy for each test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::store::{migrations, pool::Database};
use tokio::sync::{Mutex, OnceCell};

static CLUSTER: OnceLock<DevPostgres> = OnceLock::new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
/// Copying a template fails while another copy is connected to it.
static COPYING: Mutex<()> = Mutex::const_new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

const PREFIX: &str = "sessiond-test-";

/// A database; the last clone drops it.
#[derive(Clone)]
pub struct Db {
    pub url: String,
    /// A kept connection for queries, since a waiting test queries often.
    looking: Arc<Mutex<Option<tokio_postgres::Client>>>,
    owner: Arc<Owner>,
}

enum Owner {
    /// In the shared cluster.
    Shared(String),
    /// In a cluster that only this test uses, and that is dropped with it.
    Own,
}

impl Db {
    /// An empty, migrated database.
    pub async fn fresh() -> Db {
        let cluster = shared().await;
        let admin = connect(&cluster.url("postgres")).await;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let _one_at_a_time = COPYING.lock().await;
        let create = format!("CREATE DATABASE {name} TEMPLATE migrated");
        admin.batch_execute(&create).await.expect("a copy of the template");
        Db::owned(cluster.url(&name), Owner::Shared(name))
    }

    /// The `sessiond` database of a cluster that the test owns.
    pub fn of(cluster: &DevPostgres) -> Db {
        Db::owned(cluster.url("sessiond"), Owner::Own)
    }

    /// True for a database in the shared cluster.
    pub fn is_shared(&self) -> bool {
        matches!(*self.owner, Owner::Shared(_))
    }

    fn owned(url: String, owner: Owner) -> Db {
        Db { url, looking: Arc::default(), owner: Arc::new(owner) }
    }

    /// A new connection for the test's own statements.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }

    /// Holds the locks that `sql` takes for as long as the returned connection lives.
    pub async fn hold(&self, sql: &str) -> tokio_postgres::Client {
        let client = self.connect().await;
        client.batch_execute("BEGIN").await.expect("a transaction");
        client.query(sql, &[]).await.expect("the locks");
        client
    }

    /// The one number that a query returns.
    pub async fn count(&self, sql: &str) -> i64 {
        let mut looking = self.looking.lock().await;
        if let Some(client) = &*looking
            && let Ok(row) = client.query_one(sql, &[]).await
        {
            return row.get(0);
        }
        // The first query, or one after a restart of the server.
        let client = self.connect().await;
        let row = client.query_one(sql, &[]).await.expect("a query");
        *looking = Some(client);
        row.get(0)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let (Owner::Shared(name), Some(cluster)) = (&*self, CLUSTER.get()) else { return };
        let (url, drop_it) =
            (cluster.url("postgres"), format!("DROP DATABASE {name} WITH (FORCE)"));
        // In a runtime of its own, since the current one may be shutting down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                connect(&url).await.batch_execute(&drop_it).await.expect("a database to drop");
            });
        });
        dropping.join().expect("the database is dropped");
    }
}

/// A durable cluster for one test, to stop and kill. Its directory is removed with the returned guard.
pub async fn own_cluster() -> (DevPostgres, tempfile::TempDir) {
    own_cluster_of(MAX_CONNECTIONS).await
}

/// The same with room for so many connections.
pub async fn own_cluster_of(max_connections: u16) -> (DevPostgres, tempfile::TempDir) {
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place()).expect("a directory");
    open_to_all(dir.path());
    let data_dir = dir.path().join("home");
    let start = move || {
        DevPostgres::start(DevPostgresOptions {
            data_dir,
            pg_bin: None,
            fsync: true,
            max_connections,
        })
    };
    let postgres = tokio::task::spawn_blocking(start).await.expect("no panic");
    (postgres.expect("a private Postgres"), dir)
}

/// Postgres drops root for another user, which must be able to enter.
pub fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("our directory");
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The directory of Postgres's programs.
pub async fn bin_dir() -> PathBuf {
    shared().await.bin_dir().to_owned()
}

async fn shared() -> &'static DevPostgres {
    TEMPLATE
        .get_or_init(|| async {
            let cluster = tokio::task::spawn_blocking(start).await.expect("no panic");
            let cluster = CLUSTER.get_or_init(|| cluster);
            let admin = connect(&cluster.url("postgres")).await;
            admin.batch_execute("CREATE DATABASE migrating").await.expect("a database");
            let db = Database::new(&cluster.url("migrating"), 2).expect("a URL");
            migrations::run(&db, super::clock().now()).await.expect("the migrations");
            let rename = "ALTER DATABASE migrating RENAME TO migrated";
            // The connection of the migrations takes a moment to end.
            super::wait::until(async || admin.batch_execute(rename).await.is_ok()).await;
        })
        .await;
    CLUSTER.get().expect("just started")
}

fn start() -> DevPostgres {
    let place = place();
    remove_leftovers(&place);
    let data_dir = place.join(format!("{PREFIX}{}", std::process::id()));
    DevPostgres::start(DevPostgresOptions {
        data_dir,
        pg_bin: None,
        fsync: false,
        max_connections: MAX_CONNECTIONS,
    })
    .expect("a private Postgres")
}

/// The directory of clusters: in memory if there is room. A copy of the template is hundreds of files, which are slow
/// to create and remove on a disk.
fn place() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    /// Twice what all tests together were measured to use.
    const ROOM: u64 = 6 << 30;
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |of| of.f_bavail * of.f_frsize);
    if room < ROOM { std::env::temp_dir() } else { PathBuf::from(MEMORY) }
}

/// A test process cannot clean up at its very end, so the next one does.
fn remove_leftovers(temp: &Path) {
    let entries = std::fs::read_dir(temp).into_iter().flatten().flatten();
    let old: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .map(|entry| entry.path())
        .collect();
    for dir in old {
        // Leftovers of other users cannot be removed, and stay.
        let _ = std::fs::remove_dir_all(dir);
    }
}
