//! The database of a command.

use std::time::Instant;

use anyhow::{Context, ensure};

use super::data_dir;
use crate::clock::Clock;
use crate::config::Config;
use crate::dev_postgres::{self, DevPostgres};
use crate::server::refuse;
use crate::store::pool::Database;
use crate::store::{migrations, time};

/// A migrated database with a synchronized clock, for a short-lived command.
pub struct Opened {
    pub db: Database,
    pub clock: Clock,
    /// The private Postgres, if this command started it; stops with it.
    postgres: Option<DevPostgres>,
}

/// The URL of the database, and the private Postgres that is started for it if no URL is given.
///
/// # Errors
/// If the URL file cannot be read or the private Postgres cannot be started; the text is for the operator.
pub async fn own(config: &Config) -> anyhow::Result<(String, Option<DevPostgres>)> {
    if let Some(url) = config.database_url()? {
        return Ok((url, None));
    }
    let options = dev_postgres::DevPostgresOptions {
        data_dir: data_dir(config),
        pg_bin: config.pg_bin.clone(),
        fsync: true,
        max_connections: dev_postgres::MAX_CONNECTIONS,
    };
    let postgres = tokio::task::spawn_blocking(|| DevPostgres::start(options)).await??;
    Ok((postgres.url("sessiond"), Some(postgres)))
}

/// The same for a command that may run beside a server: uses the private Postgres of a running server, if there is one.
///
/// # Errors
/// If the URL file cannot be read or the private Postgres cannot be used; the text is for the operator.
pub async fn shared(config: &Config) -> anyhow::Result<(String, Option<DevPostgres>)> {
    if config.database_url()?.is_none() {
        let dir = data_dir(config);
        let running = tokio::task::spawn_blocking(move || dev_postgres::running(&dir)).await??;
        if let Some(url) = running {
            return Ok((url, None));
        }
    }
    own(config).await
}

/// For what only reads, or must not be the first to run.
///
/// # Errors
/// The database is not up to date, or does not answer.
pub async fn refuse_if_outdated(db: &Database) -> anyhow::Result<()> {
    let done = migrations::are_done(db).await.context("the database")?;
    ensure!(
        done,
        "the database is not up to date: run `sessiond migrate`, or start the server, first"
    );
    Ok(())
}

impl Opened {
    /// The database of `config` for a command that changes something: brought up to date; also the one that a server
    /// on this machine is running just now.
    ///
    /// # Errors
    /// If the database cannot be found, reached or migrated; the text is for the operator.
    pub async fn open(config: &Config) -> anyhow::Result<Opened> {
        let opened = Opened::connect(config).await?;
        migrations::run(&opened.db, opened.clock.now()).await.context("the database")?;
        Ok(opened)
    }

    /// The same for a command that only lists: it never migrates.
    ///
    /// # Errors
    /// As [`Opened::open`], or the database is not up to date.
    pub async fn open_to_list(config: &Config) -> anyhow::Result<Opened> {
        let opened = Opened::connect(config).await?;
        refuse_if_outdated(&opened.db).await?;
        Ok(opened)
    }

    async fn connect(config: &Config) -> anyhow::Result<Opened> {
        let (url, postgres) = shared(config).await?;
        let db = Database::new(&url, 2)?;
        refuse::pooler(&db).await?;
        let clock = Clock::system();
        let mut conn = db.acquire().await.context("the database")?;
        let before = Instant::now();
        clock.follow(before, time::now(&mut conn).await?, Instant::now());
        drop(conn);
        Ok(Opened { db, clock, postgres })
    }

    /// Stops the private Postgres, if this command started it.
    ///
    /// # Errors
    /// If stopping it panics.
    pub async fn close(self) -> anyhow::Result<()> {
        let postgres = self.postgres;
        tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")
    }
}
