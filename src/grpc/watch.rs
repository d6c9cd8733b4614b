//! Streams of events for both services: cursors, heartbeats, and how a stream ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use tracing::Instrument;

use crate::cache::feed::{Subscription, WatchSettings};
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::grpc::auth::AuthenticatedCaller;
use crate::grpc::convert::watch::Wish;
use crate::grpc::error::explain;
use crate::model::feed::Position;
use crate::token::cursor::Cursors;

/// The buffer of a stream, in messages. Further messages are not created before the caller reads some.
const WAITING: usize = 32;

/// The stream of a watch, which ends with a status.
pub type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The state that all streams share.
pub struct Streams {
    cursors: Cursors,
    settings: WatchSettings,
    clock: Clock,
    drain: CancellationToken,
}

/// The parameters of a stream.
pub struct Terms {
    /// The method, tenant and filter that the cursors are bound to.
    pub scope: Vec<u8>,
    pub input: Wish,
    /// The caller's timeout; `None` = no limit.
    pub deadline: Option<Duration>,
    /// The caller of the stream.
    pub standing: AuthenticatedCaller,
    /// The timeline of the database when the stream begins.
    pub timeline: u32,
}

impl Streams {
    /// Streams end when `drain` is cancelled.
    pub fn new(
        cursors: Cursors,
        settings: WatchSettings,
        clock: Clock,
        drain: CancellationToken,
    ) -> Streams {
        Streams { cursors, settings, clock, drain }
    }

    /// Waits for a reason to end a stream: shutdown, the caller's deadline, or the loss of the caller's permission.
    pub fn end(
        &self,
        wait: Option<Duration>,
        standing: AuthenticatedCaller,
    ) -> impl Future<Output = Status> + Send + 'static {
        let (drain, deadline) = (self.drain.clone(), wait.map(|wait| Instant::now() + wait));
        async move {
            tokio::select! {
                () = drain.cancelled() => Error::Stopping.into(),
                lost = standing.lost() => lost,
                () = passed(deadline) => {
                    explain(Status::deadline_exceeded("the stream is at its deadline"))
                }
            }
        }
    }

    /// Writes a cursor of a stream that began on a timeline of the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if another database server was promoted since: it may assign ids again that were sent.
    pub fn cursor(
        &self,
        (scope, timeline): (&[u8], u32),
        position: &Position,
        at: Time,
    ) -> Result<String> {
        let cursor = self.cursors.write(scope, position, at)?;
        match self.cursors.timeline() == timeline {
            true => Ok(cursor),
            false => {
                Err(Error::Unavailable(Outage::Unreachable("a server was promoted".to_owned())))
            }
        }
    }

    /// The position of the caller's cursor; `None` = start now.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`], [`Error::CursorExpired`], [`Error::Unavailable`].
    pub async fn position(&self, terms: &Terms) -> Result<Option<Position>> {
        match terms.input.cursor.as_str() {
            "" => Ok(None),
            cursor => self.cursors.read(&terms.scope, cursor, self.clock.now()).await.map(Some),
        }
    }

    /// Sends the events of `watch` from a task of its own, which detects callers that do not read.
    pub fn send<E, T>(
        self: &Arc<Streams>,
        watch: Subscription<E>,
        terms: Terms,
        encode: fn(Option<E>, String) -> T,
    ) -> Response<Events<T>>
    where
        E: Send + 'static,
        T: Send + 'static,
    {
        let streams = self.clone();
        self.open(terms.deadline, terms.standing.clone(), async move |room| {
            streams.pump(watch, &terms, encode, &room).await
        })
    }

    /// Opens a stream of the messages that `pump` sends, in a task of its own. The status of `pump` ends the stream.
    pub fn open<T, F>(
        &self,
        deadline: Option<Duration>,
        standing: AuthenticatedCaller,
        pump: impl FnOnce(mpsc::Sender<T>) -> F,
    ) -> Response<Events<T>>
    where
        T: Send + 'static,
        F: Future<Output = Status> + Send + 'static,
    {
        let (room, messages) = mpsc::channel(WAITING);
        let (pumping, stop) = (pump(room.clone()), self.end(deadline, standing));
        let sending = async move {
            let end = tokio::select! {
                end = pumping => end,
                end = stop => end,
                // The caller has left.
                () = room.closed() => Status::cancelled("the caller is gone"),
            };
            tracing::debug!(code = ?end.code(), "watch ended");
            end
        };
        let end = tokio::spawn(sending.in_current_span());
        let events = stream::unfold((messages, Some(end)), |(mut messages, end)| async {
            if let Some(message) = messages.recv().await {
                return Some((Ok(message), (messages, end)));
            }
            let status = end?.await.unwrap_or_else(|error| match error.is_panic() {
                true => Error::Internal(error.into()).into(),
                false => Error::Stopping.into(),
            });
            Some((Err(status), (messages, None)))
        });
        Response::new(Box::pin(events))
    }

    /// Writes and reads cursors.
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// How long a caller with a full buffer may read nothing.
    pub fn patience(&self) -> Duration {
        self.settings.patience
    }

    /// Sends events and heartbeats until the stream ends, and returns the final status.
    async fn pump<E, T>(
        &self,
        mut watch: Subscription<E>,
        terms: &Terms,
        encode: fn(Option<E>, String) -> T,
        room: &mpsc::Sender<T>,
    ) -> Status {
        let silence = terms.input.heartbeat.unwrap_or(self.settings.heartbeat);
        // The first message is a heartbeat: its cursor marks where the events begin.
        let mut event = None;
        loop {
            let of = (&terms.scope[..], terms.timeline);
            let cursor = self.cursor(of, &watch.position(), self.clock.now());
            let cursor = match cursor {
                Ok(cursor) => cursor,
                Err(error) => return error.into(),
            };
            match timeout(self.settings.patience, room.send(encode(event, cursor))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Status::cancelled("the caller is gone"),
                Err(_) => return Error::WatchTooSlow.into(),
            }
            event = match watch.next(Instant::now() + silence).await {
                Ok(event) => event,
                Err(error) => return error.into(),
            };
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
