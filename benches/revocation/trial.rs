//! One trial, and what became of many.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::BOUND;

/// Longer than anybody is asked in vain.
const GIVE_UP: Duration = Duration::from_secs(60);

type Client = SessionServiceClient<Channel>;

/// What became of the trials of a phase.
#[derive(Default)]
pub struct Outcome {
    pub trials: u32,
    /// In seconds.
    pub lags: Vec<f64>,
    pub unavailable: u64,
    pub violations: Vec<String>,
}

impl Outcome {
    pub fn add(&mut self, other: Outcome) {
        self.trials += other.trials;
        self.lags.extend(other.lags);
        self.unavailable += other.unavailable;
        self.violations.extend(other.violations);
    }

    /// Counts an answer that says neither; any other refusal is wrong.
    fn untold(&mut self, status: &Status) {
        match status.code() {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled => self.unavailable += 1,
            _ => self.violations.push(format!("refused: {status:?}")),
        }
    }

    pub fn describe(&self, name: &str) -> String {
        let (p50, p99, most) = self.spread();
        let mut text = format!(
            "{name}: {} trials, lag p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms; {} answers UNAVAILABLE; \
             {} violations",
            self.trials,
            p50 * 1e3,
            p99 * 1e3,
            most * 1e3,
            self.unavailable,
            self.violations.len()
        );
        for violation in self.violations.iter().take(5) {
            text.push_str(&format!("\n  {violation}"));
        }
        text
    }

    pub fn json(&self, name: &str) -> String {
        let (p50, p99, most) = self.spread();
        format!(
            "{{\"phase\":\"{name}\",\"trials\":{},\"p50\":{p50:.6},\"p99\":{p99:.6},\"max\":{most:.6},\
             \"unavailable\":{},\"violations\":{}}}",
            self.trials,
            self.unavailable,
            self.violations.len()
        )
    }

    fn spread(&self) -> (f64, f64, f64) {
        let mut lags = self.lags.clone();
        lags.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let index = ((lags.len() as f64 * share) as usize).min(lags.len().saturating_sub(1));
            lags.get(index).copied().unwrap_or(f64::NAN)
        };
        (at(0.5), at(0.99), at(1.0))
    }
}

/// Trials until `left` are done or `stop` is set, one after the other.
pub async fn many(
    clients: Vec<Client>,
    caller: u32,
    left: &AtomicU32,
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let control = create(&clients[0], &format!("control-{caller}"), &mut outcome).await;
    while !stop.load(Ordering::Relaxed) {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let Ok(number) = taken else { break };
        one(&clients, caller, number, &mut outcome).await;
        outcome.trials += 1;
        // One that nobody ended, asked somewhere.
        let somewhere = &clients[number as usize % clients.len()];
        match validate(somewhere, &control.1).await {
            Ok(pb::Outcome::Active) => {}
            Ok(other) => outcome.violations.push(format!("a session that lives was {other:?}")),
            Err(status) => outcome.untold(&status),
        }
    }
    Ok(outcome)
}

async fn one(clients: &[Client], caller: u32, number: u32, outcome: &mut Outcome) {
    let at = number as usize % clients.len();
    let (id, token) = create(&clients[at], &format!("user-{caller}-{number}"), outcome).await;
    for client in clients {
        let known = until(outcome, || validate(client, &token)).await;
        if known.is_some_and(|known| known != pb::Outcome::Active) {
            outcome.violations.push(format!("a session that was just created was {known:?}"));
        }
    }
    until(outcome, || terminate(&clients[at], &id)).await;
    let told = Instant::now();
    for (other, client) in clients.iter().enumerate() {
        loop {
            let asked = Instant::now();
            let since = asked.duration_since(told);
            match validate(client, &token).await {
                Ok(pb::Outcome::Active) if other == at || since >= BOUND => {
                    outcome.violations.push(format!("active {since:?} after it was ended"));
                    break;
                }
                Ok(pb::Outcome::Active) => {}
                Ok(_) => {
                    if other != at {
                        outcome.lags.push(since.as_secs_f64());
                    }
                    break;
                }
                Err(status) => outcome.untold(&status),
            }
            if since > GIVE_UP {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The id and the access token.
async fn create(client: &Client, user: &str, outcome: &mut Outcome) -> (String, String) {
    let answer = until(outcome, || async {
        let request = pb::CreateSessionRequest {
            user_id: user.to_owned(),
            client_id: "web".to_owned(),
            ..Default::default()
        };
        Ok(client.clone().create_session(request).await?.into_inner())
    });
    let created = answer.await.unwrap_or_default();
    (
        created.session.unwrap_or_default().session_id,
        created.tokens.unwrap_or_default().access_token,
    )
}

async fn validate(client: &Client, token: &str) -> Result<pb::Outcome, Status> {
    let mut request = tonic::Request::new(pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        ..Default::default()
    });
    // A replica that is stopped does not answer; the others are asked meanwhile.
    request.set_timeout(Duration::from_secs(40));
    Ok(client.clone().validate_session(request).await?.get_ref().outcome())
}

async fn terminate(client: &Client, id: &str) -> Result<(), Status> {
    let target = pb::terminate_session_request::Target::SessionId(id.to_owned());
    let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
    client.clone().terminate_session(request).await.map(|_| ())
}

/// Again and again until it is answered.
async fn until<T, F>(outcome: &mut Outcome, mut call: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    while begun.elapsed() < GIVE_UP {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(status) => outcome.untold(&status),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    outcome.violations.push("no answer for a minute".to_owned());
    None
}
