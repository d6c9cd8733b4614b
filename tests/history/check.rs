//! The checks: pure functions of a history. Each file has those of a few invariants.

mod answers;
mod deaths;
mod expiry;
mod good;
mod limits;
mod permissions;
mod requests;
mod tokens;
mod trail;
mod victims;
mod watches;

use crate::history::History;
use crate::judge::Judge;

/// Every check.
pub fn all(history: &History, judge: &mut Judge) {
    deaths::check(history, judge);
    tokens::check(history, judge);
    limits::check(history, judge);
    victims::check(history, judge);
    good::check(history, judge);
    trail::check(history, judge);
    watches::check(history, judge);
    expiry::check(history, judge);
    requests::check(history, judge);
    answers::check(history, judge);
    permissions::check(history, judge);
}
