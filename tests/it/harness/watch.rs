//! Watches, with a timeout for all waiting.

use std::time::Duration;

use sessiond::grpc::pb;
use tokio_postgres::Client;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::TestServer;

/// A message of a stream: an event or a heartbeat, with its cursor.
pub trait Message {
    type Event;
    fn parts(self) -> (Option<Self::Event>, String);
}

impl Message for pb::WatchSessionsResponse {
    type Event = pb::SessionEvent;
    fn parts(self) -> (Option<Self::Event>, String) {
        (self.event, self.cursor)
    }
}

impl Message for pb::WatchAlertsResponse {
    type Event = pb::AlertEvent;
    fn parts(self) -> (Option<Self::Event>, String) {
        (self.event, self.cursor)
    }
}

/// An open stream, past its first heartbeat.
pub struct Watcher<M> {
    stream: Streaming<M>,
    /// The cursor of the last message.
    pub cursor: String,
}

pub type SessionWatcher = Watcher<pb::WatchSessionsResponse>;

type SessionClient = pb::session_service_client::SessionServiceClient<Channel>;

impl SessionWatcher {
    pub async fn open(
        mut client: SessionClient,
        request: impl tonic::IntoRequest<pb::WatchSessionsRequest>,
    ) -> Result<SessionWatcher, Status> {
        Watcher::of(client.watch_sessions(request).await?.into_inner()).await
    }
}

impl<M: Message> Watcher<M> {
    async fn of(stream: Streaming<M>) -> Result<Watcher<M>, Status> {
        let mut watcher = Watcher { stream, cursor: String::new() };
        let first = watcher.message().await?;
        assert!(first.is_none(), "the first message is a heartbeat");
        Ok(watcher)
    }

    /// The next message; `None` for a heartbeat.
    pub async fn message(&mut self) -> Result<Option<M::Event>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.stream.message());
        let message = next.await.expect("a message, within a minute")?;
        let (event, cursor) = message.expect("a stream ends with a status").parts();
        self.cursor = cursor;
        Ok(event)
    }

    /// The next event; skips heartbeats.
    pub async fn event(&mut self) -> Result<M::Event, Status> {
        let next = async {
            loop {
                if let Some(event) = self.message().await? {
                    return Ok(event);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), next)
            .await
            .expect("an event, within a minute")
    }

    /// That many events.
    pub async fn events(&mut self, count: usize) -> Vec<M::Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await.expect("an event"));
        }
        events
    }

    /// The status at the end of the stream; skips all events.
    pub async fn end(&mut self) -> Status {
        let end = async {
            loop {
                if let Err(status) = self.message().await {
                    return status;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), end).await.expect("an end, within a minute")
    }

    /// Asserts that no event comes before two heartbeats, the second of which covers everything before the call.
    pub async fn assert_quiet(&mut self)
    where
        M::Event: std::fmt::Debug,
    {
        for _ in 0..2 {
            let event = self.message().await.expect("a message");
            assert!(event.is_none(), "{event:?}");
        }
    }
}

impl TestServer {
    /// Watches all sessions of the default tenant; an empty cursor starts now.
    pub async fn watch(&self, cursor: &str) -> SessionWatcher {
        let request = pb::WatchSessionsRequest { cursor: cursor.to_owned(), ..Default::default() };
        self.watch_sessions(request).await.expect("a watch")
    }

    pub async fn watch_sessions(
        &self,
        request: impl tonic::IntoRequest<pb::WatchSessionsRequest>,
    ) -> Result<SessionWatcher, Status> {
        SessionWatcher::open(self.sessions(), request).await
    }

    /// A watch on its own connection with a flow-control window of little more than 64 KiB.
    pub async fn watch_on_a_thin_line(&self) -> SessionWatcher {
        let line = self.line(|endpoint| {
            endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535)
        });
        let all = pb::WatchSessionsRequest::default();
        SessionWatcher::open(line.await, all).await.expect("a watch")
    }

    /// A client with its own connection.
    pub async fn another_line(&self) -> SessionClient {
        self.line(|endpoint| endpoint).await
    }

    async fn line(&self, change: impl FnOnce(Endpoint) -> Endpoint) -> SessionClient {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addr)).expect("an address");
        SessionClient::new(change(endpoint).connect().await.expect("the server accepts"))
    }

    pub async fn watch_alerts(
        &self,
        request: pb::WatchAlertsRequest,
    ) -> Result<Watcher<pb::WatchAlertsResponse>, Status> {
        Watcher::of(self.alerts().watch_alerts(request).await?.into_inner()).await
    }
}

/// Inserts session events of `user`, with generations that begin with `from`, in one transaction.
pub async fn insert(client: &Client, user: &str, from: i32, count: i32) {
    client.execute(INSERT, &[&user, &from, &count]).await.expect("rows");
}

pub const INSERT: &str = "INSERT INTO session_activities
    (tenant_id, user_id, occurred_at, activity_id, session_id, kind, generation, principal)
    SELECT 'default', $1, timestamptz '2026-03-14' + g * interval '1 ms', gen_random_uuid(),
        gen_random_uuid(), 2, g, 'test'
    FROM generate_series($2::int, $2::int + $3::int - 1) g";
