//! EvaluateRules: replays stored activities to the rules, with the current and with changed
//! settings. Writes nothing. Memories start empty, except for when each user was first seen.

pub mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration as Span;

use chrono::Duration;
use tokio::sync::Semaphore;

use crate::cache::policies::Policies;
use crate::clock::Time;
use crate::detection::Context;
use crate::detection::memory::network;
use crate::error::{Error, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::detection::rule::Rule;
use crate::model::ids::{DeviceKey, TenantId, UserId};
use crate::session::detect::agents::Agents;
use crate::session::detect::{device_of, first_seen};
use crate::session::terminate_many::budget::Budget;
use crate::store::devices;
use crate::store::pool::Database;
use crate::store::replay::{Selection, page};
use replay::{Difference, Replay, ReplaySubject, Tally};

/// Activities per read.
const PAGE: i64 = 1_000;
/// The most activities of one evaluation.
const MOST: usize = 200_000;
/// Concurrent evaluations on a replica.
const AT_ONCE: usize = 2;

/// Evaluates changes of rules.
pub struct Evaluate {
    db: Database,
    policies: Policies,
    turns: Semaphore,
}

/// What a caller asks for.
pub struct Evaluation {
    pub tenant: TenantId,
    /// `None` = all of the tenant.
    pub user: Option<UserId>,
    /// Applied over the settings in force for the tenant.
    pub change: DetectionOverrides,
    /// Inclusive.
    pub start: Time,
    /// Exclusive.
    pub end: Time,
    /// How much time before `start` the rules see first.
    pub warm_up: Duration,
    /// The most samples.
    pub samples: usize,
}

/// The result of an evaluation.
pub struct Evaluated {
    /// Each rule, with the current settings and with the changed ones.
    pub rules: Vec<(Rule, Tally, Tally)>,
    pub samples: Vec<Difference>,
    /// The number of activities replayed.
    pub activities: usize,
    /// True if all activities were replayed.
    pub complete: bool,
}

/// Activities, with their context for the rules.
struct EvaluationPage {
    activities: Vec<Activity>,
    /// True if more may follow.
    full: bool,
    trusted: std::collections::HashSet<DeviceKey>,
    first_seen: BTreeMap<UserId, Time>,
}

impl Evaluate {
    /// Evaluates the activities in `db`, under `policies`.
    pub fn new(db: Database, policies: Policies) -> Evaluate {
        Evaluate { db, policies, turns: Semaphore::new(AT_ONCE) }
    }

    /// Evaluates for at most `time`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many evaluations run, [`Error::Unavailable`].
    pub async fn evaluate(&self, input: &Evaluation, time: Span) -> Result<Evaluated> {
        let _turn = self.turns.try_acquire().map_err(|_| Error::Overloaded)?;
        let mut time = Budget::new(time);
        let reading = async {
            let mut conn = self.db.acquire().await?;
            self.policies.detection_of(&mut conn, [input.tenant.clone()].into()).await
        };
        let current = self.db.within(reading).await?[&input.tenant].as_ref().clone();
        let changed = current.under(&input.change);
        let mut replay = Replay::new(current, changed, input.start, input.samples);
        let mut agents = Agents::default();
        let mut of_networks: Vec<Activity> = Vec::new();
        let (mut shown, mut complete) = (0, false);
        let mut last: Option<Activity> = None;
        while shown < MOST && time.allows() {
            let EvaluationPage { activities, full, trusted, first_seen } =
                self.db.within(self.page(input, last.as_ref())).await?;
            // An empty page has no position to continue from.
            let is_last = !full || activities.is_empty();
            complete = !full;
            shown += activities.len();
            for activity in activities {
                if last.as_ref().is_none_or(|last| last.user != activity.user) {
                    let user = activity.user.as_ref();
                    replay.begin(user.and_then(|user| first_seen.get(user).copied()));
                }
                if activity.user.is_some() {
                    let is_trusted = device_of(&activity).is_some_and(|key| trusted.contains(&key));
                    let context = agents.context(&activity, is_trusted);
                    replay.show(&activity, &context, ReplaySubject::User);
                }
                of_networks.extend(of_network(&activity));
                last = Some(activity);
            }
            if is_last {
                break;
            }
        }
        show_networks(&mut replay, of_networks).await;
        let (rules, samples) = replay.end();
        Ok(Evaluated { rules, samples, activities: shown, complete })
    }

    async fn page(&self, input: &Evaluation, after: Option<&Activity>) -> Result<EvaluationPage> {
        let of = Selection {
            tenant: &input.tenant,
            user: input.user.as_ref(),
            start: input.start - input.warm_up,
            end: input.end,
        };
        let mut conn = self.db.acquire().await?;
        let (activities, full) = page(&mut conn, &of, after, PAGE).await?;
        let met: BTreeSet<DeviceKey> = activities.iter().filter_map(device_of).collect();
        let trusted = devices::trusted(&mut conn, &met.into_iter().collect::<Vec<_>>()).await?;
        let first_seen = first_seen(&mut conn, &activities).await?;
        Ok(EvaluationPage { activities, full, trusted, first_seen })
    }
}

/// Only the fields that rules about networks read, since all activities of networks stay in memory until the end.
fn of_network(activity: &Activity) -> Option<Activity> {
    let Activity { id, occurred_at, kind, principal, tenant, user, .. } = activity;
    let counts = match kind {
        ActivityKind::LoginFailed => user.is_some(),
        ActivityKind::TokenRefused => user.is_none(),
        _ => false,
    };
    let bare = Activity::new(*id, *occurred_at, *kind, principal, tenant, user.as_ref());
    let (ip, report) = (activity.ip, activity.report.clone());
    (counts && ip.is_some()).then_some(Activity { ip, report, ..bare })
}

async fn show_networks(replay: &mut Replay, mut activities: Vec<Activity>) {
    let of = |activity: &Activity| activity.ip.map(|ip: IpAddr| network(ip));
    activities.sort_by_key(|activity| (of(activity), activity.occurred_at, activity.id));
    let mut before = None;
    for (n, activity) in activities.iter().enumerate() {
        let network = of(activity);
        if before != network {
            replay.begin(None);
            before = network;
        }
        replay.show(activity, &Context::default(), ReplaySubject::Network);
        if n % PAGE as usize == 0 {
            tokio::task::yield_now().await;
        }
    }
}
