//! Reflection: an unknown name is an error in the answer, and the stream goes on; and the limits of a stream.

use std::collections::BTreeSet;

use tokio_stream::StreamExt;
use tonic::Code;
use tonic_reflection::pb;

use crate::harness::start;

/// The two versions of the protocol have the same shape and different types.
macro_rules! version {
    ($version:ident) => {
        mod $version {
            use prost::Message;
            use prost_types::FileDescriptorProto;
            use tonic::codegen::tokio_stream::Stream;
            use tonic::{Status, Streaming};

            use super::pb::$version::server_reflection_client::ServerReflectionClient;
            use super::pb::$version::server_reflection_request::MessageRequest;
            use super::pb::$version::server_reflection_response::MessageResponse;
            use super::pb::$version::{
                ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
            };
            use crate::harness::TestServer;

            pub fn request(asked: Option<MessageRequest>) -> ServerReflectionRequest {
                ServerReflectionRequest { host: "here".to_owned(), message_request: asked }
            }

            pub async fn ask(
                server: &TestServer,
                requests: impl Stream<Item = ServerReflectionRequest> + Send + 'static,
            ) -> Streaming<ServerReflectionResponse> {
                let mut client = ServerReflectionClient::new(server.channel());
                client.server_reflection_info(requests).await.expect("a stream").into_inner()
            }

            pub fn all_kinds() -> Vec<(Option<MessageRequest>, &'static str)> {
                use MessageRequest::{
                    AllExtensionNumbersOfType, FileByFilename, FileContainingExtension,
                    FileContainingSymbol, ListServices,
                };
                let extension = ExtensionRequest {
                    containing_type: "sessiond.v1.Session".to_owned(),
                    extension_number: 7,
                };
                vec![
                    (Some(FileContainingSymbol("no.Such".to_owned())), "5"),
                    (
                        Some(FileContainingSymbol("sessiond.v1.SessionService".to_owned())),
                        "sessiond/v1/session_service.proto",
                    ),
                    (Some(FileByFilename("no.proto".to_owned())), "5"),
                    (Some(FileByFilename(String::new())), "5"),
                    (
                        Some(FileByFilename("sessiond/v1/session.proto".to_owned())),
                        "sessiond/v1/session.proto",
                    ),
                    (Some(FileContainingExtension(extension)), "12"),
                    (
                        Some(AllExtensionNumbersOfType("sessiond.v1.Session".to_owned())),
                        "none of sessiond.v1.Session",
                    ),
                    (Some(AllExtensionNumbersOfType("no.Such".to_owned())), "5"),
                    (None, "3"),
                    (Some(ListServices(String::new())), "services"),
                ]
            }

            /// The code of an error, the name of a file, or the kind of list.
            pub fn shown(answer: Result<ServerReflectionResponse, Status>) -> String {
                let answer = answer.expect("an answer of the stream");
                assert_eq!(answer.valid_host, "here");
                assert_eq!(answer.original_request.expect("the request").host, "here");
                match answer.message_response.expect("a message") {
                    MessageResponse::ErrorResponse(error) => {
                        assert!(!error.error_message.is_empty());
                        error.error_code.to_string()
                    }
                    MessageResponse::FileDescriptorResponse(files) => {
                        let file = files.file_descriptor_proto[0].as_slice();
                        FileDescriptorProto::decode(file).expect("a descriptor").name().to_owned()
                    }
                    MessageResponse::ListServicesResponse(_) => "services".to_owned(),
                    MessageResponse::AllExtensionNumbersResponse(numbers) => {
                        assert_eq!(numbers.extension_number, [0; 0]);
                        format!("none of {}", numbers.base_type_name)
                    }
                }
            }

            pub fn services(answer: ServerReflectionResponse) -> Vec<String> {
                let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response
                else {
                    panic!("not a list");
                };
                list.service.into_iter().map(|service| service.name).collect()
            }
        }
    };
}

version!(v1);
version!(v1alpha);

macro_rules! assert_goes_on {
    ($server:expr, $version:ident) => {
        let (asked, expected): (Vec<_>, Vec<_>) = $version::all_kinds().into_iter().unzip();
        let asked = asked.into_iter().map($version::request);
        let answers = $version::ask(&$server, tokio_stream::iter(asked.collect::<Vec<_>>())).await;
        let shown: Vec<String> = answers.map($version::shown).collect().await;
        assert_eq!(shown, expected);
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_is_an_error_response_and_the_stream_goes_on() {
    let server = start().await;
    assert_goes_on!(server, v1);
    assert_goes_on!(server, v1alpha);
}

macro_rules! assert_listed {
    ($server:expr, $version:ident) => {
        use $version::{ask, request, services};
        let (list, _) = $version::all_kinds().pop().expect("the list");
        let mut answers = ask(&$server, tokio_stream::once(request(list))).await;
        let names = services(answers.next().await.expect("an answer").expect("ok"));
        let names: BTreeSet<String> = names.into_iter().collect();
        for name in
            ["sessiond.v1.AlertService", "grpc.health.v1.Health", "sessiond.v1.SessionService"]
        {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_are_listed_in_both_versions() {
    let server = start().await;
    {
        assert_listed!(server, v1);
    }
    assert_listed!(server, v1alpha);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_ten_thousand_requests_and_not_one_more() {
    let server = start().await;
    let request = v1::request(None);
    let mut answers = v1::ask(&server, tokio_stream::iter(vec![request; 10_001])).await;
    for _ in 0..10_000 {
        assert_eq!(v1::shown(answers.next().await.expect("an answer")), "3");
    }
    let refused = answers.next().await.expect("an end").expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(crate::harness::calls::reason(&refused), "RATE_LIMITED");
    assert!(answers.next().await.is_none());
}
