//! Rows of the tables, and their conversion to and from the model.
//!
//! A row is also what a write sends: rows travel as JSON, and Postgres types them by its own table
//! (`json_populate_recordset`), so one statement writes any number of rows.

#[macro_use]
pub(super) mod found;

pub(super) mod activity;
pub(super) mod alert;
pub(super) mod device;
pub(super) mod policy;
pub(super) mod request;
pub(super) mod revocation;
pub(super) mod session;

use chrono::{Datelike, Duration};
use serde::Serializer;

use crate::clock::Time;
use crate::error::Error;
use crate::model::ids::UserId;

/// A damaged value in a row, by table and column. This service never writes one.
pub(super) fn corrupt(table: &str, column: &str, row: impl std::fmt::Display) -> Error {
    Error::Internal(anyhow::anyhow!("{table}.{column} of row {row} holds an impossible value"))
}

/// True for times that a clock can show, and from which no arithmetic overflows.
pub(super) fn are_possible(times: impl IntoIterator<Item = Option<Time>>) -> bool {
    let possible = |at: Time| (1..10_000).contains(&at.year());
    times.into_iter().flatten().all(possible)
}

/// True for durations that the service can have measured or been configured with: 0 to 100 years.
pub(super) fn is_possible(length: Option<Duration>) -> bool {
    length.is_none_or(|length| (Duration::zero()..=Duration::days(36_525)).contains(&length))
}

/// `jsonb` of plain data.
fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("plain data serialises")
}

/// `bytea` in Postgres' hex form.
fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string");
    }
    serializer.serialize_str(&text)
}

/// `interval` in microseconds.
fn interval<S: Serializer>(interval: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match interval.and_then(|i| i.num_microseconds()) {
        Some(micros) => serializer.serialize_str(&format!("{micros} microseconds")),
        None => serializer.serialize_none(),
    }
}

/// A user; the empty id stands for none. `None` if it is not valid.
pub(super) fn user_or_none(id: &str) -> Option<Option<UserId>> {
    if id.is_empty() { Some(None) } else { UserId::parse(id).ok().map(Some) }
}

/// A generation as the database counts it.
fn from_generation(generation: u32) -> i32 {
    i32::try_from(generation).unwrap_or(i32::MAX)
}
