//! The honest caller.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustls::ClientConfig;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;

use crate::pki;
use crate::server::Server;

/// Asks from a thread of its own for as long as the process lives.
pub struct Honest(Arc<Mutex<Vec<f64>>>);

/// What it saw in a while.
pub struct Seen {
    pub p99: f64,
    pub calls: usize,
}

impl Honest {
    pub fn start(server: &Server) -> anyhow::Result<Honest> {
        let times = Arc::new(Mutex::new(Vec::new()));
        let kept = times.clone();
        let (addr, tls, key) = (server.addr, server.tls.clone(), server.honest.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            // Its silence fails the measurement; an attack that fails by itself says more than this. At the end
            // nobody waits for it any more.
            let asked = runtime.block_on(ask(addr, tls, key, &kept));
            if let Err(error) = asked
                && Arc::strong_count(&kept) > 1
            {
                eprintln!("the honest caller is served no more: {error:#}");
            }
        });
        Ok(Honest(times))
    }

    /// What it saw while `work` was done.
    pub async fn over(
        &self,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Seen> {
        self.take();
        work.await?;
        let mut times = self.take();
        ensure!(times.len() > 100, "only {} answers", times.len());
        times.sort_unstable_by(f64::total_cmp);
        Ok(Seen { p99: times[times.len() * 99 / 100], calls: times.len() })
    }

    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

async fn ask(
    addr: SocketAddr,
    tls: Option<ClientConfig>,
    key: Option<String>,
    times: &Mutex<Vec<f64>>,
) -> anyhow::Result<()> {
    let endpoint = Channel::from_shared(format!("http://{addr}"))?.tcp_nodelay(true);
    let channel = match tls {
        None => endpoint.connect().await?,
        Some(config) => pki::channel(addr, config),
    };
    let key: Option<AsciiMetadataValue> =
        key.map(|key| format!("Bearer {key}").parse()).transpose()?;
    let mut client =
        SessionServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
            if let Some(key) = &key {
                request.metadata_mut().insert("authorization", key.clone());
            }
            Ok(request)
        });
    let request = pb::CreateSessionRequest {
        user_id: "honest".to_owned(),
        client_id: "web".to_owned(),
        ..Default::default()
    };
    let created = client.create_session(request).await?.into_inner();
    let access_token = created.tokens.context("tokens")?.access_token;
    loop {
        let access_token = access_token.clone();
        let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
        let begun = Instant::now();
        let judged = client.validate_session(request).await?;
        let took = begun.elapsed().as_secs_f64();
        if judged.get_ref().outcome() != pb::Outcome::Active {
            bail!("{judged:?}");
        }
        times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(took);
        // As often as it is worth measuring, so that it is no load by itself.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
