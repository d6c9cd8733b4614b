//! Figures, medians, and how they are printed.

use crate::callers::Figures;

/// One turn of all.
pub struct Round {
    pub control: Figures,
    pub unary: Figures,
    pub streamed: Figures,
    /// Per validation.
    pub transactions: f64,
}

impl Round {
    pub fn describe(&self, number: u32) -> String {
        let name = if number == 0 { "warm-up".to_owned() } else { format!("round {number}") };
        let figures = |what: &str, f: &Figures| {
            format!(
                "{what} {:.0}/s, CPU {:.1} us (Postgres {:.1}, callers {:.1}), p50 {:.2} ms, p99 {:.2} ms, stolen {:.0} %",
                f.per_second,
                f.cpu,
                f.postgres,
                f.callers,
                f.p50 * 1e3,
                f.p99 * 1e3,
                f.stolen
            )
        };
        format!(
            "{name}: {}; {}; {}",
            figures("echo", &self.control),
            figures("validate", &self.unary),
            figures("streamed", &self.streamed)
        )
    }
}

/// Prints each ratio with its spread.
pub fn print(rounds: &[Round], bytes: f64, gateway: f64, json: bool) {
    let ratio = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    for (name, what, values) in [
        ("P1", "echo CPU / validate CPU", ratio(|r| r.control.cpu / r.unary.cpu)),
        ("P2", "echo CPU / streamed CPU", ratio(|r| r.control.cpu / r.streamed.cpu)),
        ("P3", "validate p99 / echo p99, closed loop", ratio(|r| r.unary.p99 / r.control.p99)),
        ("P4", "transactions per validation", ratio(|r| r.transactions)),
        ("P14", "resident bytes per session, its token included", vec![bytes]),
        ("gateway", "validations per second without a call", vec![gateway]),
    ] {
        let (low, middle, high) = spread(values);
        println!("{name}: {what}: {middle:.3} ({low:.3} to {high:.3})");
        if json {
            println!(
                "{{\"ratio\":\"{name}\",\"median\":{middle:.4},\"lowest\":{low:.4},\"highest\":{high:.4}}}"
            );
        }
    }
    let (low, _, high) = spread(rounds.iter().map(|r| r.control.cpu).collect());
    if high > low * 1.05 {
        println!("the control moved by more than 5 %: make the run again when less is going on");
    }
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}
