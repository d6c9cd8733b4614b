//! The subject: the server as shipped, in its own process, called over loopback.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tonic::transport::Channel;

use crate::callers::call;
use crate::cluster::Cluster;
use crate::report::{Figures, median};

/// HTTP/2 connections that the callers share; also the threads of the control.
pub const CONNECTIONS: u32 = 2;

/// A running server. Dropping it ends it.
pub struct Subject {
    server: Child,
    /// Kept open: the server may still print.
    _stdout: BufReader<ChildStdout>,
    channels: Vec<Channel>,
    /// Creates asked for so far, so that no round repeats the users of another.
    asked: Arc<AtomicU32>,
}

impl Subject {
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Subject> {
        let log = cluster.dir().join("server.log");
        let mut server = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--http-listen",
                "off",
                "--max-sessions-per-user",
                "100",
            ])
            .args(["--on-limit", "terminate-oldest", "--data-dir"])
            .arg(cluster.dir().join("server"))
            .env("DATABASE_URL", cluster.url())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the server")?;
        let mut stdout = BufReader::new(server.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        // From here on, whatever fails ends the server.
        let mut subject =
            Subject { server, _stdout: stdout, channels: Vec::new(), asked: Arc::default() };
        let addr = line.trim().strip_prefix("sessiond listens on ").with_context(|| {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            format!("the server does not start: {said}")
        })?;
        for _ in 0..CONNECTIONS {
            let channel = Channel::from_shared(format!("http://{addr}"))?.tcp_nodelay(true);
            subject.channels.push(channel.connect().await?);
        }
        Ok(subject)
    }

    /// `creates` creates by `callers` callers, each answer checked.
    pub async fn run(
        &self,
        cluster: &Cluster,
        callers: u32,
        creates: u32,
    ) -> anyhow::Result<Figures> {
        let mut times = Vec::new();
        let mut took = Duration::ZERO;
        let first = self.asked.fetch_add(creates, Ordering::Relaxed);
        let mut figures = Figures::measure(cluster, Some(self.server.id()), creates, async || {
            let next = Arc::new(AtomicU32::new(0));
            let begun = Instant::now();
            let calling: Vec<_> = self
                .channels
                .iter()
                .cycle()
                .take(callers as usize)
                .map(|channel| tokio::spawn(call(channel.clone(), next.clone(), first, creates)))
                .collect();
            for caller in calling {
                times.extend(caller.await??);
            }
            took = begun.elapsed();
            Ok(())
        })
        .await?;
        ensure!(times.len() == creates as usize, "{} of {creates} answers came", times.len());
        figures.per_second = f64::from(creates) / took.as_secs_f64();
        figures.p50 = Duration::from_secs_f64(median(times));
        Ok(figures)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
