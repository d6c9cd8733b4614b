//! Every method by every kind of certificate.

use rcgen::SanType;
use rustls::version::{TLS12, TLS13};
use sessiond::caller::permissions::{Permission, Role};
use sessiond::grpc::pb;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{bodies, changes, denied, methods, need, permits, well_formed};
use crate::harness::callers::{authenticated, grant, grant_with_certificates};
use crate::harness::calls::reason;
use crate::harness::pki::{Authority, Files, Leaf, channel, client_config, dns, uri};
use crate::harness::{TestServer, start_with, wait};

/// A server with TLS that requires credentials, and the authority of its callers.
async fn server(files: &Files) -> TestServer {
    start_with(|settings| {
        authenticated(settings);
        settings.tls = Some(files.settings(false));
    })
    .await
}

fn name(role: Role) -> String {
    format!("spiffe://example/{}", role.name())
}

/// Uses this certificate for all further calls.
fn show(server: &mut TestServer, authority: &Authority, leaf: Option<&Leaf>) {
    let config = client_config(&[authority], leaf, &[&TLS12, &TLS13]);
    server.speak_over(channel(server.addr, config));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_what_its_principal_may_and_a_nameless_one_nothing() {
    let (authority, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&authority.server(), Some(&clients));
    let mut server = server(&files).await;
    for role in Role::ALL {
        let granted = grant_with_certificates(*role, &["*"]);
        server.manage().set_principal(&name(*role), &granted).await.expect("a principal");
    }
    for role in Role::ALL {
        let leaf = clients.client(&[uri(&name(*role))]);
        show(&mut server, &authority, Some(&leaf));
        let may = |method: &String| permits(role.scopes(), method, false) == Some(true);
        let open = methods().into_iter().find(may).expect("a role is for something");
        let body = || well_formed(&open);
        wait::until(async || denied(server.call(&open, body(), None).await).is_none()).await;
        for method in methods() {
            for body in bodies(&method) {
                let Some(may) = permits(role.scopes(), &method, body.is_empty()) else { continue };
                let refused = denied(server.call(&method, body, None).await);
                let expected =
                    (!may).then(|| (Code::PermissionDenied, "CALLER_NOT_PERMITTED".to_owned()));
                assert_eq!(refused, expected, "{role:?} {method}");
            }
        }
    }
    let admin = name(Role::Admin);
    let both = [uri(&admin), uri(&name(Role::Gateway))];
    let nameless: [(&str, Vec<SanType>); 4] = [
        ("two URIs", both.to_vec()),
        ("two hosts", vec![dns("a.example"), dns("b.example")]),
        ("a common name only", Vec::new()),
        ("no principal", vec![uri("spiffe://example/stranger")]),
    ];
    let before = changes(&server).await;
    for (what, names) in nameless {
        show(&mut server, &authority, Some(&clients.client(&names)));
        refuses_all(&server, what).await;
    }
    show(&mut server, &authority, None);
    refuses_all(&server, "no certificate").await;
    assert_eq!(changes(&server).await, before);
}

async fn refuses_all(server: &TestServer, what: &str) {
    for method in methods() {
        if need(&method) == Permission::Nothing {
            continue;
        }
        for body in bodies(&method) {
            let status = server.call(&method, body, None).await.expect_err(what);
            assert_eq!(status.code(), Code::Unauthenticated, "{what}: {method}");
            assert_eq!(reason(&status), "CALLER_UNAUTHENTICATED");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_accepts_no_certificates_is_proven_by_its_key_alone() {
    let (authority, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&authority.server(), Some(&clients));
    let mut server = server(&files).await;
    show(&mut server, &authority, Some(&clients.client(&[uri("spiffe://example/keyed")])));
    let key = server.key("spiffe://example/keyed", &grant(Role::Admin, &["*"])).await;
    refuses_all(&server, "its certificate").await;
    let ping = "sessiond.v1.SessionService/GetJsonWebKeySet";
    server.call(ping, Vec::new(), Some(&key.text)).await.expect("its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_vouches_for_calls_nothing() {
    let (authority, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&authority.server(), Some(&clients));
    let mut server = server(&files).await;
    let admin = [uri(&name(Role::Admin))];
    server
        .manage()
        .set_principal(&name(Role::Admin), &grant_with_certificates(Role::Admin, &["*"]))
        .await
        .expect("a principal");
    let good = clients.client(&admin);
    show(&mut server, &authority, Some(&good));
    let ping = "sessiond.v1.SessionService/GetJsonWebKeySet";
    wait::until(async || server.call(ping, Vec::new(), None).await.is_ok()).await;
    for (what, leaf) in [
        ("another authority", Authority::new("clients").client(&admin)),
        ("issued by a leaf", clients.client(&admin).misused(&admin)),
    ] {
        show(&mut server, &authority, Some(&leaf));
        // The connection fails, so no method can be called, health included.
        let keys = server.sessions().get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await;
        assert!(keys.is_err(), "{what}");
        let health = HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await;
        assert!(health.is_err(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_a_key_name_the_same_principal() {
    let (authority, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&authority.server(), Some(&clients));
    let mut server = server(&files).await;
    show(&mut server, &authority, None);
    let (gateway, login) = (name(Role::Gateway), name(Role::Login));
    let of_gateway = server.key(&gateway, &grant(Role::Gateway, &["*"])).await.text;
    let of_login = server.key(&login, &grant(Role::Login, &["*"])).await.text;
    show(&mut server, &authority, Some(&clients.client(&[uri(&gateway)])));
    let method = "sessiond.v1.SessionService/ValidateSession";
    assert_eq!(denied(server.call(method, Vec::new(), Some(&of_gateway)).await), None);
    let refused = denied(server.call(method, Vec::new(), Some(&of_login)).await);
    assert_eq!(refused, Some((Code::Unauthenticated, "CALLER_UNAUTHENTICATED".to_owned())));
}
