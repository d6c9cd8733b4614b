//! The following task: fetches keys periodically, and streams revocations.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Shared;
use super::credentials::GatewayCredentials;
use super::revoked::{RevocationSet, time};
use crate::grpc::pb;
use crate::grpc::pb::session_service_client::SessionServiceClient;

/// The pause between two attempts to connect: the first, and the longest.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// The longest interval between two fetches of the keys.
const KEYS_FOR: Duration = Duration::from_secs(300);
/// The shortest interval between two fetches, however many tokens need one.
const KEYS_LEAST: Duration = Duration::from_secs(1);
/// The most time for the first keys and revocations.
const BEGIN: Duration = Duration::from_secs(5);
/// The longest silence of a stream. The service sends its time several times a second, or ends the stream.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the service's time is used before another stream measures it again; and the shortest interval, if it is
/// off. In a minute, clocks that are off by 50 parts per million drift apart by 3 ms.
const TIME_FOR: Duration = Duration::from_secs(60);
const TIME_LEAST: Duration = Duration::from_secs(2);
/// A clock further behind was set: this is more than drift, and more than the corrections of the service's clock.
const DRIFT: Duration = Duration::from_millis(10);

type Stream = Streaming<pb::WatchRevocationsResponse>;

/// Follows the service for one gateway.
pub(super) struct Follower {
    client: SessionServiceClient<InterceptedService<Channel, GatewayCredentials>>,
    shared: Arc<Shared>,
    stream: Option<Stream>,
    cursor: String,
    /// When the stream was requested; `None` once it has answered.
    pub(super) asked: Option<Instant>,
    /// When the last stream was requested, and when the last message arrived.
    opened_at: Instant,
    pub(super) received_at: Instant,
    /// The revocations of a resync that is not complete yet.
    afresh: Option<RevocationSet>,
    keys_at: Instant,
    evicted_at: Instant,
    running: bool,
}

impl Follower {
    pub fn new(channel: Channel, credentials: GatewayCredentials, shared: Arc<Shared>) -> Follower {
        let now = Instant::now();
        Follower {
            client: SessionServiceClient::with_interceptor(channel, credentials),
            shared,
            stream: None,
            cursor: String::new(),
            asked: None,
            opened_at: now,
            received_at: now,
            afresh: None,
            keys_at: now,
            evicted_at: now,
            running: false,
        }
    }

    /// Returns once keys and all revocations in force are cached.
    pub async fn begin(&mut self) -> Result<(), Status> {
        let beginning = async {
            self.fetch_keys().await?;
            self.open().await?;
            while self.shared.timing.now(Instant::now()).is_none() {
                self.take().await?;
            }
            Ok(())
        };
        let late = |_| Status::deadline_exceeded("the service did not begin to tell");
        tokio::time::timeout(BEGIN, beginning).await.map_err(late)?
    }

    /// Follows forever. Called again, because a run panicked, it fetches everything again.
    pub async fn run(&mut self) {
        if std::mem::replace(&mut self.running, true) {
            (self.stream, self.afresh) = (None, None);
            self.cursor.clear();
        }
        let mut wait = RETRY[0];
        let shared = self.shared.clone();
        loop {
            let keys_due = (self.keys_at + KEYS_FOR).saturating_duration_since(Instant::now());
            tokio::select! {
                took = self.step() => match took {
                    Ok(()) => wait = RETRY[0],
                    Err(error) => {
                        tracing::warn!(%error, "revocations cannot be followed");
                        self.stream = None;
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(RETRY[1]);
                    }
                },
                () = shared.keys.wanted.notified() => self.refresh_keys(KEYS_LEAST).await,
                () = tokio::time::sleep(keys_due) => self.refresh_keys(KEYS_LEAST).await,
            }
        }
    }

    async fn step(&mut self) -> Result<(), Status> {
        match self.stream {
            Some(_) => self.take().await,
            None => tokio::time::timeout(BEGIN, self.open())
                .await
                .map_err(|_| Status::deadline_exceeded("the service does not answer"))?,
        }
    }

    async fn open(&mut self) -> Result<(), Status> {
        let request = pb::WatchRevocationsRequest {
            tenant_id: self.shared.options.tenant.clone(),
            cursor: self.cursor.clone(),
            heartbeat_interval: None,
        };
        self.opened_at = Instant::now();
        self.asked = Some(self.opened_at);
        self.afresh = None;
        let opened = self.client.watch_revocations(request).await;
        if opened.as_ref().is_err_and(|refused| refused.code() == Code::InvalidArgument) {
            // The cursor is not from these servers, so the next stream must begin with a resync.
            self.cursor.clear();
        }
        self.stream = Some(opened?.into_inner());
        self.received_at = Instant::now();
        Ok(())
    }

    async fn take(&mut self) -> Result<(), Status> {
        let gone = || Status::unavailable("the stream has ended");
        let stream = self.stream.as_mut().ok_or_else(gone)?;
        let silent = |_| Status::deadline_exceeded("the service says nothing");
        // From the last message: a fetch of keys interrupts the wait.
        let message =
            tokio::time::timeout_at((self.received_at + SILENCE).into(), stream.message());
        let message = message.await.map_err(silent)??.ok_or_else(gone)?;
        self.received_at = Instant::now();
        self.apply(message);
        Ok(())
    }

    /// Applies a message that arrived at `received_at`.
    pub(super) fn apply(&mut self, message: pb::WatchRevocationsResponse) {
        let shared = &self.shared;
        if message.resync {
            self.afresh = Some(RevocationSet::new(shared.options.revocations));
        }
        let of_key = |message: &pb::Revocation| message.level() == pb::RevocationLevel::Key;
        if message.revocations.iter().any(of_key) {
            shared.keys.doubt();
        }
        let checked = message.checked_time.as_ref().and_then(time);
        {
            let mut revoked = shared.write();
            let into = self.afresh.as_mut().unwrap_or(&mut revoked);
            message.revocations.iter().for_each(|revocation| into.add(revocation));
            if let (Some(at), Some(afresh)) = (checked, self.afresh.take_if(|_| checked.is_some()))
            {
                *revoked = afresh;
                revoked.evict(at);
                shared.version.fetch_add(1, Ordering::AcqRel);
            } else if !message.revocations.is_empty() {
                shared.version.fetch_add(1, Ordering::AcqRel);
            }
            if let Some(at) = checked
                && self.evicted_at.elapsed() > Duration::from_secs(10)
            {
                revoked.evict(at);
                self.evicted_at = Instant::now();
            }
            if revoked.is_full() {
                // A full set has missed revocations: the next stream begins with a resync.
                self.cursor.clear();
            } else if !message.cursor.is_empty() {
                self.cursor = message.cursor;
            }
        }
        if let Some(at) = checked {
            let (timing, arrived) = (&shared.timing, self.received_at);
            // The first answer of a stream gives the time: the service made it after the request.
            if let Some(asked) = self.asked.take() {
                timing.answered(asked, at);
            }
            let was_set = timing.behind(at, arrived) > DRIFT;
            timing.checked(at, arrived);
            // The message or the request was delayed, or the service's clock was set back.
            let is_old = timing.age(arrived) > shared.options.bound * 3 / 4;
            let least = if was_set || is_old { TIME_LEAST } else { TIME_FOR };
            if self.opened_at.elapsed() > least {
                // Another stream resumes at the cursor, and measures the time.
                self.stream = None;
            }
        }
    }

    async fn refresh_keys(&mut self, least: Duration) {
        if self.keys_at.elapsed() < least {
            return;
        }
        if let Err(error) = self.fetch_keys().await {
            tracing::warn!(%error, "keys cannot be fetched; those known are used");
        }
    }

    async fn fetch_keys(&mut self) -> Result<(), Status> {
        self.keys_at = Instant::now();
        let mut request = tonic::Request::new(pb::GetJsonWebKeySetRequest {});
        request.set_timeout(BEGIN);
        let set = self.client.get_json_web_key_set(request).await?.into_inner();
        self.shared.keys.replace(&set, self.keys_at);
        Ok(())
    }
}
