//! The last batches of the reader, shared by all its watchers. Bounded by activities and by memory, however far
//! watchers lag.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use uuid::Uuid;

use crate::error::Outage;
use crate::model::activity::Activity;
use crate::model::alert::{Alert, Note};
use crate::model::feed::{Horizon, OrderKey, Span};

/// A span with all that is in it.
pub struct ActivityBatch {
    pub span: Span,
    /// Changes of state, in their order.
    pub activities: Vec<(OrderKey, Activity)>,
    /// The alerts that the activities concern, as of the read.
    alerts: HashMap<Uuid, Alert>,
    /// What it takes in memory, about, in bytes.
    pub(super) bytes: usize,
}

impl ActivityBatch {
    /// Skips reports: there may be many, and no watch shows them.
    pub(super) fn new(
        span: Span,
        mut activities: Vec<Activity>,
        alerts: Vec<Alert>,
    ) -> ActivityBatch {
        activities.retain(|activity| activity.kind.is_change());
        let alerts: HashMap<Uuid, Alert> =
            alerts.into_iter().map(|alert| (alert.id, alert)).collect();
        let activities = OrderKey::order(activities);
        #[cfg(debug_assertions)]
        let activities = match crate::broken::is("reverses-events") {
            true => activities.into_iter().rev().collect(),
            false => activities,
        };
        let bytes =
            activities.iter().map(|(_, activity)| size_of_activity(activity)).sum::<usize>()
                + alerts.values().map(size_of_alert).sum::<usize>();
        ActivityBatch { span, activities, alerts, bytes }
    }

    /// The alert that an activity of this batch concerns, as it was when it was read.
    pub fn alert_of(&self, activity: &Activity) -> Option<&Alert> {
        activity.alert.and_then(|id| self.alerts.get(&id))
    }

    /// How many activities are not after this position.
    pub(super) fn up_to(&self, key: OrderKey) -> usize {
        self.activities.partition_point(|(other, _)| *other <= key)
    }
}

/// What an activity takes besides its user agent, and an alert besides its texts: fields, and short strings.
const REST: usize = 1024;

fn size_of_activity(activity: &Activity) -> usize {
    REST + activity.user_agent.as_ref().map_or(0, String::len)
}

fn size_of_alert(alert: &Alert) -> usize {
    let notes = alert.notes.iter().map(|note| size_of::<Note>() + note.text.len() + note.by.len());
    // As JSON it is about as long as it is large.
    let evidence = serde_json::to_string(&alert.evidence).map_or(0, |text| text.len());
    REST + alert.title.len() + alert.description.len() + evidence + notes.sum::<usize>()
}

/// The batches of one reader.
pub(super) struct Ring {
    state: Mutex<RingState>,
    /// Signals new batches and the end.
    next_batch: watch::Sender<()>,
    most: Backlog,
}

/// The size of the buffer. Whichever limit is reached first applies.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// Activities, about.
    pub activities: usize,
    /// Their memory with their alerts in bytes, about.
    pub bytes: usize,
}

struct RingState {
    batches: VecDeque<Arc<ActivityBatch>>,
    /// The number of the first of them.
    first: u64,
    /// What is in them.
    held: Backlog,
    /// The position of the reader; `None` = it has not begun.
    seen: Option<Horizon>,
    ended: Option<Outage>,
}

/// What a watcher finds.
pub(super) enum NextBatch {
    Batch(Arc<ActivityBatch>),
    /// Nothing new up to this horizon.
    Nothing(Horizon),
    /// It was dropped from the buffer.
    Gone,
    Ended(Outage),
}

impl Ring {
    pub fn new(most: Backlog) -> Ring {
        let held = Backlog { activities: 0, bytes: 0 };
        let state = RingState { batches: VecDeque::new(), first: 0, held, seen: None, ended: None };
        Ring { state: Mutex::new(state), next_batch: watch::Sender::new(()), most }
    }

    /// Adds a batch, and drops the oldest beyond the limits.
    pub fn push(&self, batch: ActivityBatch) {
        let mut state = self.lock();
        state.seen = Some(batch.span.to().clone());
        state.held = state.held.with(&batch);
        state.batches.push_back(Arc::new(batch));
        // The last two batches stay, however large: a watcher that waits for one must find it.
        while state.batches.len() > 2 {
            let rest = state.held.without(&state.batches[0]);
            let fits = state.held.bytes <= self.most.bytes;
            if fits && rest.activities < self.most.activities {
                break;
            }
            state.batches.pop_front();
            state.first += 1;
            state.held = rest;
        }
        drop(state);
        self.next_batch.send_replace(());
    }

    /// Moves the position of the reader on, without a batch.
    pub fn advance(&self, seen: Horizon) {
        let first = self.lock().seen.replace(seen).is_none();
        if first {
            self.next_batch.send_replace(());
        }
    }

    /// Ends the ring: no batch follows.
    pub fn end(&self, outage: Outage) {
        self.lock().ended.get_or_insert(outage);
        self.next_batch.send_replace(());
    }

    pub fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Signals each change from now on.
    pub fn next_batch(&self) -> watch::Receiver<()> {
        self.next_batch.subscribe()
    }

    /// The position of the reader and the number of its next batch; `None` if it has not begun.
    pub fn end_of_line(&self) -> Result<Option<(Horizon, u64)>, Outage> {
        let state = self.lock();
        match &state.ended {
            Some(outage) => Err(outage.clone()),
            None => Ok(state.seen.clone().map(|seen| (seen, state.next()))),
        }
    }

    /// The batch of this number.
    pub fn find(&self, number: u64) -> NextBatch {
        let state = self.lock();
        let Some(at) = number.checked_sub(state.first) else { return NextBatch::Gone };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        match (state.batches.get(at), &state.ended, &state.seen) {
            (Some(batch), ..) => NextBatch::Batch(batch.clone()),
            (None, Some(outage), _) => NextBatch::Ended(outage.clone()),
            (None, None, Some(seen)) => NextBatch::Nothing(seen.clone()),
            (None, None, None) => NextBatch::Gone,
        }
    }

    fn lock(&self) -> MutexGuard<'_, RingState> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl RingState {
    fn next(&self) -> u64 {
        self.first + self.batches.len() as u64
    }
}

impl Backlog {
    fn with(self, batch: &ActivityBatch) -> Backlog {
        let (activities, bytes) = (batch.activities.len(), batch.bytes);
        Backlog { activities: self.activities + activities, bytes: self.bytes + bytes }
    }

    fn without(self, batch: &ActivityBatch) -> Backlog {
        let (activities, bytes) = (batch.activities.len(), batch.bytes);
        Backlog { activities: self.activities - activities, bytes: self.bytes - bytes }
    }
}

#[cfg(test)]
mod tests;
