//! Those who ask, one question after the other, and what they hold the answers to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::grpc::pb::validate_sessions_response::Result as PbResult;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::Args;
use crate::machine::Spent;

/// HTTP/2 connections that the callers share.
const CONNECTIONS: usize = 2;

/// A client that shows an API key, if it has one.
pub type Client = SessionServiceClient<InterceptedService<Channel, Key>>;

/// The value of `authorization`; `None` = none is sent.
#[derive(Clone)]
pub struct Key(Option<AsciiMetadataValue>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// A process that answers.
pub struct Server {
    channels: Vec<Channel>,
    key: Key,
    pub pid: u32,
    /// Its Postgres, if it has one.
    pub postgres: u32,
}

/// How it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Unary,
    Stream,
}

/// What a round took.
pub struct Figures {
    pub took: Duration,
    /// Of the process that answers, in microseconds per call.
    pub cpu: f64,
    /// The same of Postgres, and of those who ask.
    pub postgres: f64,
    pub callers: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    /// Percent of the machine.
    pub stolen: f64,
}

impl Server {
    pub async fn connect(
        addr: &str,
        key: Option<&str>,
        pid: u32,
        postgres: u32,
    ) -> anyhow::Result<Server> {
        let key = Key(key.map(|key| format!("Bearer {key}").parse()).transpose()?);
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = Channel::from_shared(format!("http://{addr}"))?.tcp_nodelay(true);
            channels.push(channel.connect().await?);
        }
        Ok(Server { channels, key, pid, postgres })
    }

    pub fn client(&self, caller: usize) -> Client {
        SessionServiceClient::with_interceptor(
            self.channels[caller % CONNECTIONS].clone(),
            self.key.clone(),
        )
    }
}

/// Which session each call asks about, the same in every round.
pub fn indices(sessions: u32, calls: u32, zipf: bool) -> Arc<[u32]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let pick = |random: f64| match zipf {
        // The inverse of the continuous form of Zipf's law with exponent 1.
        true => (f64::from(sessions).powf(random) as u32 - 1).min(sessions - 1),
        false => (random * f64::from(sessions)) as u32,
    };
    (0..calls).map(|_| pick(random())).collect()
}

/// Asks for all of `asked` once.
pub async fn run(
    server: &Server,
    way: Way,
    args: &Args,
    tokens: &Arc<[String]>,
    asked: &Arc<[u32]>,
) -> anyhow::Result<Figures> {
    let next = Arc::new(AtomicUsize::new(0));
    let (before, begun) = (Spent::read(Some(server.pid), server.postgres), Instant::now());
    let mut tasks = Vec::new();
    let callers = if way == Way::Stream { CONNECTIONS } else { args.callers as usize };
    for caller in 0..callers {
        let (client, tokens, asked) = (server.client(caller), tokens.clone(), asked.clone());
        let next = next.clone();
        let share = asked.len() / callers;
        tasks.push(tokio::spawn(async move {
            match way {
                Way::Unary => one_by_one(client, &tokens, &asked, &next).await,
                Way::Stream => all_at_once(client, tokens, asked, caller * share, share).await,
            }
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let (took, after) = (begun.elapsed(), Spent::read(Some(server.pid), server.postgres));
    times.sort_unstable_by(f64::total_cmp);
    let at =
        |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    let calls = asked.len() as f64;
    Ok(Figures {
        took,
        cpu: (after.server - before.server) * 1e6 / calls,
        postgres: (after.postgres - before.postgres) * 1e6 / calls,
        callers: (after.callers - before.callers) * 1e6 / calls,
        per_second: calls / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        stolen: after.stolen_since(&before),
    })
}

async fn one_by_one(
    mut client: Client,
    tokens: &[String],
    asked: &[u32],
    next: &AtomicUsize,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    while let Some(index) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        let answer = client.validate_session(question(&tokens[*index as usize])).await?;
        times.push(begun.elapsed().as_secs_f64());
        ensure!(answer.get_ref().outcome() == pb::Outcome::Active, "not active: {answer:?}");
    }
    Ok(times)
}

async fn all_at_once(
    mut client: Client,
    tokens: Arc<[String]>,
    asked: Arc<[u32]>,
    from: usize,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    let questions = stream::iter(from..from + count).map(move |at| pb::ValidateSessionsRequest {
        correlation_id: "1".to_owned(),
        request: Some(question(&tokens[asked[at] as usize])),
    });
    let mut answers = client.validate_sessions(questions).await?.into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.next().await {
        let result = answer?.result.context("an answer")?;
        let PbResult::Response(judged) = result else { anyhow::bail!("a failure: {result:?}") };
        ensure!(judged.outcome() == pb::Outcome::Active, "not active: {judged:?}");
        answered += 1;
    }
    ensure!(answered == count, "{answered} answers of {count}");
    Ok(Vec::new())
}

pub fn question(token: &str) -> pb::ValidateSessionRequest {
    pb::ValidateSessionRequest { access_token: token.to_owned(), ..Default::default() }
}
