//! How recent the knowledge must be on which an answer rests.

use std::time::Duration;

use crate::model::watermark::Watermark;

/// What a caller demands. Whatever they allow, nothing older than the staleness bound is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// At most as old as the staleness bound.
    #[default]
    Bounded,
    /// At most so old.
    Within(Duration),
    /// What the database says now.
    Strong,
    /// Whatever was committed when the watermark was given.
    AtLeast(Watermark),
}
