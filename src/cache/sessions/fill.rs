//! Fills: reads of sessions after a cache miss.

use std::sync::Arc;
use std::time::Instant;

use super::{Inner, Reading};
use crate::cache::flights::Flights;
use crate::error::{Error, Result};
use crate::model::ids::SessionKey;
use crate::model::session::Session;
use crate::model::watermark::Watermark;
use crate::store::sessions;

/// The fills under way, by session.
pub(super) type Fills = Flights<SessionKey, (Option<Session>, Watermark)>;

/// Joins the fill of this session, or begins one. `None` if it began before `asked`: it may miss what was committed in
/// between.
pub(super) async fn join(
    inner: &Arc<Inner>,
    key: &SessionKey,
    asked: Instant,
) -> Result<Option<Reading>> {
    let filling = |began| fill(inner.clone(), key.clone(), began);
    let landed = inner.fills.join(key.clone(), filling).await?;
    let (session, watermark) = landed.value.as_ref().as_ref().map_err(Error::again)?;
    let usable = landed.began >= asked;
    Ok(usable.then(|| Reading {
        session: session.clone(),
        cached: false,
        true_at: landed.began,
        watermark: *watermark,
    }))
}

async fn fill(
    inner: Arc<Inner>,
    key: SessionKey,
    began: Instant,
) -> Result<(Option<Session>, Watermark)> {
    // Before the read, so that they never claim more than it shows.
    let (stamp, (_, watermark)) = (inner.entries.stamp(), inner.progress.through());
    let reading = async { sessions::find(&mut *inner.db.acquire().await?, &key).await };
    let session = inner.db.within(reading).await?;
    if !inner.bound.is_zero() && !inner.entries.insert(stamp, &key, session.as_ref(), began) {
        inner.meters.dropped.inc();
    }
    Ok((session, watermark))
}
