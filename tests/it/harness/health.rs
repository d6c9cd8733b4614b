//! `grpc.health.v1`.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::TestServer;
use super::wait;

impl TestServer {
    /// The health of a service; empty = the server.
    pub async fn health(&self, service: &str) -> Result<ServingStatus, tonic::Status> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(self.channel()).check(request).await?;
        Ok(answer.into_inner().status())
    }

    /// Waits until the server reports this health.
    pub async fn until_health(&self, expected: ServingStatus) {
        wait::until(async || self.health("").await.is_ok_and(|found| found == expected)).await;
    }
}
