//! The command line: parses, prepares, dispatches.

mod banner;
mod keys;
mod master_key;

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::cache::feed::WatchSettings;
use crate::clock::Clock;
use crate::config::Config;
use crate::dev_postgres::{self, DevPostgres};
use crate::model::detection::DetectionSettings;
use crate::server::{Intervals, Server, Settings};
use crate::session::location::Locator;
use crate::store::{migrations, pool::Database};
use crate::telemetry;

/// Owns the user sessions of a platform: create, refresh, validate, terminate, over gRPC, in
/// Postgres.
#[derive(Parser)]
#[command(name = "sessiond", version)]
pub struct Cli {
    #[command(flatten)]
    config: Config,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Bring the database up to date and exit
    Migrate,
    /// Make, show, rotate and retire the keys that sign tokens
    Keys(keys::Keys),
}

/// Does what the command line says.
///
/// # Errors
/// A sentence that says what to do.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::start(&cli.config.log, cli.config.log_format)?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.config).await,
        Command::Migrate => migrate(cli.config).await,
        Command::Keys(keys) => keys::run(keys, cli.config).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let policy = config.policy()?;
    let locator = Locator::open(config.geoip_database.clone(), config.geoip_asn_database.clone())?;
    // Listened for from the start: a signal while starting stops it as well.
    let shutdown = shutdown()?;
    let (url, postgres) = database(&config).await?;
    let master_key = master_key::load(&config, &data_dir(&config))?;
    let settings = Settings {
        listen: config.listen,
        http_listen: config.http_listen.0,
        database_url: url,
        database_connections: config.database_connections,
        master_key,
        issuer: config.issuer,
        policy,
        detection: DetectionSettings::default(),
        locator,
        key_rotation: config.key_rotation,
        key_publish_ahead: config.key_publish_ahead,
        activity_retention: config.activity_retention,
        staleness_bound: config.staleness_bound,
        cache_bytes: u64::from(config.cache_memory) << 20,
        drain_timeout: config.drain_timeout,
        intervals: Intervals::default(),
        watch: WatchSettings::default(),
    };
    tokio::pin!(shutdown);
    let server = tokio::select! {
        server = Server::bind(settings, Clock::system()) => server?,
        () = &mut shutdown => return Ok(()),
    };
    let addr: SocketAddr = server.addr()?;
    banner::print(addr, postgres.as_ref());
    server.run(shutdown).await?;
    // The private Postgres goes last. Dropping it waits for its orderly end.
    tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    let (url, postgres) = database(&config).await?;
    let db = Database::new(&url, config.database_connections)?;
    let applied = migrations::run(&db, Clock::system().now()).await.context("the database")?;
    match applied.as_slice() {
        [] => println!("The database is up to date."),
        versions => println!("Applied {}.", versions.join(", ")),
    }
    tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")
}

/// The database to use, and the private Postgres it lies in if none was given.
async fn database(config: &Config) -> anyhow::Result<(String, Option<DevPostgres>)> {
    if let Some(url) = config.database_url()? {
        return Ok((url, None));
    }
    let options = dev_postgres::Options {
        data_dir: data_dir(config),
        pg_bin: config.pg_bin.clone(),
        fsync: true,
    };
    let postgres = tokio::task::spawn_blocking(|| DevPostgres::start(options)).await??;
    Ok((postgres.url("sessiond"), Some(postgres)))
}

/// The same for a command that works beside a server: where one runs on the private Postgres, on that.
async fn shared_database(config: &Config) -> anyhow::Result<(String, Option<DevPostgres>)> {
    if config.database_url()?.is_none() {
        let dir = data_dir(config);
        let running = tokio::task::spawn_blocking(move || dev_postgres::running(&dir)).await??;
        if let Some(url) = running {
            return Ok((url, None));
        }
    }
    database(config).await
}

fn data_dir(config: &Config) -> std::path::PathBuf {
    config.data_dir.clone().unwrap_or_else(dev_postgres::default_data_dir)
}

/// Completes on SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
