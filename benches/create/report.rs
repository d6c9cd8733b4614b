//! Figures, medians, and how they are printed.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::machine::Spent;

/// What one side did in one measurement. CPU is in microseconds per create.
#[derive(Default)]
pub struct Figures {
    pub per_second: f64,
    pub p50: Duration,
    writes: f64,
    wal_bytes: f64,
    server: f64,
    postgres: f64,
    callers: f64,
    /// Percent.
    stolen: f64,
}

/// One turn of both sides.
pub struct Round {
    pub loaded_control: Figures,
    pub loaded_subject: Figures,
    pub lone_control: Figures,
    pub lone_subject: Figures,
}

impl Figures {
    /// Runs `work`, which must leave `creates` sessions, and reads all counters around it. Its
    /// times are for the caller to add.
    pub async fn measure(
        cluster: &Cluster,
        server: Option<u32>,
        creates: u32,
        work: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Figures> {
        let postgres = cluster.pid()?;
        let counts = cluster.counts().await?;
        let spent = Spent::read(server, postgres);
        work().await?;
        let spent_then = Spent::read(server, postgres);
        let counts_then = cluster.counts().await?;
        counts_then.check(&counts, creates)?;
        let each = |total: f64| total / f64::from(creates);
        Ok(Figures {
            writes: each((counts_then.writes - counts.writes) as f64),
            wal_bytes: each((counts_then.wal_bytes - counts.wal_bytes) as f64),
            server: each(spent_then.server - spent.server) * 1e6,
            postgres: each(spent_then.postgres - spent.postgres) * 1e6,
            callers: each(spent_then.callers - spent.callers) * 1e6,
            stolen: spent_then.stolen_since(&spent),
            ..Figures::default()
        })
    }

    fn describe(&self) -> String {
        format!(
            "{:7.0} /s  {:5.3} writes  {:5.0} B WAL  cpu us: server {:4.0} postgres {:4.0} \
             callers {:4.0}  stolen {:.1} %",
            self.per_second,
            self.writes,
            self.wal_bytes,
            self.server,
            self.postgres,
            self.callers,
            self.stolen,
        )
    }
}

impl Round {
    fn p5(&self) -> f64 {
        self.loaded_subject.per_second / self.loaded_control.per_second
    }

    fn p7(&self) -> f64 {
        self.lone_subject.p50.as_secs_f64() / self.lone_control.p50.as_secs_f64()
    }

    pub fn describe(&self, number: u32) -> String {
        let name = if number == 0 { "warm-up".to_owned() } else { format!("round {number}") };
        format!(
            "{name}: P5 {:.2}, P7 {:.2}, P8 {:.3}\n  control {}\n  subject {}\n  one caller: \
             p50 control {} us, subject {} us",
            self.p5(),
            self.p7(),
            self.loaded_subject.writes,
            self.loaded_control.describe(),
            self.loaded_subject.describe(),
            self.lone_control.p50.as_micros(),
            self.lone_subject.p50.as_micros(),
        )
    }
}

/// Prints the ratios over all rounds, and whether they can be trusted.
pub fn print(rounds: &[Round], json: bool) {
    let all = |figure: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(figure).collect() };
    let ratios = [
        ("P5", "create/s / naive transaction/s", all(Round::p5), 1.0, 3.0),
        ("P7", "create p50 / naive p50, one caller", all(Round::p7), 1.6, 1.0),
        ("P8", "writing transactions per create", all(|r| r.loaded_subject.writes), 1.0, 0.25),
    ];
    println!("\nmedian (lowest to highest) of {} rounds", rounds.len());
    for (name, what, values, floor, goal) in &ratios {
        let (low, middle, high) = spread(values.clone());
        println!("{name} {middle:.3} ({low:.3} to {high:.3})  {what}; floor {floor}, goal {goal}");
    }
    let controls = [
        ("under load", all(|r| r.loaded_control.per_second)),
        ("alone", all(|r| r.lone_control.p50.as_secs_f64())),
    ];
    for (name, values) in controls {
        let (low, middle, high) = spread(values);
        let moved = (high - low) * 100.0 / middle;
        let advice = if moved > 5.0 { ": noisy, discard this run" } else { "" };
        println!("control {name} moved {moved:.1} %{advice}");
    }
    for (name, _, values, floor, goal) in ratios.into_iter().filter(|_| json) {
        let (low, middle, high) = spread(values);
        println!(
            "{{\"ratio\":\"{name}\",\"median\":{middle:.4},\"low\":{low:.4},\"high\":{high:.4},\
             \"floor\":{floor},\"goal\":{goal}}}"
        );
    }
}

/// The middle value; the upper one of two.
pub fn median(values: Vec<f64>) -> f64 {
    spread(values).1
}

/// The lowest, the middle and the highest value.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}
