//! How recent the data of an answer must be.

use std::time::Duration;

use crate::model::watermark::Watermark;

/// What a caller demands. Nothing older than the staleness bound is ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// At most as old as the staleness bound.
    #[default]
    Bounded,
    /// At most so old.
    Within(Duration),
    /// The present state of the database.
    Strong,
    /// Everything that was committed when the watermark was issued.
    AtLeast(Watermark),
}
