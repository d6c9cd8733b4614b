//! CPU time, of processes and stolen from the machine, as Linux tells it.

use std::fs;

/// `/proc` counts in hundredths of a second on every architecture that Linux runs on.
const TICK_SECONDS: f64 = 0.01;

/// What was spent up to a moment, in seconds.
#[derive(Clone, Copy)]
pub struct Spent {
    pub server: f64,
    pub postgres: f64,
    /// This process and its children that have ended.
    pub callers: f64,
    stolen: f64,
    all: f64,
}

impl Spent {
    /// Reads the clocks of the server, of Postgres and of this process.
    pub fn read(server: Option<u32>, postgres: u32) -> Spent {
        let cpu = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<f64> = cpu
            .lines()
            .next()
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .filter_map(|field| field.parse().ok())
            .collect();
        Spent {
            server: server.and_then(process).map_or(0.0, |p| p.own),
            postgres: family(postgres),
            callers: process(std::process::id()).map_or(0.0, |p| p.own + p.ended_children),
            stolen: fields.get(7).copied().unwrap_or(0.0),
            // Guests are counted in user time already.
            all: fields.iter().take(8).sum(),
        }
    }

    /// The share of the machine's time since `before` that another machine took, in percent.
    pub fn stolen_since(&self, before: &Spent) -> f64 {
        (self.stolen - before.stolen) * 100.0 / (self.all - before.all).max(1.0)
    }
}

struct Process {
    parent: u32,
    own: f64,
    ended_children: f64,
}

fn process(pid: u32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let seconds = |i: usize| Some(fields.get(i)?.parse::<f64>().ok()? * TICK_SECONDS);
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(11)? + seconds(12)?,
        ended_children: seconds(13)? + seconds(14)?,
    })
}

/// A process, its children, and those that have ended.
fn family(pid: u32) -> f64 {
    let Some(head) = process(pid) else { return 0.0 };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = entries
        .filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?))
        .filter(|process| process.parent == pid)
        .map(|child| child.own);
    head.own + head.ended_children + children.sum::<f64>()
}
