//! The credentials of a gateway: its API key, if it has one.

use std::fmt;

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// An API key. Is never printed.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key as text, `ssk_...`.
    pub fn new(key: impl Into<String>) -> ApiKey {
        ApiKey(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Adds the key to each call.
#[derive(Clone)]
pub(super) struct GatewayCredentials(Option<AsciiMetadataValue>);

impl GatewayCredentials {
    /// Sends `key`; without one the client certificate identifies the gateway, or authentication is off.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the key cannot be sent in a header.
    pub fn new(key: Option<&ApiKey>) -> Result<GatewayCredentials, Status> {
        let Some(ApiKey(key)) = key else { return Ok(GatewayCredentials(None)) };
        let value: Result<AsciiMetadataValue, _> = format!("Bearer {key}").parse();
        let mut value = value
            .map_err(|_| Status::invalid_argument("the options hold no key that can be sent"))?;
        // Keeps the key out of logs and of HPACK's dynamic table.
        value.set_sensitive(true);
        Ok(GatewayCredentials(Some(value)))
    }
}

impl Interceptor for GatewayCredentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_and_not_printed() {
        let key = ApiKey::new("ssk_x");
        assert!(!format!("{key:?}").contains("ssk"));
        let mut credentials = GatewayCredentials::new(Some(&key)).unwrap();
        let sent = credentials.call(Request::new(())).unwrap();
        let value = sent.metadata().get("authorization").unwrap();
        assert_eq!(value.as_bytes(), b"Bearer ssk_x");
        assert!(value.is_sensitive());
        assert!(GatewayCredentials::new(Some(&ApiKey::new("a\nb"))).is_err());
    }
}
