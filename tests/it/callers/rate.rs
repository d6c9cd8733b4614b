//! The rate limit of a principal.

use sessiond::caller::permissions::Role;
use tonic::Code;
use tonic_types::StatusExt;

use super::well_formed::well_formed;
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::reason;
use crate::harness::{start_with, wait};

const LIST: &str = "sessiond.v1.SessionService/ListSessions";
const STATS: &str = "sessiond.v1.SessionService/GetSessionStats";

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_calls_too_often_waits_and_others_do_not() {
    let server = start_with(|settings| {
        authenticated(settings);
        settings.rate_limit = 1;
    })
    .await;
    let busy = server.key("busy", &grant(Role::Admin, &["*"])).await.text;
    let other = server.key("other", &grant(Role::Admin, &["*"])).await.text;
    server.call(LIST, well_formed(LIST), Some(&busy)).await.expect("the first");
    // The next call is refused, unless the machine is too slow to reach the limit.
    let mut refused = None;
    wait::until(async || {
        refused = server.call(LIST, well_formed(LIST), Some(&busy)).await.err();
        refused.is_some()
    })
    .await;
    let status = refused.expect("a refusal");
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "RATE_LIMITED"));
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a wait");
    assert!(wait <= std::time::Duration::from_millis(1001), "{wait:?}");
    server.call(STATS, well_formed(STATS), Some(&busy)).await.expect("another method");
    server.call(LIST, well_formed(LIST), Some(&other)).await.expect("another principal");
    // After the wait the principal may call again.
    wait::until(async || server.call(LIST, well_formed(LIST), Some(&busy)).await.is_ok()).await;
}
