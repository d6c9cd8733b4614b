//! The control: answers every request with the same judgement, and does nothing else.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::task::{Context as TaskContext, Poll};

use anyhow::Context;
use prost::Message;
use sessiond::grpc::pb;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::callers::Server;

/// A running echo. Dropping it ends it.
pub struct Process {
    pub server: Server,
    child: Child,
}

impl Process {
    pub async fn start(
        judgement: &pb::ValidateSessionResponse,
        key: Option<&str>,
    ) -> anyhow::Result<Process> {
        let hex: String =
            judgement.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--echo", &hex])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the echo")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let server = Server::connect(line.trim(), key, child.id(), 0).await?;
        Ok(Process { server, child })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed; prints the address.
pub async fn serve(judgement: &str) -> anyhow::Result<()> {
    let bytes: Result<Vec<u8>, _> = (0..judgement.len() / 2)
        .map(|at| u8::from_str_radix(&judgement[2 * at..2 * at + 2], 16))
        .collect();
    let echo = Echo(pb::ValidateSessionResponse::decode(bytes?.as_slice())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().add_service(echo);
    Ok(server.serve_with_incoming(incoming).await?)
}

#[derive(Clone)]
struct Echo(pb::ValidateSessionResponse);

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "sessiond.v1.SessionService";
}

impl tonic::server::UnaryService<pb::ValidateSessionRequest> for Echo {
    type Response = pb::ValidateSessionResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<pb::ValidateSessionRequest>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            drop(request);
            Ok(Response::new(answer))
        })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).unary(echo, request).await)
        })
    }
}
