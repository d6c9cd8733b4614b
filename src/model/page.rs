//! Pages of a list: size, position, result.

use chrono::DateTime;
use uuid::Uuid;

use crate::clock::Time;

/// The default size of a page.
pub const DEFAULT_SIZE: usize = 50;
/// The greatest size of a page; a request for more gets this many rows.
pub const MAX_SIZE: usize = 1000;

/// Which page: `size` rows after (older than) the row `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<P = Uuid> {
    /// 1 to [`MAX_SIZE`].
    pub size: usize,
    /// `None` = from the newest row on.
    pub after: Option<P>,
}

/// Rows, and the position of the last one if more follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, P = Uuid> {
    /// Newest first.
    pub items: Vec<T>,
    /// `None` = it is the last page.
    pub next: Option<P>,
}

/// The position of a row in its list: its id, or its time and id if ids do not give the order.
pub trait PageKey: Clone {
    /// The most bytes of its form in a page token.
    const MAX_BYTES: usize;

    /// Its form in a page token.
    fn to_bytes(self) -> Vec<u8>;
    /// `None` if it is not valid.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl PageKey for Uuid {
    const MAX_BYTES: usize = 16;

    fn to_bytes(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(bytes).ok()
    }
}

/// The name by which a list is sorted: at most 128 characters, each of up to four bytes (UTF-8).
impl PageKey for String {
    const MAX_BYTES: usize = 4 * 128;

    fn to_bytes(self) -> Vec<u8> {
        self.into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// To the microsecond.
impl PageKey for (Time, Uuid) {
    const MAX_BYTES: usize = 8 + Uuid::MAX_BYTES;

    fn to_bytes(self) -> Vec<u8> {
        [self.0.timestamp_micros().to_be_bytes().as_slice(), self.1.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<(Time, Uuid)> {
        let (micros, id) = bytes.split_first_chunk()?;
        let at = DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?;
        Some((at, Uuid::from_slice(id).ok()?))
    }
}
