//! Synchronizes the clock with the database, before anything is written with its time.

use std::time::Instant;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::pool::Database;
use crate::store::time;

/// How many times the database is asked for its time; the reading with the shortest round trip counts.
const QUESTIONS: usize = 4;

/// Sets the clock to the time of the database.
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
