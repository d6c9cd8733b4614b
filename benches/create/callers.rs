//! Those who call the server, and what they hold its answers to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

use crate::cluster::USERS;

/// One caller: the next create as soon as the last is answered. Returns what each took, in seconds.
pub async fn call(
    channel: Channel,
    next: Arc<AtomicU32>,
    first: u32,
    creates: u32,
) -> anyhow::Result<Vec<f64>> {
    let mut client = SessionServiceClient::new(channel);
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= creates {
            return Ok(times);
        }
        let user = format!("user-{}", scatter(first + number) % USERS + 1);
        let request = request(user.clone());
        let begun = Instant::now();
        let answer = client.create_session(request).await?.into_inner();
        times.push(begun.elapsed().as_secs_f64());
        check(&answer, &user)?;
    }
}

/// The same content as the control's rows.
fn request(user_id: String) -> pb::CreateSessionRequest {
    let device = pb::DeviceContext {
        display_name: "Firefox on Linux".to_owned(),
        r#type: pb::DeviceType::Web.into(),
        platform: "Linux".to_owned(),
        ..Default::default()
    };
    let location = pb::Location {
        country_code: "DE".to_owned(),
        city: "Berlin".to_owned(),
        ..Default::default()
    };
    let user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    pb::CreateSessionRequest {
        user_id,
        client_id: "web".to_owned(),
        client: Some(pb::ClientContext {
            ip_address: "192.0.2.7".to_owned(),
            user_agent: user_agent.to_owned(),
            location: Some(location),
            device: Some(device),
        }),
        authentication: Some(pb::Authentication {
            acr: "silver".to_owned(),
            amr: vec!["pwd".to_owned(), "otp".to_owned()],
            auth_time: None,
        }),
        ..Default::default()
    }
}

fn check(answer: &pb::CreateSessionResponse, user: &str) -> anyhow::Result<()> {
    let session = answer.session.as_ref().context("an answer without a session")?;
    let tokens = answer.tokens.as_ref().context("an answer without tokens")?;
    let sound = session.user_id == user
        && session.state() == pb::SessionState::Active
        && !tokens.access_token.is_empty()
        && !tokens.refresh_token.is_empty()
        && answer.terminated_sessions.is_empty();
    ensure!(sound, "a wrong answer: {answer:?}");
    Ok(())
}

/// Spreads numbers evenly, the same way in every run (the finisher of MurmurHash3).
fn scatter(number: u32) -> u32 {
    let mut h = number;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}
