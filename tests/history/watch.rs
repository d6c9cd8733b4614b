//! Watchers of each stream of each tenant, which resume on another replica from their last cursor when a stream ends.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sessiond::grpc::pb;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::pause;
use crate::record::Micros;
use crate::rng::Rng;
use crate::tables::{Tables, kind};
use crate::users::TENANTS;
use crate::world::{REPLICAS, World};

/// How long a watcher may take to catch up at the end.
const PATIENCE: Duration = Duration::from_secs(15);
const PLACE: u64 = 1 << 42;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Sessions,
    Alerts,
    Revocations,
}

/// What one watcher received.
#[derive(Debug)]
pub struct Watched {
    pub stream: Stream,
    /// An index of `TENANTS`.
    pub tenant: usize,
    /// The first message arrived: every later event must arrive.
    pub begun: bool,
    pub events: Vec<Event>,
    /// How often it resumed from a cursor.
    pub resumed: usize,
    /// Ends of streams that are never right.
    pub refused: Vec<String>,
}

/// An event, or a revocation of a session.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Uuid,
    pub session: Option<Uuid>,
    pub at: Micros,
}

pub type Watches = Vec<Arc<Mutex<Watched>>>;

/// Begins all watches, and waits for the first message of each; they run as long as the runtime.
pub async fn begin(world: &Arc<World>) -> Watches {
    let mut watches = Vec::new();
    for stream in [Stream::Sessions, Stream::Alerts, Stream::Revocations] {
        for tenant in 0..TENANTS.len() {
            let (events, refused) = (Vec::new(), Vec::new());
            let watched = Watched { stream, tenant, begun: false, events, resumed: 0, refused };
            let watched = Arc::new(Mutex::new(watched));
            tokio::spawn(watch(Arc::clone(world), Arc::clone(&watched), stream, tenant));
            watches.push(watched);
        }
    }
    let begun =
        |watched: &Arc<Mutex<Watched>>| watched.lock().expect("nobody panics while writing").begun;
    while !watches.iter().all(begun) {
        pause(Duration::from_millis(10)).await;
    }
    watches
}

async fn watch(world: Arc<World>, watched: Arc<Mutex<Watched>>, stream: Stream, tenant: usize) {
    let mut cursor = String::new();
    let mut rng = Rng::of(world.seed, [PLACE, stream as u64 * 2 + tenant as u64]);
    loop {
        let channel = world.replicas[rng.below(REPLICAS)].channel();
        let before = cursor.clone();
        let ended = follow(&world, &watched, channel, (stream, tenant), &mut cursor).await;
        note_end(&watched, !before.is_empty() && cursor != before, ended);
        pause(Duration::from_millis(rng.between(20, 200))).await;
    }
}

fn note_end(watched: &Mutex<Watched>, resumed: bool, ended: Result<(), Status>) {
    let mut watched = watched.lock().expect("nobody panics while writing");
    watched.resumed += usize::from(resumed);
    if let Err(status) = ended
        && matches!(status.code(), Code::InvalidArgument | Code::OutOfRange | Code::Internal)
    {
        watched.refused.push(format!("{status}"));
    }
}

/// Follows one stream until it ends.
async fn follow(
    world: &World,
    watched: &Mutex<Watched>,
    channel: Channel,
    (stream, tenant): (Stream, usize),
    cursor: &mut String,
) -> Result<(), Status> {
    let tenant_id = TENANTS[tenant].to_owned();
    let heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let from = cursor.clone();
    let mut sessions = SessionServiceClient::new(channel.clone());
    let note = |id: &str, session: &str| {
        let event = Event {
            id: id.parse().unwrap_or_default(),
            session: session.parse().ok(),
            at: world.epoch.now(),
        };
        watched.lock().expect("nobody panics while writing").events.push(event);
    };
    let begin = || watched.lock().expect("nobody panics while writing").begun = true;
    match stream {
        Stream::Sessions => {
            let asked = pb::WatchSessionsRequest {
                tenant_id,
                cursor: from,
                heartbeat_interval,
                filter: None,
            };
            let mut messages = sessions.watch_sessions(asked).await?.into_inner();
            while let Some(message) = next(&mut messages).await? {
                message.event.iter().for_each(|event| note(&event.event_id, &event.session_id));
                *cursor = message.cursor;
                begin();
            }
        }
        Stream::Alerts => {
            let asked = pb::WatchAlertsRequest {
                tenant_id,
                cursor: from,
                heartbeat_interval,
                filter: None,
            };
            let mut messages =
                AlertServiceClient::new(channel).watch_alerts(asked).await?.into_inner();
            while let Some(message) = next(&mut messages).await? {
                if let Some(event) = &message.event {
                    let session = event.alert.as_ref().map_or("", |alert| &alert.session_id);
                    note(&event.event_id, session);
                }
                *cursor = message.cursor;
                begin();
            }
        }
        Stream::Revocations => {
            let asked = pb::WatchRevocationsRequest { tenant_id, cursor: from, heartbeat_interval };
            let mut messages = sessions.watch_revocations(asked).await?.into_inner();
            while let Some(message) = next(&mut messages).await? {
                let of_sessions = |it: &&pb::Revocation| it.level() == pb::RevocationLevel::Session;
                for revocation in message.revocations.iter().filter(of_sessions) {
                    note("", &revocation.subject);
                }
                *cursor = message.cursor;
                begin();
            }
        }
    }
    Ok(())
}

/// The next message. A stream without a heartbeat for too long is closed.
async fn next<M>(messages: &mut Streaming<M>) -> Result<Option<M>, Status> {
    let silence = |_| Err(Status::deadline_exceeded("no heartbeat"));
    tokio::time::timeout(Duration::from_secs(3), messages.message()).await.unwrap_or_else(silence)
}

/// Whether a row of the trail is an event of a stream.
pub fn is_event(stream: Stream, kind: i16) -> bool {
    match stream {
        Stream::Sessions => kind::OF_SESSIONS.contains(&kind) && kind != kind::STEP_UP_REQUIRED,
        Stream::Alerts => kind::OF_ALERTS.contains(&kind),
        // An expired session is not revoked: its tokens have expired too.
        Stream::Revocations => kind == kind::TERMINATED,
    }
}

/// Waits, for a bounded time, until each watcher has everything in the tables; returns what they received.
pub async fn until_caught_up(watches: &Watches, tables: &Tables) -> Vec<Watched> {
    let waiting = async {
        while watches.iter().any(|watched| {
            let watched = watched.lock().expect("nobody panics while writing");
            let got: HashSet<Uuid> =
                watched.events.iter().filter_map(|event| watched.name(event)).collect();
            watched.expected(tables).any(|name| !got.contains(&name))
        }) {
            pause(Duration::from_millis(100)).await;
        }
    };
    // The check reports what is still missing then.
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
    let take = |watched: &Arc<Mutex<Watched>>| {
        let mut watched = watched.lock().expect("nobody panics while writing");
        let (events, refused) =
            (std::mem::take(&mut watched.events), std::mem::take(&mut watched.refused));
        Watched { events, refused, ..*watched }
    };
    watches.iter().map(take).collect()
}

impl Watched {
    /// The id by which an event is compared.
    pub fn name(&self, event: &Event) -> Option<Uuid> {
        if self.stream == Stream::Revocations { event.session } else { Some(event.id) }
    }

    /// The events that it must receive, in the order of their commits.
    pub fn expected<'a>(&'a self, tables: &'a Tables) -> impl Iterator<Item = Uuid> + 'a {
        let tenant = TENANTS[self.tenant];
        let mine = move |change: &&crate::tables::Change| {
            change.tenant == tenant && is_event(self.stream, change.kind) && !change.is_of_erased()
        };
        tables.trail.iter().filter(mine).filter_map(|change| {
            if self.stream == Stream::Revocations { change.session } else { Some(change.id) }
        })
    }
}
