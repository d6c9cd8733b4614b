//! WatchRevocations, as `sessiond.v1.SessionService` serves it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};
use crate::grpc::auth::standing;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::convert::revocations as convert;
use crate::grpc::deadline;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::grpc::watch::{Events, Streams};
use crate::model::feed::Position;
use crate::session::watch_revocations::{RevocationMessage, RevocationStream};

/// Revocations per message.
const PER_MESSAGE: usize = 1000;

/// WatchRevocations.
pub(super) async fn watch(
    api: &SessionApi,
    request: Request<pb::WatchRevocationsRequest>,
) -> Result<Response<Events<pb::WatchRevocationsResponse>>, Status> {
    let (deadline, standing) = (deadline::stated(request.metadata()), standing(&request));
    let (tenant, cursor, heartbeat) = convert::watch(tenanted(request)?)?;
    let scope = format!("WatchRevocations\0{tenant}\0").into_bytes();
    let timeline = api.streams.cursors().timeline();
    let from = match cursor.as_str() {
        "" => None,
        cursor => match api.streams.cursors().read(&scope, cursor, api.clock.now()).await {
            Ok(position) => Some(position.end().clone()),
            Err(Error::CursorExpired) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let following = api.watch_revocations.follow(tenant, from)?;
    let streams = api.streams.clone();
    Ok(api.streams.open(deadline, standing, async move |room| {
        forward(following, &streams, (&scope, timeline), heartbeat, &room).await
    }))
}

/// Sends revocations until the stream ends, and returns the final status.
async fn forward(
    mut following: RevocationStream,
    streams: &Arc<Streams>,
    of: (&[u8], u32),
    heartbeat: Duration,
    room: &mpsc::Sender<pb::WatchRevocationsResponse>,
) -> Status {
    let mut sent_at: Option<Instant> = None;
    loop {
        let mut message = match following.next().await {
            Ok(message) => message,
            Err(error) => return error.into(),
        };
        let has_content =
            message.resync || message.through.is_none() || !message.revocations.is_empty();
        if !has_content && sent_at.is_some_and(|at| at.elapsed() < heartbeat) {
            continue;
        }
        sent_at = Some(Instant::now());
        while message.revocations.len() > PER_MESSAGE {
            let rest = message.revocations.split_off(PER_MESSAGE);
            let revocations = std::mem::replace(&mut message.revocations, rest);
            let part = RevocationMessage { resync: message.resync, revocations, through: None };
            message.resync = false;
            if let Err(end) = send(streams, convert::to_pb_message(part, String::new()), room).await
            {
                return end;
            }
        }
        let cursor = message
            .through
            .as_ref()
            .map(|(to, at)| streams.cursor(of, &Position::After(to.clone().bounded()), *at));
        let cursor = match cursor.transpose() {
            Ok(cursor) => cursor.unwrap_or_default(),
            Err(error) => return error.into(),
        };
        let message = convert::to_pb_message(message, cursor);
        if let Err(end) = send(streams, message, room).await {
            return end;
        }
    }
}

async fn send<T>(streams: &Streams, message: T, room: &mpsc::Sender<T>) -> Result<(), Status> {
    match timeout(streams.patience(), room.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::cancelled("the caller is gone")),
        Err(_) => Err(Error::WatchTooSlow.into()),
    }
}
