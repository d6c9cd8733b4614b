//! The checks: pure functions of a history. Each file holds those of a few invariants.

mod deaths;
mod good;
mod limits;
mod tokens;

use crate::history::History;
use crate::judge::Judge;

/// Every check.
pub fn all(history: &History, judge: &mut Judge) {
    deaths::check(history, judge);
    tokens::check(history, judge);
    limits::check(history, judge);
    good::check(history, judge);
}
