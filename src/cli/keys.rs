//! `sessiond keys`: generates, lists, rotates and retires keys. Prints no secret.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::SubsecRound;
use clap::{Args, Subcommand, ValueEnum};

use super::{data_dir, database, master_key, operator, output};
use crate::clock::{Clock, Time};
use crate::config::{AlgorithmFlag, Config};
use crate::server::{refuse, synchronise};
use crate::store::listener;
use crate::store::pool::Database;
use crate::token::jwk::SigningAlgorithm;
use crate::token::key_life::{KeyState, Purpose};
use crate::token::key_work::{self, KeyRefusal, KeyWork, Retired, Shown};

/// `sessiond keys`
#[derive(Args)]
pub struct KeysCommand {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Publish a key, which later takes over from the current one
    Generate {
        #[arg(long, value_enum, default_value = "access")]
        purpose: PurposeFlag,
        /// Algorithm of a key for access tokens
        #[arg(long, value_enum, default_value = "eddsa")]
        algorithm: AlgorithmFlag,
        /// When the key takes over, from --key-publish-ahead to 3650d from now [default: --key-publish-ahead]
        #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
        sign_after: Option<Duration>,
    },
    /// List all keys with their states and times
    List,
    /// Publish a successor, which takes over after --key-publish-ahead; the current key still verifies
    Rotate {
        #[arg(long, value_enum, default_value = "access")]
        purpose: PurposeFlag,
        /// Algorithm of a key for access tokens [default: that of the current key]
        #[arg(long, value_enum)]
        algorithm: Option<AlgorithmFlag>,
    },
    /// Stop signing with a key as soon as another can take over; its tokens stay valid until they expire
    Retire {
        /// Id of the key, as `keys list` shows it
        // One in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// In an emergency: replace the key at once; all replicas refuse its tokens within the staleness bound
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PurposeFlag {
    /// Signs access tokens
    Access,
    /// Makes refresh tokens
    Refresh,
}

impl From<PurposeFlag> for Purpose {
    fn from(flag: PurposeFlag) -> Purpose {
        match flag {
            PurposeFlag::Access => Purpose::Access,
            PurposeFlag::Refresh => Purpose::Refresh,
        }
    }
}

impl From<AlgorithmFlag> for SigningAlgorithm {
    fn from(flag: AlgorithmFlag) -> SigningAlgorithm {
        match flag {
            AlgorithmFlag::Eddsa => SigningAlgorithm::EdDsa,
            AlgorithmFlag::Es256 => SigningAlgorithm::Es256,
            AlgorithmFlag::Rs256 => SigningAlgorithm::Rs256,
        }
    }
}

/// The longest delay before a key signs.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// Runs the subcommand.
///
/// # Errors
/// If the flags are invalid, the database cannot be used, or the change is refused; the text is for the operator.
pub async fn run(keys: KeysCommand, config: Config) -> anyhow::Result<()> {
    let ahead = config.key_publish_ahead;
    if let Act::Generate { purpose, sign_after, algorithm } = &keys.act {
        let after = sign_after.unwrap_or(ahead);
        if !(ahead..=LONGEST).contains(&after) {
            bail!(
                "--sign-after must be from --key-publish-ahead ({}) to 3650d: verifiers may keep \
                 the key set for so long",
                humantime::format_duration(ahead)
            );
        }
        if *purpose == PurposeFlag::Refresh && *algorithm != AlgorithmFlag::Eddsa {
            bail!("--algorithm is for --purpose access: refresh tokens have MACs (HS256)");
        }
    }
    let (url, postgres) = database::shared(&config).await?;
    let db = Database::new(&url, 2)?;
    let done = act(keys.act, &db, &config).await;
    drop(db);
    tokio::task::spawn_blocking(move || drop(postgres)).await.context("stopping Postgres")?;
    done
}

async fn act(act: Act, db: &Database, config: &Config) -> anyhow::Result<()> {
    refuse::pooler(db).await?;
    let clock = Clock::system();
    synchronise(db, &clock).await.context("the database")?;
    database::refuse_if_outdated(db).await?;
    if let Act::List = act {
        return output::print(table(&key_work::list(db, clock.now()).await?));
    }
    let master = master_key::load(config, &data_dir(config))?;
    let by = operator::of(config)?;
    let work = KeyWork::new(db.clone(), master, clock, config.key_publish_ahead, by);
    let said = match act {
        Act::Generate { purpose, algorithm, sign_after } => {
            let after = sign_after.unwrap_or(config.key_publish_ahead);
            let after = chrono::Duration::from_std(after).context("--sign-after")?;
            takes_over(&work.publish(purpose.into(), algorithm.into(), after).await?)
        }
        Act::Rotate { purpose, algorithm } => {
            let algorithm = algorithm.map(SigningAlgorithm::from);
            takes_over(&granted(work.rotate(purpose.into(), algorithm).await?)?)
        }
        Act::Retire { kid, now: false } => retired(&granted(work.retire(&kid).await?)?),
        Act::Retire { kid, now: true } => retired(&granted(work.remove(&kid).await?)?),
        Act::List => unreachable!("shown above"),
    };
    // Without the notification, replicas find the change by polling, a little later.
    if let Err(error) = listener::notify(db).await {
        tracing::debug!(%error, "the replicas find it by their own polls");
    }
    output::print(format_args!("{said}\n"))
}

fn granted<T>(done: Result<T, KeyRefusal>) -> anyhow::Result<T> {
    done.map_err(|KeyRefusal(why)| anyhow::anyhow!(why))
}

fn takes_over(key: &Shown) -> String {
    format!("{} is published and signs from {}", key.kid, time(Some(key.life.since())))
}

fn retired(done: &Retired) -> String {
    match done {
        Retired::Replaced(old, new) => format!(
            "{} signs no more; {} does. It verifies until {}",
            old.kid,
            new.kid,
            time(old.life.gone_at())
        ),
        Retired::Until(old, new) => format!(
            "{} signs until {}, when {} takes over, which is published now",
            old.kid,
            time(Some(new.life.since())),
            new.kid
        ),
        Retired::Removed(old, new) => format!(
            "{} is removed: what it made is refused everywhere within the staleness bound. {} \
             signs now",
            old.kid, new.kid
        ),
    }
}

/// The keys as a table, one per line.
fn table(keys: &[Shown]) -> String {
    let head =
        ["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED", "SIGNS FROM", "SIGNS UNTIL", "GONE AT"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(keys.iter().map(|key| {
        let life = &key.life;
        let signed =
            key.state != KeyState::Gone || life.removed_at.is_none_or(|at| at > life.since());
        [
            key.kid.clone(),
            life.purpose.name().to_owned(),
            key.algorithm.clone(),
            key.state.name().to_owned(),
            time(Some(life.created_at)),
            if signed { time(Some(life.since())) } else { time(None) },
            time(life.retires_at),
            time(life.gone_at()),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn time(at: Option<Time>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.trunc_subsecs(0).format("%FT%TZ").to_string())
}
