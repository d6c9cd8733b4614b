//! Another client, which must be served whatever happens to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::TestServer;
use super::calls::parts;
use super::wait;

/// Validates a token of an active session continuously, on its own connection.
pub struct Bystander {
    served: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Bystander {
    pub async fn before(server: &TestServer) -> Bystander {
        let (_, access_token, _) = parts(&server.create("bystander").await);
        let channel = server.another_channel().await;
        Bystander::over(channel, access_token)
    }

    fn over(channel: Channel, access_token: String) -> Bystander {
        let (served, stop) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let (count, stopped) = (served.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut client = SessionServiceClient::new(channel);
            while !stopped.load(Ordering::SeqCst) {
                let access_token = access_token.clone();
                let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
                let judged = client.validate_session(request).await.expect("a judgement");
                assert_eq!(judged.into_inner().outcome(), pb::Outcome::Active);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        Bystander { served, stop, task }
    }

    /// Waits until more of its calls were served, then ends it.
    ///
    /// # Panics
    /// If one of its calls was refused.
    pub async fn leave(self) {
        let before = self.served.load(Ordering::SeqCst);
        wait::until(async || {
            self.task.is_finished() || self.served.load(Ordering::SeqCst) > before + 20
        })
        .await;
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("always served");
        assert!(self.served.load(Ordering::SeqCst) > 20);
    }
}
