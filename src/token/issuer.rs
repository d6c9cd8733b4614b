//! Makes the tokens of a session, and reads them back.

use std::sync::Arc;

use chrono::{Duration, SubsecRound};

use crate::clock::Time;
use crate::model::session::Session;
use crate::model::token::{AccessClaims, InactiveReason, RefreshClaims, TokenPair};
use crate::token::access;
use crate::token::keyring::Keyring;
use crate::token::refresh::{self, Presented};
use crate::token::verified::Verified;

/// The issuer of all tokens. Cheap to clone.
#[derive(Clone)]
pub struct Issuer {
    name: Arc<str>,
    keyring: Arc<Keyring>,
    verified: Arc<Verified>,
}

impl Issuer {
    /// An issuer called `name` (the `iss` claim), which remembers tokens in at most so many `bytes`.
    pub fn new(name: &str, keyring: Arc<Keyring>, bytes: u64) -> Issuer {
        Issuer { name: name.into(), keyring, verified: Arc::new(Verified::new(bytes)) }
    }

    /// The `iss` claim, and the audience of sessions that name none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id of new generations.
    pub fn current_mac(&self) -> i16 {
        self.keyring.current_mac()
    }

    /// 128 random bits, which tie refresh tokens to one session.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn nonce(&self) -> anyhow::Result<[u8; 16]> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow::anyhow!("no randomness"))?;
        Ok(nonce)
    }

    /// The tokens of the session's present generation, the access token valid from `now`
    /// for `ttl` at most. Only for sessions that are committed.
    ///
    /// # Errors
    /// A MAC key that is gone although a session still needs it.
    pub fn pair(&self, session: &Session, now: Time, ttl: Duration) -> anyhow::Result<TokenPair> {
        let access_expires_at = (now + ttl).min(session.absolute_expires_at);
        // What is told is what the token carries, and `exp` counts whole seconds.
        let access_expires_at = access_expires_at.trunc_subsecs(0);
        let claims = RefreshClaims {
            key: session.key.clone(),
            generation: session.chain.generation,
            key_id: session.chain.key_id,
        };
        let mac = self
            .keyring
            .mac(claims.key_id)
            .ok_or_else(|| anyhow::anyhow!("refresh key {} is gone", claims.key_id))?;
        let signing = self.keyring.signing();
        let (access_token, claims_made) =
            access::sign(signing, &self.name, session, now, access_expires_at);
        self.verified.note(&access_token, claims_made);
        Ok(TokenPair {
            access_token,
            access_expires_at,
            refresh_token: refresh::encode(&claims, &session.chain.nonce, mac),
            refresh_expires_at: session.deadline(),
        })
    }

    /// Proves everything about an access token that needs neither the time nor the session.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn verify(&self, token: &str) -> Result<Arc<AccessClaims>, InactiveReason> {
        if token.len() > access::MAX_LEN {
            return Err(InactiveReason::Malformed);
        }
        self.verified.claims(token, || access::verify(&self.keyring, &self.name, token))
    }

    /// True if `presented` was issued by us for `session`.
    pub fn is_genuine(&self, presented: &Presented, session: &Session) -> bool {
        self.keyring
            .mac(presented.claims.key_id)
            .is_some_and(|key| presented.is_genuine(&session.chain.nonce, key))
    }
}
