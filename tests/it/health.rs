//! Health and its streams.

use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;

use crate::harness::start;

const SERVICES: [&str; 3] = ["", "sessiond.v1.SessionService", "sessiond.v1.AlertService"];
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_its_health() {
    let server = start().await;
    server.until_health(Serving).await;
    for service in SERVICES {
        assert_eq!(server.health(service).await.expect("an answer"), Serving, "{service:?}");
    }
    let unknown = server.health("sessiond.v1.NoSuchService").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_the_drain_and_ends() {
    let mut server = start().await;
    server.until_health(Serving).await;
    let mut streams = Vec::new();
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(server.channel()).watch(request).await.expect("a stream");
        let mut stream = answer.into_inner();
        let first = stream.next().await.expect("the state as it is").expect("ok");
        assert_eq!(first.status(), Serving, "{service:?}");
        streams.push(stream);
    }
    server.begin_stop();
    for mut stream in streams {
        let changed = async {
            let mut last = Serving;
            while let Some(Ok(next)) = stream.next().await {
                last = next.status();
            }
            last
        };
        assert_eq!(tokio::time::timeout(SOON, changed).await.expect("the stream ends"), NotServing);
    }
    tokio::time::timeout(SOON, server.stop()).await.expect("no stream holds up the end");
}
