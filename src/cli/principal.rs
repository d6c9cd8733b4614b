//! `sessiond principal`: manages principals and their permissions.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::database::Opened;
use super::{operator, output};
use crate::caller::manage::{Grant, Manage};
use crate::caller::permissions::Role;
use crate::config::Config;
use crate::model::caller::scope::Scope;

/// Add, list and remove principals, and set their permissions
#[derive(Subcommand)]
pub enum PrincipalCommand {
    /// Add a principal, or replace its permissions
    Set {
        /// Its name: the URI or DNS name of its certificates, or any other; 1 to 256 visible ASCII characters except "
        /// and \
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
    },
    /// List all principals
    List,
    /// Remove a principal and its keys
    Remove {
        /// Name of the principal
        name: String,
    },
}

/// The permissions of a principal, as flags.
#[derive(Args)]
pub struct GrantArgs {
    /// A role: gateway, login, account, support, security or admin. May be repeated
    #[arg(long = "role", value_parser = role, value_name = "ROLE")]
    roles: Vec<Role>,
    /// A scope in addition to those of the roles, such as session.terminate. May be repeated
    #[arg(long = "scope", value_parser = scope, value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// A tenant that the principal may work for; * = all tenants. May be repeated
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// An audience that the principal may validate tokens for [default: any]. May be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// Accept client certificates that name it, too; otherwise only its API keys prove it
    #[arg(long)]
    accept_certificates: bool,
}

impl GrantArgs {
    /// True if no flag is given.
    pub fn is_empty(&self) -> bool {
        let GrantArgs { roles, scopes, tenants, audiences, accept_certificates } = self;
        let lists = [scopes.is_empty(), tenants.is_empty(), audiences.is_empty()];
        roles.is_empty() && lists == [true; 3] && !accept_certificates
    }

    /// What the flags grant.
    pub fn grant(self) -> Grant {
        let GrantArgs { roles, scopes, tenants, audiences, accept_certificates } = self;
        Grant { roles, scopes, tenants, audiences, accepts_certificates: accept_certificates }
    }
}

fn role(name: &str) -> Result<Role, String> {
    let names = || Role::ALL.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
    Role::parse(name).ok_or_else(|| format!("must be one of {}", names()))
}

fn scope(name: &str) -> Result<Scope, String> {
    let names = || Scope::ALL.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(", ");
    Scope::parse(name).ok_or_else(|| format!("must be one of {}", names()))
}

/// Runs the subcommand.
///
/// # Errors
/// If the database cannot be used or refuses the change, or the output cannot be written; the text is for the operator.
pub async fn run(command: PrincipalCommand, config: &Config) -> anyhow::Result<()> {
    let opened = match command {
        PrincipalCommand::List => Opened::open_to_list(config).await?,
        _ => Opened::open(config).await?,
    };
    let by = operator::of(config)?;
    let manage = Manage::new(opened.db.clone(), opened.clock.clone(), by.clone());
    match command {
        PrincipalCommand::Set { name, grant } => {
            let grant = grant.grant();
            manage.set_principal(&name, &grant).await?;
            tracing::info!(target: "audit", principal = %name.escape_debug(), ?grant, %by, "principal set");
            output::print(format_args!("{name} is set.\n"))?;
        }
        PrincipalCommand::List => list(&manage).await?,
        PrincipalCommand::Remove { name } => {
            manage.remove_principal(&name).await?;
            tracing::info!(target: "audit", principal = %name.escape_debug(), %by, "principal removed");
            output::print(format_args!("{name} is removed, with its keys.\n"))?;
        }
    }
    opened.close().await
}

async fn list(manage: &Manage) -> anyhow::Result<()> {
    let mut table = "NAME\tROLES\tSCOPES\tTENANTS\tAUDIENCES\tCERTIFICATES\tCREATED\n".to_owned();
    for principal in manage.principals().await? {
        let joined = |list: &[String]| match list {
            [] => "-".to_owned(),
            list => list.join(","),
        };
        let _ = writeln!(
            table,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            principal.name,
            joined(&principal.roles),
            joined(&principal.scopes),
            joined(&principal.tenants),
            joined(&principal.audiences),
            if principal.accepts_certificates { "yes" } else { "no" },
            principal.created_at.format("%Y-%m-%dT%H:%M:%SZ")
        );
    }
    output::print(table)
}
