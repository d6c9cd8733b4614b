//! Fills under way: one for each session, in a task of its own, so that a cancelled call cancels no other call's read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;
use uuid::Uuid;

use super::{Inner, Reading};
use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::model::session::Session;
use crate::model::watermark::Watermark;
use crate::store::sessions;

/// By session.
#[derive(Default)]
pub(super) struct Fills(Mutex<HashMap<Uuid, Fill>>);

/// A fill under way.
#[derive(Clone)]
struct Fill {
    began: Instant,
    done: watch::Receiver<Option<Arc<FillResult>>>,
}

struct FillResult {
    session: Result<Option<Session>>,
    watermark: Watermark,
}

/// Joins the fill of this session, or begins one. `None` if it began before `asked`: it may miss what was committed in
/// between.
pub(super) async fn join(
    inner: &Arc<Inner>,
    key: &SessionKey,
    asked: Instant,
) -> Result<Option<Reading>> {
    let fill = begin(inner, key);
    let mut done = fill.done;
    let read = match done.wait_for(Option::is_some).await {
        Ok(read) => read.clone(),
        Err(_) => None,
    };
    let Some(read) = read else {
        return Err(Error::Unavailable(Outage::Unreachable("the read was given up".to_owned())));
    };
    let session = read.session.as_ref().map_err(Error::again)?;
    let usable = fill.began >= asked;
    Ok(usable.then(|| Reading {
        session: session.clone(),
        cached: false,
        true_at: fill.began,
        watermark: read.watermark,
    }))
}

fn begin(inner: &Arc<Inner>, key: &SessionKey) -> Fill {
    let mut fills = inner.fills.lock();
    if let Some(fill) = fills.get(&key.session) {
        return fill.clone();
    }
    let (sender, done) = watch::channel(None);
    let fill = Fill { began: Instant::now(), done };
    fills.insert(key.session, fill.clone());
    // A runtime that is shutting down drops the task, and with it the slot, at once and here.
    drop(fills);
    let slot = FillSlot { inner: inner.clone(), id: key.session };
    tokio::spawn(run(slot, key.clone(), fill.began, sender));
    fill
}

async fn run(
    slot: FillSlot,
    key: SessionKey,
    began: Instant,
    sender: watch::Sender<Option<Arc<FillResult>>>,
) {
    let inner = &slot.inner;
    // Before the read, so that they never claim more than it shows.
    let (stamp, (_, watermark)) = (inner.entries.stamp(), inner.progress.through());
    let reading = async { sessions::find(&mut *inner.db.acquire().await?, &key).await };
    let session = inner.db.within(reading).await;
    if let (Ok(session), false) = (&session, inner.bound.is_zero())
        && !inner.entries.insert(stamp, &key, session.as_ref(), began)
    {
        inner.meters.dropped.inc();
    }
    // A later request finds what was cached, or reads again.
    drop(slot);
    sender.send_replace(Some(Arc::new(FillResult { session, watermark })));
}

/// The slot of a fill. Dropping it frees the slot, also if the fill panics.
struct FillSlot {
    inner: Arc<Inner>,
    id: Uuid,
}

impl Drop for FillSlot {
    fn drop(&mut self) {
        self.inner.fills.lock().remove(&self.id);
    }
}

impl Fills {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Fill>> {
        // Nothing panics while holding it but an allocation that fails.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::progress::RevocationProgress;
    use crate::cache::sessions::SessionReader;
    use crate::metrics::Metrics;
    use crate::model::session::tests::session;
    use crate::store::pool::Database;

    #[test]
    fn a_fill_that_begins_while_the_runtime_ends_does_not_block() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let entered = handle.enter();
        let db = Database::new("postgres://127.0.0.1:1/none", 2).expect("a URL");
        let bound = Duration::from_secs(1);
        let SessionReader(inner) = SessionReader::new(
            db,
            RevocationProgress::default(),
            bound,
            1 << 20,
            &Metrics::default(),
        );
        // The runtime drops at once what is spawned from now on.
        drop(runtime);
        begin(&inner, &session().key);
        assert!(inner.fills.lock().is_empty());
        drop(entered);
    }
}
