//! `sessiond api-key`: manages the API keys of principals.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;

use super::database::Opened;
use super::principal::GrantArgs;
use super::{operator, output};
use crate::caller::manage::Manage;
use crate::config::{Config, within};
use crate::model::policy::ranges::Range;

const LIFE: Range = Range::new("1s to 366d", 1, 366 * 86_400, false);

/// Create, list and revoke the API keys of principals
#[derive(Subcommand)]
pub enum ApiKeyCommand {
    /// Create a key and print it, once; a principal may have two live keys. With --role or --scope and --tenant, a
    /// missing principal is added
    Create {
        /// Name of the principal
        principal: String,
        /// Lifetime of the key, 1s to 366d
        #[arg(long, value_parser = within(&LIFE), value_name = "DURATION")]
        expires_in: Duration,
        #[command(flatten)]
        grant: GrantArgs,
    },
    /// List all keys, without their secrets; expired and revoked keys for 90 days or longer
    List,
    /// Revoke a key; all replicas refuse it within the staleness bound
    Revoke {
        /// Id of the key, as listed: the part between the first two _ of the key
        id: String,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// If the database cannot be used or refuses the change, or the output cannot be written; the text is for the operator.
pub async fn run(command: ApiKeyCommand, config: &Config) -> anyhow::Result<()> {
    let opened = match command {
        ApiKeyCommand::List => Opened::open_to_list(config).await?,
        _ => Opened::open(config).await?,
    };
    let by = operator::of(config)?;
    let manage = Manage::new(opened.db.clone(), opened.clock.clone(), by.clone());
    match command {
        ApiKeyCommand::Create { principal, expires_in, grant } => {
            let grant = (!grant.is_empty()).then(|| grant.grant());
            let key = manage.create_key(&principal, expires_in, grant.as_ref()).await?;
            tracing::info!(
                target: "audit",
                principal = %principal.escape_debug(), key = key.id, expires_at = %key.expires_at,
                ?grant, %by, "API key created"
            );
            output::hand_over(format_args!("{}\n", key.text)).with_context(|| {
                format!("the key {0} is lost: sessiond api-key revoke {0}", key.id)
            })?;
        }
        ApiKeyCommand::List => list(&manage).await?,
        ApiKeyCommand::Revoke { id } => {
            let principal = manage.revoke_key(&id).await?;
            tracing::info!(
                target: "audit", principal = %principal.escape_debug(), key = id, %by, "API key revoked"
            );
            output::print(format_args!("{id} of {principal} is revoked.\n"))?;
        }
    }
    opened.close().await
}

async fn list(manage: &Manage) -> anyhow::Result<()> {
    let mut table = "ID\tPRINCIPAL\tCREATED\tEXPIRES\tSTATE\n".to_owned();
    for (key, state) in manage.keys().await? {
        let written = |time: crate::clock::Time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let _ = writeln!(
            table,
            "{}\t{}\t{}\t{}\t{}",
            key.key_id,
            key.principal,
            written(key.created_at),
            written(key.expires_at),
            state.name()
        );
    }
    output::print(table)
}
