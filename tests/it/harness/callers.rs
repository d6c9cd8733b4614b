//! Principals and keys, and calls as them.

use std::time::Duration;

use prost::bytes::{Buf, BufMut};
use sessiond::caller::authenticator::Callers;
use sessiond::caller::manage::{Grant, Manage, NewKey};
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::model::caller::operator::Operator;
use sessiond::server::Settings;
use sessiond::store::pool::Database;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::TestServer;

/// Refuses callers without credentials.
pub fn authenticated(settings: &mut Settings) {
    settings.callers = Callers::Authenticated;
}

/// Adds a key to each call, if it has one.
#[derive(Clone)]
pub struct Credentials(Option<AsciiMetadataValue>);

impl Credentials {
    pub fn of(key: Option<&str>) -> Credentials {
        Credentials(key.map(|key| format!("Bearer {key}").parse().expect("ASCII")))
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

pub type As = InterceptedService<Channel, Credentials>;

/// A grant of one role for these tenants.
pub fn grant(role: Role, tenants: &[&str]) -> Grant {
    let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
    Grant { roles: vec![role], tenants, ..Grant::default() }
}

/// The same, and certificates that name the principal are accepted.
pub fn grant_with_certificates(role: Role, tenants: &[&str]) -> Grant {
    Grant { accepts_certificates: true, ..grant(role, tenants) }
}

impl TestServer {
    /// The operator's commands, with the test's clock.
    pub fn manage(&self) -> Manage {
        let by = Operator::named("a test").expect("a name");
        Manage::new(Database::new(&self.db.url, 2).expect("a URL"), self.clock.clone(), by)
    }

    /// Creates a principal with a key that is valid for a day, and waits until the server accepts it.
    pub async fn key(&self, name: &str, grant: &Grant) -> NewKey {
        let day = Duration::from_secs(86_400);
        let key = self.manage().create_key(name, day, Some(grant)).await.expect("a key");
        self.until_known(&key).await;
        key
    }

    /// Waits until the server accepts a key.
    pub async fn until_known(&self, key: &NewKey) {
        let method = "sessiond.v1.SessionService/GetJsonWebKeySet";
        super::wait::until(async || {
            let refused = self.call(method, Vec::new(), Some(&key.text)).await.err();
            refused.is_none_or(|status| status.code() != tonic::Code::Unauthenticated)
        })
        .await;
    }

    pub fn sessions_as(&self, key: &str) -> SessionServiceClient<As> {
        SessionServiceClient::with_interceptor(self.channel(), Credentials::of(Some(key)))
    }

    pub fn alerts_as(&self, key: &str) -> AlertServiceClient<As> {
        AlertServiceClient::with_interceptor(self.channel(), Credentials::of(Some(key)))
    }

    /// Calls any method, `package.Service/Method`, with an encoded message. Returns its answer, or the first message of
    /// its stream.
    pub async fn call(
        &self,
        method: &str,
        body: Vec<u8>,
        key: Option<&str>,
    ) -> Result<Vec<u8>, Status> {
        let channel = InterceptedService::new(self.channel(), Credentials::of(key));
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.expect("the server accepts");
        let path = format!("/{method}").parse().expect("a path");
        let asked = Request::new(futures_util::stream::once(async { body }));
        let answered = async {
            let mut answers = grpc.streaming(asked, path, Raw).await?.into_inner();
            Ok(answers.message().await?.unwrap_or_default())
        };
        tokio::time::timeout(Duration::from_secs(60), answered).await.expect("an answer")
    }
}

/// Encodes and decodes messages as raw bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
