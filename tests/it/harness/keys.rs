//! The operator's work on keys, as from another process than the servers.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sessiond::grpc::pb;
use sessiond::model::caller::operator::Operator;
use sessiond::store::pool::Database;
use sessiond::token::key_life::{KeyState, Purpose};
use sessiond::token::key_work::{KeyWork, Shown, list};
use sessiond::token::seal::MasterKey;

use super::{MASTER_KEY, TestServer, wait};

/// How long keys are published before they sign.
pub const AHEAD: chrono::Duration = chrono::Duration::minutes(10);

impl TestServer {
    /// Works on the keys of this server's database, at its time.
    pub fn key_work(&self) -> KeyWork {
        let db = Database::new(&self.db.url, 2).expect("a URL");
        let master = MasterKey::parse(&MASTER_KEY).expect("32 bytes");
        let ahead = Duration::from_secs(600);
        let by = Operator::named("a test").expect("a name");
        KeyWork::new(db, master, self.clock.clone(), ahead, by)
    }

    /// All keys as the table has them.
    pub async fn keys(&self) -> Vec<Shown> {
        let db = Database::new(&self.db.url, 2).expect("a URL");
        list(&db, self.clock.now()).await.expect("the keys")
    }

    /// The key of this purpose that signs.
    pub async fn signing(&self, purpose: Purpose) -> Shown {
        let mut keys = self.keys().await.into_iter();
        let signs = |key: &Shown| key.life.purpose == purpose && key.state == KeyState::Signing;
        keys.find(signs).expect("a key that signs")
    }

    /// The ids of the keys that the server publishes.
    pub async fn published(&self) -> Vec<String> {
        self.key_set().await.keys.into_iter().map(|key| key.kid).collect()
    }

    pub async fn key_set(&self) -> pb::GetJsonWebKeySetResponse {
        let request = pb::GetJsonWebKeySetRequest {};
        self.sessions().get_json_web_key_set(request).await.expect("keys").into_inner()
    }

    /// Waits until the server signs access tokens with this key.
    pub async fn until_signed_with(&self, kid: &str) {
        wait::until(async || {
            let created = self.create("somebody").await;
            header(&created.tokens.expect("tokens").access_token)["kid"] == kid
        })
        .await;
    }
}

/// The header of a token.
pub fn header(token: &str) -> Value {
    let part = token.split('.').next().expect("a first part");
    let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}
