//! Pages of a list: size, position, result.

use uuid::Uuid;

/// The rows a page has when the caller does not say.
pub const DEFAULT_SIZE: usize = 50;
/// The most rows a page has; a caller that asks for more gets this many.
pub const MAX_SIZE: usize = 1000;

/// Which page: `size` rows after (older than) the row `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to [`MAX_SIZE`].
    pub size: usize,
    /// `None` = from the newest row on.
    pub after: Option<Uuid>,
}

/// Rows, and the id of the last one if more follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// `None` = nothing follows.
    pub next: Option<Uuid>,
}

impl PageRequest {
    /// Cuts `size + 1` fetched rows to a page; the extra row only proves that more follow.
    pub fn cut<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let more = items.len() > self.size;
        items.truncate(self.size);
        let next = if more { items.last().map(id) } else { None };
        Page { items, next }
    }
}
