//! The control: pgbench with a create as one would write it at first.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::cluster::{Cluster, SESSION_VALUES, USERS};
use crate::report::{Figures, median};
use crate::subject::CONNECTIONS;

/// pgbench, and the script it runs.
pub struct Control {
    pgbench: PathBuf,
    script: PathBuf,
    logs: PathBuf,
    url: String,
}

/// Lock the user, read what they have, insert, record, commit.
fn script() -> String {
    let user = "tenant_id = 'default' AND user_id = 'user-' || :user::text";
    format!(
        "\\set user random(1, {USERS})
BEGIN;
SELECT 1 FROM session_users WHERE {user} FOR UPDATE;
SELECT * FROM user_sessions WHERE {user} AND state = 1;
INSERT INTO user_sessions VALUES ('default', 'user-' || :user::text, {SESSION_VALUES});
INSERT INTO session_activities VALUES ('default', 'user-' || :user::text, now(),
    gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), NULL, 1, NULL, 1, 'anonymous',
    '192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0');
COMMIT;
"
    )
}

impl Control {
    pub fn new(cluster: &Cluster) -> anyhow::Result<Control> {
        let path = cluster.dir().join("naive.sql");
        std::fs::write(&path, script())?;
        Ok(Control {
            pgbench: find(cluster.programs())?,
            script: path,
            logs: cluster.dir().join("pgbench"),
            url: cluster.url(),
        })
    }

    /// At least `transactions` transactions by `clients` clients.
    pub async fn run(
        &self,
        cluster: &Cluster,
        clients: u32,
        transactions: u32,
    ) -> anyhow::Result<Figures> {
        let each = transactions.div_ceil(clients);
        let mut command = Command::new(&self.pgbench);
        command.args(["-n", "-M", "prepared", "-j", &clients.min(CONNECTIONS).to_string()]);
        command.args(["-c", &clients.to_string(), "-t", &each.to_string(), "-f"]).arg(&self.script);
        if clients == 1 {
            // Every transaction with its time; under load that would be work of its own.
            command.arg("--log").arg("--log-prefix").arg(&self.logs);
        }
        command.arg(&self.url);
        let mut rate = 0.0;
        let mut figures = Figures::measure(cluster, None, each * clients, async || {
            let output = tokio::task::spawn_blocking(move || command.output()).await?;
            rate = read_rate(&output.context("cannot run pgbench")?)?;
            Ok(())
        })
        .await?;
        figures.per_second = rate;
        if clients == 1 {
            figures.p50 = self.take_p50()?;
        }
        Ok(figures)
    }

    /// The median of the log, which is then removed.
    fn take_p50(&self) -> anyhow::Result<Duration> {
        let dir = self.logs.parent().context("a path in a directory")?;
        let mut micros = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("pgbench.") {
                let text = std::fs::read_to_string(&path)?;
                let third = |line: &str| line.split(' ').nth(2)?.parse::<f64>().ok();
                micros.extend(text.lines().filter_map(third));
                std::fs::remove_file(&path)?;
            }
        }
        ensure!(!micros.is_empty(), "pgbench wrote no log in {}", dir.display());
        Ok(Duration::from_secs_f64(median(micros) / 1e6))
    }
}

fn find(programs: &Path) -> anyhow::Result<PathBuf> {
    for candidate in [programs.join("pgbench"), PathBuf::from("pgbench")] {
        if Command::new(&candidate).arg("--version").output().is_ok() {
            return Ok(candidate);
        }
    }
    bail!(
        "pgbench is neither in {} nor in PATH: install Postgres' client programs (Debian: \
         postgresql-contrib or postgresql)",
        programs.display()
    )
}

/// `tps = 4321.0 (without initial connection time)`
fn read_rate(output: &Output) -> anyhow::Result<f64> {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "pgbench failed: {err}");
    let rate = out.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("no tps in:\n{out}"))
}
