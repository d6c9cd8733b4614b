//! Issues the tokens of a session, and verifies them.

use std::sync::Arc;

use chrono::Duration;

use crate::clock::Time;
use crate::error::Result;
use crate::model::session::Session;
use crate::model::token::{AccessClaims, InactiveReason, RefreshClaims, TokenPair};
use crate::token::access;
use crate::token::conflict::ConflictTokens;
use crate::token::keyring::Keyring;
use crate::token::keys::KeyCache;
use crate::token::refresh::{self, Presented};
use crate::token::verified::VerifiedTokens;

/// The issuer of all tokens. Cheap to clone.
#[derive(Clone)]
pub struct Issuer {
    name: Arc<str>,
    keys: KeyCache,
    verified: Arc<VerifiedTokens>,
}

/// The keys of one moment, for a transaction and its answer.
#[derive(Clone)]
pub struct Ready(Arc<Keyring>);

impl Issuer {
    /// An issuer called `name` (the `iss` claim), with a cache of verified tokens of at most `bytes`.
    pub fn new(name: &str, keys: KeyCache, bytes: u64) -> Issuer {
        Issuer { name: name.into(), keys, verified: Arc::new(VerifiedTokens::new(bytes)) }
    }

    /// The `iss` claim, and the audience of sessions that name none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current keys. Called before a transaction begins, since it may read the database.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ready(&self) -> Result<Ready> {
        Ok(Ready(self.keys.get().await?))
    }

    /// The same for these tokens: if the MAC key of one is not cached, the keys are reloaded.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ready_for<'t>(
        &self,
        mut tokens: impl Iterator<Item = &'t Presented>,
        now: Time,
    ) -> Result<Ready> {
        let mut keyring = self.keys.get().await?;
        if tokens.any(|token| keyring.mac(token.claims.key_id, now).is_none()) {
            keyring = self.keys.reload().await?;
        }
        Ok(Ready(keyring))
    }

    /// Verifies from the caches only: `None` unless the token was verified before and the keys are cached.
    pub fn verify_now(
        &self,
        token: &str,
        now: Time,
    ) -> Option<Result<AccessClaims, InactiveReason>> {
        let proven = self.verified.get(token)?;
        Some(proven.count(&*self.keys.known()?, now))
    }

    /// Verifies everything about an access token except the times of its claims and its session.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`] if the keys cannot be read. The inner error says why it is not genuine.
    pub async fn verify(
        &self,
        token: &str,
        now: Time,
    ) -> Result<Result<AccessClaims, InactiveReason>> {
        if token.len() > access::MAX_LEN {
            return Ok(Err(InactiveReason::Malformed));
        }
        if let Some(proven) = self.verified.get(token) {
            return Ok(proven.count(&*self.keys.get().await?, now));
        }
        let kid = match access::key_of(token) {
            Ok(kid) => kid,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut keyring = self.keys.get().await?;
        if keyring.verifying(&kid, now).is_none() {
            // The key may be newer than the cached keys.
            keyring = self.keys.reload().await?;
        }
        Ok(self.prove(&keyring, &kid, token, now))
    }

    /// The tokens of the session's present generation as of `from`, with an access token valid from then for `ttl`.
    /// `ready` has the keys of the transaction, since the generation's key may have been removed meanwhile; `None` if
    /// it was removed before. Only for committed sessions.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn pair(
        &self,
        ready: &Ready,
        session: &Session,
        from: Time,
        ttl: Duration,
        now: Time,
    ) -> Result<Option<TokenPair>> {
        let access_expires_at = access::expires_at(session, from, ttl);
        let claims = RefreshClaims {
            key: session.key.clone(),
            generation: session.chain.generation,
            key_id: session.chain.key_id,
        };
        let mut macs = ready.0.clone();
        if macs.mac(claims.key_id, now).is_none() {
            // Another replica may have begun the generation with a newer key.
            macs = self.keys.reload().await?;
        }
        let Some(mac) = macs.mac(claims.key_id, now) else { return Ok(None) };
        let keyring = self.keys.get().await?;
        let signing = keyring.signing(now)?;
        let (access_token, claims_made) =
            access::sign(signing, &self.name, session, from, access_expires_at);
        self.verified.note(&access_token, &signing.kid, &claims_made);
        Ok(Some(TokenPair {
            access_token,
            access_expires_at,
            refresh_token: refresh::encode(&claims, &session.chain.nonce, mac),
            refresh_expires_at: session.deadline(),
        }))
    }

    fn prove(
        &self,
        keyring: &Keyring,
        kid: &str,
        token: &str,
        now: Time,
    ) -> Result<AccessClaims, InactiveReason> {
        let key = keyring.verifying(kid, now).ok_or(InactiveReason::SignatureInvalid)?;
        let claims = access::prove(&key.verifying, &self.name, token)?;
        self.verified.note(token, &key.kid, &claims);
        Ok(claims)
    }
}

impl Ready {
    /// The key id of generations that begin at `now`.
    ///
    /// # Errors
    /// If the keyring has no current MAC key.
    pub fn current_mac(&self, now: Time) -> anyhow::Result<i16> {
        self.0.current_mac(now)
    }

    /// The writer and reader of conflict tokens at `now`.
    ///
    /// # Errors
    /// If the keyring has no current MAC key.
    pub fn conflicts(&self, now: Time) -> anyhow::Result<ConflictTokens> {
        ConflictTokens::of(&self.0, now)
    }

    /// 128 random bits, which bind refresh tokens to one session.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn nonce(&self) -> anyhow::Result<[u8; 16]> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow::anyhow!("no randomness"))?;
        Ok(nonce)
    }

    /// True if the key that `presented` names verifies at `now`; whether that key made it is another question.
    pub fn knows(&self, presented: &Presented, now: Time) -> bool {
        self.0.mac(presented.claims.key_id, now).is_some()
    }

    /// True if `presented` was issued for `session`, with a key that still verifies at `now`.
    pub fn is_genuine(&self, presented: &Presented, session: &Session, now: Time) -> bool {
        self.0
            .mac(presented.claims.key_id, now)
            .is_some_and(|key| presented.is_genuine(&session.chain.nonce, key))
    }
}
