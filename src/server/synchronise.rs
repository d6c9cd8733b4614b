//! The clock, before anything is written by it.

use std::time::Instant;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::pool::Database;
use crate::store::time;

/// How often the database is asked for the time; the fastest answer counts.
const QUESTIONS: usize = 4;

/// Sets the clock by the database's.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn synchronise(db: &Database, clock: &Clock) -> Result<()> {
    let asking = async {
        let mut conn = db.acquire().await?;
        for _ in 0..QUESTIONS {
            let before = Instant::now();
            let time = time::now(&mut conn).await?;
            clock.follow(before, time, Instant::now());
        }
        Ok(())
    };
    db.within(asking).await
}
