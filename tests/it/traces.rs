//! Traces as a collector receives them: one span for each call, in the caller's trace, and no credential.

use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;
use sessiond::grpc::pb;
use tonic::Request;

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::collector::Collector;
use crate::harness::process::{Place, client};

/// From the example of W3C Trace Context, section 3.2.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn method(span: &Span) -> String {
    let methods = span.attributes.iter().filter(|attribute| attribute.key == "method");
    format!("{:?}", methods.map(|attribute| &attribute.value).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_a_span_of_its_callers_trace_and_tells_no_credential() {
    let (collector, endpoint) = Collector::start().await;
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&["--otlp-endpoint", &endpoint], &env);
    let mut client = client(process.addr().await).await;

    let created = client.create_session(new_session("ada")).await.expect("a session");
    let (_, access, refresh) = parts(created.get_ref());
    let validate = |access_token: &str| pb::ValidateSessionRequest {
        access_token: access_token.to_owned(),
        ..Default::default()
    };
    let mut traced = Request::new(validate(&access));
    let parent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    traced.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
    client.validate_session(traced).await.expect("a judgement");
    // Its caller has not sampled the trace, so it is not sent.
    let mut unsampled = Request::new(pb::GetJsonWebKeySetRequest {});
    let parent = format!("00-{}-00f067aa0ba902b7-00", "5".repeat(32));
    unsampled.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
    client.get_json_web_key_set(unsampled).await.expect("keys");
    let request = pb::RefreshSessionRequest { refresh_token: "rt1_none".to_owned(), client: None };
    client.refresh_session(request).await.expect_err("no token");
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success(), "what was queued is sent at the end");

    let spans = collector.spans();
    let of = |name: &str| {
        let named =
            |span: &&Span| method(span).contains(&format!("/sessiond.v1.SessionService/{name}\""));
        spans.iter().filter(named).collect::<Vec<_>>()
    };
    for name in ["CreateSession", "ValidateSession", "RefreshSession"] {
        assert_eq!(of(name).len(), 1, "{name} in {spans:?}");
    }
    assert_eq!(of("GetJsonWebKeySet").len(), 0);
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&of("ValidateSession")[0].trace_id), TRACE_ID);
    assert_ne!(hex(&of("CreateSession")[0].trace_id), TRACE_ID);
    let text = collector.text();
    for secret in [&access, &refresh, &*MASTER_KEY] {
        assert!(!text.contains(secret), "{secret} was sent");
    }
}
