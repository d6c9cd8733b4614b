//! The watermark of the present.

use crate::error::Result;
use crate::model::watermark::Watermark;
use crate::store::feed;
use crate::store::pool::Database;

/// A watermark that includes the change of a call: that of its transaction or, if another transaction made the change
/// before, everything that has committed by now.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn including(db: &Database, written: Option<Watermark>) -> Result<Watermark> {
    match written {
        Some(watermark) => Ok(watermark),
        None => now(db).await,
    }
}

/// A watermark that includes everything that has committed by now.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn now(db: &Database) -> Result<Watermark> {
    let reading = async { feed::now(&mut *db.acquire().await?).await };
    Ok(db.within(reading).await?.watermark_of_all())
}
