//! The position of a reader of the activities: by transactions, not by time or by ids.
//!
//! Ids and times are made before a commit, so a row may become visible after later ones were read. A
//! snapshot of Postgres says exactly which transactions had committed; what the next snapshot shows besides is
//! what was committed in between, late ones included. An open transaction delays its own rows only.

mod order_key;

use std::fmt;
use std::str::FromStr;

pub use order_key::OrderKey;

/// The transactions that a reader has seen: all below `next` but those of `pending`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    next: u64,
    /// In progress then; ascending.
    pending: Vec<u64>,
}

/// The most transactions in progress that a horizon of a watcher names, so that a cursor stays short. Those of other
/// databases of the cluster are among them: a snapshot of Postgres does not tell them apart.
pub const MAX_PENDING: usize = 1000;

/// The transactions between two horizons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    from: Horizon,
    to: Horizon,
}

/// The position of a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// It has seen all that the horizon shows.
    After(Horizon),
    /// Of the span it has seen the activities up to this key.
    Within(Span, OrderKey),
}

impl Position {
    /// The horizon up to which it needs to be read to know what it has seen.
    pub fn end(&self) -> &Horizon {
        match self {
            Position::After(seen) => seen,
            Position::Within(span, ..) => span.to(),
        }
    }
}

impl Horizon {
    /// The first transaction that had not begun.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Those before it that were in progress, ascending.
    pub fn pending(&self) -> &[u64] {
        &self.pending
    }

    /// True if all that `other` has seen is seen.
    pub fn covers(&self, other: &Horizon) -> bool {
        let missing = |xid: &u64| *xid < other.next && other.pending.binary_search(xid).is_err();
        self.next >= other.next && !self.pending.iter().any(missing)
    }

    /// The same, but nothing was seen of the transaction `xid`.
    pub fn without(mut self, xid: u64) -> Horizon {
        if xid < self.next
            && let Err(at) = self.pending.binary_search(&xid)
        {
            self.pending.insert(at, xid);
        }
        self
    }

    /// The same, but of the transactions after `last` nothing was seen.
    pub fn cut(mut self, last: u64) -> Horizon {
        self.next = self.next.min(last.saturating_add(1));
        self.pending.retain(|xid| *xid < self.next);
        self
    }

    /// In hexadecimal, the transactions in progress as distances: `next:distance,distance,`. Each is counted from the one
    /// above it, so the distances add up to less than 2^31, the span of the transactions that Postgres keeps apart.
    pub fn to_compact(&self) -> String {
        let mut text = format!("{:x}:", self.next);
        let mut above = self.next;
        for xid in self.pending.iter().rev() {
            text.push_str(&format!("{:x},", above - xid));
            above = *xid;
        }
        text
    }

    /// Reads what [`Horizon::to_compact`] writes.
    pub fn from_compact(text: &str) -> Option<Horizon> {
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (next, distances) = text.split_once(':')?;
        let next = number(next)?;
        let (mut above, mut pending) = (next, Vec::new());
        for distance in distances.split_terminator(',') {
            above = above.checked_sub(number(distance).filter(|distance| *distance > 0)?)?;
            pending.push(above);
        }
        pending.reverse();
        Some(Horizon { next, pending })
    }

    /// The same, but of what follows the [`MAX_PENDING`]th transaction in progress nothing was seen. Where it was
    /// preceded by such a horizon it still lies after that.
    pub fn bounded(self) -> Horizon {
        match self.pending.get(MAX_PENDING) {
            Some(one_more) => {
                let last = one_more.saturating_sub(1);
                self.cut(last)
            }
            None => self,
        }
    }
}

impl Span {
    /// What `to` shows and `from` does not. `None` if `to` was not taken after `from`.
    pub fn new(from: Horizon, to: Horizon) -> Option<Span> {
        let forward = from.next <= to.next
            && to.pending.iter().all(|xid| *xid >= from.next || from.pending.contains(xid));
        forward.then_some(Span { from, to })
    }

    /// True if no transaction is in it.
    pub fn is_empty(&self) -> bool {
        self.first() == self.end() && self.late().is_empty()
    }

    /// Where it begins.
    pub fn from(&self) -> &Horizon {
        &self.from
    }

    /// Where it ends.
    pub fn to(&self) -> &Horizon {
        &self.to
    }

    /// The first of the transactions that were new.
    pub fn first(&self) -> u64 {
        self.from.next
    }

    /// The first that is not in it any more.
    pub fn end(&self) -> u64 {
        self.to.next
    }

    /// Those in between that were still in progress, ascending.
    pub fn without(&self) -> &[u64] {
        &self.to.pending
    }

    /// Those before the first that were in progress where it begins and are not where it ends.
    pub fn late(&self) -> Vec<u64> {
        let still = |xid: &u64| self.to.pending.binary_search(xid).is_ok();
        self.from.pending.iter().copied().filter(|xid| !still(xid)).collect()
    }
}

/// As Postgres writes a `pg_snapshot`: `xmin:xmax:xip,xip`.
impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.pending.first().unwrap_or(&self.next), self.next)?;
        for (at, xid) in self.pending.iter().enumerate() {
            write!(f, "{}{xid}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Horizon {
    type Err = ();

    fn from_str(text: &str) -> Result<Horizon, ()> {
        let mut parts = text.splitn(3, ':').skip(1);
        let next = parts.next().and_then(|xid| xid.parse().ok()).ok_or(())?;
        let list = parts.next().ok_or(())?;
        let pending = list.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
        let mut pending: Vec<u64> = pending.collect::<Result<_, _>>().map_err(|_| ())?;
        pending.sort_unstable();
        pending.dedup();
        if pending.last().is_some_and(|last| *last >= next) {
            return Err(());
        }
        Ok(Horizon { next, pending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizon(text: &str) -> Horizon {
        text.parse().expect("a snapshot")
    }

    fn span(from: &str, to: &str) -> Option<Span> {
        Span::new(horizon(from), horizon(to))
    }

    #[test]
    fn a_horizon_reads_and_writes_what_postgres_does() {
        for text in ["10:20:10,14,15", "10:10:"] {
            assert_eq!(horizon(text).to_string(), text);
        }
        for text in ["", "10", "10:20", "a:b:c", "10:20:20", "10:20:1,x"] {
            assert_eq!(text.parse::<Horizon>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_span_holds_the_new_ones_and_the_late_ones() {
        let span = span("10:20:10,14", "14:30:14,25").expect("forward");
        assert_eq!((span.first(), span.end()), (20, 30));
        assert_eq!((span.without(), span.late()), (&[14, 25][..], vec![10]));
    }

    #[test]
    fn no_span_goes_backwards() {
        assert!(span("10:20:10", "10:19:10").is_none());
        assert!(span("20:20:", "10:20:10").is_none());
        assert!(span("10:20:10", "10:20:10").expect("forward").late().is_empty());
    }

    #[test]
    fn a_transaction_is_taken_out_of_a_horizon() {
        assert_eq!(horizon("10:20:10,14").without(12), horizon("10:20:10,12,14"));
        assert_eq!(horizon("10:20:10,14").without(14), horizon("10:20:10,14"));
        assert_eq!(horizon("10:20:10,14").without(20), horizon("10:20:10,14"));
    }

    #[test]
    fn a_compact_horizon_reads_as_it_was_written_and_nothing_else_is_one() {
        for text in ["10:20:10,14,15", "10:10:", "1:18446744073709551615:1"] {
            let horizon = horizon(text);
            assert_eq!(Horizon::from_compact(&horizon.to_compact()), Some(horizon), "{text}");
        }
        for text in ["", "14", "14:0,", "14:15,", "14:x,", "x:1,", "14:1,,"] {
            assert_eq!(Horizon::from_compact(text), None, "{text}");
        }
    }

    #[test]
    fn a_bounded_horizon_names_1000_transactions_at_most_and_still_moves_forward() {
        let pending = |from: u64, count: u64| {
            let list: Vec<String> = (from..from + count).map(|xid| xid.to_string()).collect();
            horizon(&format!("{from}:{}:{}", from + 2 * count, list.join(",")))
        };
        assert_eq!(pending(100, 1000).bounded(), pending(100, 1000));
        let first = pending(100, 1001).bounded();
        assert_eq!((first.next, first.pending.len()), (1100, 1000));
        let second = pending(101, 1400).bounded();
        assert!(Span::new(first, second.clone()).is_some(), "{second}");
    }

    #[test]
    fn a_horizon_is_cut_after_a_transaction() {
        assert_eq!(horizon("10:20:10,14").cut(12), horizon("10:13:10"));
        assert_eq!(horizon("10:20:10,14").cut(40), horizon("10:20:10,14"));
    }
}
