//! The command line: parses, prepares, dispatches.

mod api_key;
mod banner;
mod database;
mod descriptors;
mod environment;
mod keys;
mod master_key;
mod operator;
mod output;
mod principal;
mod signals;

use std::net::SocketAddr;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cache::feed::WatchSettings;
use crate::caller::authenticator::Callers;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::access::{CallersFlag, ReflectionFlag};
use crate::dev_postgres;
use crate::edge::tls as certificates;
use crate::model::detection::DetectionSettings;
use crate::server::{Intervals, Server, Settings, refuse};
use crate::session::location::Locator;
use crate::store::{migrations, pool::Database, timeouts::DatabaseTimeouts};
use crate::telemetry;
use signals::Signals;

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
    /// Add, list and remove principals, and set their permissions
    Principal {
        #[command(subcommand)]
        command: principal::PrincipalCommand,
    },
    /// Create, list and revoke the API keys of principals
    ApiKey {
        #[command(subcommand)]
        command: api_key::ApiKeyCommand,
    },
    /// Generate, list, rotate and retire the keys that sign tokens
    Keys(keys::KeysCommand),
}

/// Parses the command line and the environment; exits the program if they are invalid or request help.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        // An empty variable is reported by its own name, not only by its flag.
        match environment::check(&environment::variables()) {
            Err(why) if error.use_stderr() => {
                Cli::command().error(ErrorKind::InvalidValue, why).exit()
            }
            _ => error.exit(),
        }
    })
}

/// Runs the command.
///
/// # Errors
/// If the settings are invalid or the command fails; the text is for the operator.
pub async fn run(mut cli: Cli) -> anyhow::Result<()> {
    environment::take(&mut cli.config, &environment::variables())?;
    let telemetry = telemetry::start(&cli.config)?;
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.config).await,
        Command::Migrate => migrate(cli.config).await,
        Command::Keys(keys) => keys::run(keys, cli.config).await,
        Command::Principal { command } => principal::run(command, &cli.config).await,
        Command::ApiKey { command } => api_key::run(command, &cli.config).await,
    };
    tokio::task::spawn_blocking(|| telemetry.finish()).await.context("sending the last traces")?;
    done
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let policy = config.policy()?;
    let tls = config.tls.files()?;
    let insecure = config.tls.dangerously_insecure;
    // `Server::bind` checks it too; checked here so that nothing is set up for an address that is refused.
    let callers = config.access.callers;
    let known = refuse::callers_known(callers.into(), tls.as_ref());
    refuse::address(config.listen, tls.is_some(), known, insecure)?;
    if let Some(files) = &tls {
        certificates::check(files, &Clock::system())?;
    }
    descriptors::raise(config.edge.max_connections);
    let locator = Locator::open(config.geoip_database.clone(), config.geoip_asn_database.clone())?;
    // Installed before the start-up, so that a signal during it also stops the server.
    let mut signals = Signals::listen()?;
    let (url, postgres) = database::own(&config).await?;
    let master_key = master_key::load(&config, &data_dir(&config))?;
    // With a given database and master key there may be no data directory.
    let position_file = Some(data_dir(&config)).filter(|dir| dir.is_dir());
    let position_file = position_file.map(|dir| dir.join("database-position.json"));
    let traced = config.is_traced();
    let encrypted = tls.is_some();
    let settings = Settings {
        listen: config.listen,
        tls,
        dangerously_insecure: insecure,
        edge: config.edge,
        http_listen: config.http_listen.0,
        callers: callers.into(),
        reflection: match config.access.reflection {
            ReflectionFlag::On => true,
            ReflectionFlag::Off => false,
            ReflectionFlag::Auto => callers == CallersFlag::Open,
        },
        database_url: url,
        database_connections: config.database_connections,
        database_timeouts: DatabaseTimeouts::default(),
        master_key,
        issuer: config.issuer,
        policy,
        detection: DetectionSettings::default(),
        locator,
        key_rotation: config.key_rotation,
        key_algorithm: config.key_algorithm.into(),
        key_publish_ahead: config.key_publish_ahead,
        activity_retention: config.activity_retention,
        staleness_bound: config.staleness_bound,
        cache_bytes: u64::from(config.cache_memory) << 20,
        rate_limit: config.access.rate_limit,
        refresh_limit: config.access.refresh_limit,
        on_restore: config.restore.on_restore.into(),
        position_file,
        traced,
        drain_timeout: config.drain_timeout,
        intervals: Intervals::default(),
        watch: WatchSettings::default(),
    };
    let server = tokio::select! {
        server = Server::bind(settings, Clock::system()) => server?,
        () = signals.stop() => return Ok(()),
    };
    let addr: SocketAddr = server.addr()?;
    banner::print(addr, encrypted, postgres.as_ref(), callers);
    let reload = server.reload();
    server.run(signals.obey(reload)).await?;
    // The private Postgres stops last. Dropping it waits for its orderly shutdown.
    tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    let (url, postgres) = database::own(&config).await?;
    let db = Database::new(&url, config.database_connections)?;
    refuse::pooler(&db).await?;
    let applied = migrations::run(&db, Clock::system().now()).await.context("the database")?;
    match applied.as_slice() {
        [] => output::print("The database is up to date.\n")?,
        versions => output::print(format_args!("Applied {}.\n", versions.join(", ")))?,
    }
    tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")
}

fn data_dir(config: &Config) -> std::path::PathBuf {
    config.data_dir.clone().unwrap_or_else(dev_postgres::default_data_dir)
}

impl From<CallersFlag> for Callers {
    fn from(flag: CallersFlag) -> Callers {
        match flag {
            CallersFlag::Open => Callers::Open,
            CallersFlag::Authenticated => Callers::Authenticated,
        }
    }
}
