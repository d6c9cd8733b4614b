//! Health, its streams, and what reflection shows.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb;

use crate::harness::start;

const SERVICES: [&str; 3] = ["", "sessiond.v1.SessionService", "sessiond.v1.AlertService"];
const SOON: Duration = Duration::from_secs(5);

/// The two versions of the protocol have the same shape and different types.
macro_rules! services {
    ($server:expr, $version:ident) => {{
        use pb::$version::server_reflection_client::ServerReflectionClient;
        use pb::$version::server_reflection_request::MessageRequest;
        use pb::$version::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request =
            pb::$version::ServerReflectionRequest { message_request, ..Default::default() };
        let mut client = ServerReflectionClient::new($server.channel());
        let answer = client.server_reflection_info(tokio_stream::once(request)).await.expect("ok");
        let message = answer.into_inner().next().await.expect("an answer").expect("ok");
        let Some(MessageResponse::ListServicesResponse(list)) = message.message_response else {
            panic!("not a list");
        };
        let names: BTreeSet<String> =
            list.service.into_iter().map(|service| service.name).collect();
        names
    }};
}

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
        let told = async {
            let mut last = Serving;
            while let Some(Ok(next)) = stream.next().await {
                last = next.status();
            }
            last
        };
        assert_eq!(tokio::time::timeout(SOON, told).await.expect("the stream ends"), NotServing);
    }
    tokio::time::timeout(SOON, server.stop()).await.expect("no stream holds up the end");
}

fn assert_listed(services: BTreeSet<String>) {
    let expected =
        ["sessiond.v1.AlertService", "grpc.health.v1.Health", "sessiond.v1.SessionService"];
    for service in expected {
        assert!(services.contains(service), "{service} is not among {services:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_in_both_versions() {
    let server = start().await;
    assert_listed(services!(server, v1));
    assert_listed(services!(server, v1alpha));
}
