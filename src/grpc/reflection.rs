//! gRPC reflection over `tonic_reflection`. A failed lookup is a response in the stream, instead of its end.

use tonic_reflection::server::Builder;

use crate::grpc::pb;

/// The most requests of one stream. Tools request each file and symbol once.
const MOST: usize = 10_000;
/// The largest request, in bytes.
const SMALL: usize = 64 << 10;

fn builder<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that clients can show the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Defines the service for one version of the protocol; the versions differ only in their types.
macro_rules! reflection {
    ($version:ident, $build:ident) => {
        /// One version of the protocol.
        pub mod $version {
            use std::future::ready;
            use std::pin::Pin;
            use std::time::Duration;

            use futures_util::{Stream, StreamExt, stream};
            use tonic::{Request, Response, Status, Streaming};
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version::server_reflection_server::{
                ServerReflection, ServerReflectionServer,
            };
            use tonic_reflection::pb::$version::{
                ErrorResponse, ExtensionNumberResponse, ServerReflectionRequest,
                ServerReflectionResponse,
            };

            use crate::error::Error;

            /// The service over all descriptors of this build.
            ///
            /// # Errors
            /// If the descriptors cannot be decoded.
            pub fn service() -> anyhow::Result<ServerReflectionServer<impl ServerReflection>> {
                let found = ServerReflectionClient::new(super::builder().$build()?);
                Ok(ServerReflectionServer::new(Reflection(found))
                    .max_decoding_message_size(super::SMALL))
            }

            /// The library's service, called in this process.
            type Library<T> = ServerReflectionClient<ServerReflectionServer<T>>;

            struct Reflection<T: ServerReflection>(Library<T>);

            #[tonic::async_trait]
            impl<T: ServerReflection> ServerReflection for Reflection<T> {
                type ServerReflectionInfoStream =
                    Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

                async fn server_reflection_info(
                    &self,
                    request: Request<Streaming<ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let library = self.0.clone();
                    let answers = request.into_inner().enumerate().then(move |(n, request)| {
                        let library = library.clone();
                        async move {
                            if n >= super::MOST {
                                return Err(Error::RateLimited(Duration::ZERO).into());
                            }
                            Ok(answer(library, request?).await)
                        }
                    });
                    Ok(Response::new(Box::pin(answers)))
                }
            }

            async fn answer<T: ServerReflection>(
                library: Library<T>,
                request: ServerReflectionRequest,
            ) -> ServerReflectionResponse {
                find(library, request.clone()).await.unwrap_or_else(|status| {
                    let error = ErrorResponse {
                        error_code: status.code().into(),
                        error_message: status.message().to_owned(),
                    };
                    ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(MessageResponse::ErrorResponse(error)),
                    }
                })
            }

            async fn find<T: ServerReflection>(
                library: Library<T>,
                mut request: ServerReflectionRequest,
            ) -> Result<ServerReflectionResponse, Status> {
                use MessageRequest as Asked;
                match request.message_request.clone() {
                    Some(Asked::FileContainingExtension(_)) => {
                        Err(Status::unimplemented("extensions are not supported"))
                    }
                    // For a type that exists the list of extensions is empty.
                    Some(Asked::AllExtensionNumbersOfType(name)) => {
                        let asked = request.clone();
                        request.message_request = Some(Asked::FileContainingSymbol(name.clone()));
                        let found = ask(library, request).await?;
                        let none = ExtensionNumberResponse {
                            base_type_name: name,
                            extension_number: Vec::new(),
                        };
                        Ok(ServerReflectionResponse {
                            original_request: Some(asked),
                            message_response: Some(MessageResponse::AllExtensionNumbersResponse(
                                none,
                            )),
                            ..found
                        })
                    }
                    _ => ask(library, request).await,
                }
            }

            async fn ask<T: ServerReflection>(
                mut library: Library<T>,
                request: ServerReflectionRequest,
            ) -> Result<ServerReflectionResponse, Status> {
                let once = stream::once(ready(request));
                let mut answers = library.server_reflection_info(once).await?.into_inner();
                answers.message().await?.ok_or_else(|| Status::internal("there is no answer"))
            }
        }
    };
}

reflection!(v1, build_v1);
reflection!(v1alpha, build_v1alpha);
