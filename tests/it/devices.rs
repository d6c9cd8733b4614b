//! The device of a session: the caller's description, else that of the user agent.

use sessiond::grpc::pb;

use crate::harness::creates::{create, kept};
use crate::harness::start;

const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1";

fn from(user_agent: &str, device: pb::DeviceContext) -> pb::CreateSessionRequest {
    let client = pb::ClientContext {
        user_agent: user_agent.to_owned(),
        device: Some(device),
        ..pb::ClientContext::default()
    };
    create(|request| request.client = Some(client))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_agent_tells_the_device_and_what_is_stated_wins() {
    let server = start().await;
    let nothing = pb::DeviceContext::default;
    let device = async |request| kept(&server, request).await.device.expect("a device");

    let shown = device(from(SAFARI, nothing())).await;
    assert_eq!(shown.r#type(), pb::DeviceType::Mobile);
    assert_eq!((&*shown.os, &*shown.browser, &*shown.platform), ("iOS 18", "Safari 18", ""));

    let stated = pb::DeviceContext {
        r#type: pb::DeviceType::Tablet as i32,
        platform: "iPadOS 18.1".to_owned(),
        ..nothing()
    };
    let shown = device(from(SAFARI, stated)).await;
    assert_eq!(shown.r#type(), pb::DeviceType::Tablet);
    assert_eq!((&*shown.os, &*shown.platform), ("iPadOS 18.1", "iPadOS 18.1"));
    assert_eq!(shown.browser, "Safari 18");

    let unknown = device(from("", nothing())).await;
    assert_eq!(unknown.r#type(), pb::DeviceType::Unspecified);
    assert_eq!((&*unknown.os, &*unknown.browser), ("", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_does_not_change_the_device() {
    let server = start().await;
    let request = from(SAFARI, pb::DeviceContext::default());
    let created = server.try_create(request).await.expect("a session");
    let request = pb::RefreshSessionRequest {
        refresh_token: created.tokens.expect("tokens").refresh_token,
        client: Some(pb::ClientContext {
            user_agent: "curl/8.10.1".to_owned(),
            ..pb::ClientContext::default()
        }),
    };
    let refreshed = server.sessions().refresh_session(request).await.expect("a refresh");
    let session = refreshed.into_inner().session.expect("a session");
    assert_eq!(session.user_agent, "curl/8.10.1");
    assert_eq!(session.device, created.session.expect("a session").device);
}
