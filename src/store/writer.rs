//! Which server is current: the one that takes the writes, on the newest timeline that was found.
//!
//! After a failover behind one address old connections may stay on the former primary. What it shows is outdated, so a
//! connection counts only if its server is not in recovery, is not read-only (as a fenced primary is), and is on the
//! newest timeline. Postgres starts a new timeline at each promotion.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use diesel::sql_types::Text;

use crate::error::{Error, Outage, Result};
use crate::store::connection::Connection;

/// Selects the timeline.
pub(super) const TIMELINE: &str = concat!("SELECT ", timeline!());

/// The newest timeline, and since when connections count. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(super) struct Writer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    timeline: AtomicU32,
    epoch: AtomicU64,
}

/// When a connection was made. It counts until another connection, or a check, finds that its server may be outdated.
#[derive(Clone)]
pub(super) struct Member {
    writer: Writer,
    epoch: u64,
}

impl Writer {
    /// Accepts a connection whose server answered this to [`TIMELINE`].
    ///
    /// # Errors
    /// Why the server is not current. Then no connection that was made before counts any more.
    pub fn join(&self, answer: &str) -> Result<Member, &'static str> {
        let before = self.0.epoch.load(Ordering::Acquire);
        let Ok(timeline) = u32::from_str_radix(answer, 16) else {
            self.distrust();
            return Err("it takes no writes: it is read-only, or a standby");
        };
        let newest = self.0.timeline.fetch_max(timeline, Ordering::AcqRel);
        if timeline < newest {
            self.distrust();
            return Err("it is a former primary: another server was promoted");
        }
        let epoch = match newest {
            0 => before,
            newest if newest == timeline => before,
            _ => {
                tracing::warn!(timeline, "another server of the database was promoted");
                self.distrust()
            }
        };
        Ok(Member { writer: self.clone(), epoch })
    }

    /// The newest timeline that was found; 0 = none yet.
    pub fn timeline(&self) -> u32 {
        self.0.timeline.load(Ordering::Acquire)
    }

    fn distrust(&self) -> u64 {
        self.0.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }
}

statement! {
    Timeline {} -> Text, TIMELINE
}

/// Checks that the server of a connection still takes the writes: what it showed until now is current.
///
/// # Errors
/// [`Error::Unavailable`].
pub(super) async fn check(conn: &mut Connection) -> Result<()> {
    // Here alone: its `load` would hide that of atomics.
    use diesel_async::RunQueryDsl;
    let answer: String = RunQueryDsl::get_result(Timeline::new(), conn).await?;
    judge(conn, &answer)
}

/// The same for an answer that came with the result of another statement.
///
/// # Errors
/// [`Error::Unavailable`].
pub(super) fn judge(conn: &Connection, answer: &str) -> Result<()> {
    let Some(member) = conn.member() else { return Ok(()) };
    let outdated = |why: &str| Error::Unavailable(Outage::Unreachable(why.to_owned()));
    member.check(answer).map_err(outdated)
}

impl Member {
    /// Takes the present answer of the connection's server to [`TIMELINE`].
    ///
    /// # Errors
    /// Why the server is not current any more.
    pub fn check(&self, answer: &str) -> Result<(), &'static str> {
        self.writer.join(answer)?;
        match self.is_outdated() {
            true => Err("another server of the database takes the writes"),
            false => Ok(()),
        }
    }

    /// True once the server of the connection may not be the one that takes the writes.
    pub fn is_outdated(&self) -> bool {
        self.epoch < self.writer.0.epoch.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_until_a_newer_timeline_or_a_server_that_takes_no_writes_is_met() {
        let writer = Writer::default();
        let first = writer.join("00000001").expect("the first");
        assert_eq!(first.check("00000001"), Ok(()));
        assert!(writer.join("").is_err() && first.is_outdated());
        assert!(first.check("00000001").is_err(), "it may be another server by now");
        let second = writer.join("00000001").expect("a new one");
        let promoted = writer.join("0000000A").expect("a newer one");
        assert!(second.is_outdated() && !promoted.is_outdated());
        assert!(second.check("00000001").is_err() && promoted.is_outdated());
        assert!(writer.join("0000000A").is_ok_and(|member| member.check("0000000A").is_ok()));
    }
}
