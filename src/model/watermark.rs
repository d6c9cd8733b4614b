//! A point in the order of commits, to demand answers that are as fresh.

use std::fmt;
use std::str::FromStr;

use crate::model::feed::Horizon;

/// All transactions below it. A replica that has seen these answers at least as freshly as the one that issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Watermark(pub u64);

impl Watermark {
    /// A watermark that includes the transaction `xid`.
    pub fn of(xid: u64) -> Watermark {
        Watermark(xid.saturating_add(1))
    }
}

impl Horizon {
    /// Includes everything that the horizon shows, and what was in progress besides.
    pub fn watermark_of_all(&self) -> Watermark {
        Watermark(self.next())
    }

    /// Below it everything was seen.
    pub fn watermark(&self) -> Watermark {
        Watermark(self.pending().first().copied().unwrap_or(self.next()))
    }
}

/// Opaque to callers: `w` and hexadecimal digits, at most 17 characters.
impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{:x}", self.0)
    }
}

impl FromStr for Watermark {
    type Err = ();

    fn from_str(text: &str) -> Result<Watermark, ()> {
        let digits = text.strip_prefix('w').filter(|digits| (1..=16).contains(&digits.len()));
        let plain = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        u64::from_str_radix(plain.ok_or(())?, 16).map(Watermark).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_is_read_as_it_was_written_and_nothing_else_is() {
        for mark in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(Watermark(mark).to_string().parse(), Ok(Watermark(mark)));
        }
        for text in ["", "w", "12", "w+1", "w-1", "wg", "w11111111111111111", "W1"] {
            assert_eq!(text.parse::<Watermark>(), Err(()), "{text}");
        }
    }

    #[test]
    fn an_open_transaction_holds_it_back() {
        let mark = |text: &str| text.parse::<Horizon>().expect("a snapshot").watermark();
        assert_eq!(mark("10:20:12,14"), Watermark(12));
        assert_eq!(mark("20:20:"), Watermark(20));
        assert!(mark("20:20:") < Watermark::of(20) && mark("21:21:") >= Watermark::of(20));
    }
}
