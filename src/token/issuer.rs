//! Makes the tokens of a session, and reads them back.

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

/// The keys of a moment, for a transaction and what comes of it.
#[derive(Clone)]
pub struct Ready(Arc<Keyring>);

impl Issuer {
    /// An issuer called `name` (the `iss` claim), which remembers tokens in at most so many `bytes`.
    pub fn new(name: &str, keys: KeyCache, bytes: u64) -> Issuer {
        Issuer { name: name.into(), keys, verified: Arc::new(VerifiedTokens::new(bytes)) }
    }

    /// The `iss` claim, and the audience of sessions that name none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that count now. Before a transaction is begun, since it may read.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ready(&self) -> Result<Ready> {
        Ok(Ready(self.keys.get().await?))
    }

    /// The same for these tokens: if one names a key that is not known, the keys are read anew.
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

    /// The same from the cache: the token was verified before, and the keys are cached.
    pub fn verify_now(
        &self,
        token: &str,
        now: Time,
    ) -> Option<Result<AccessClaims, InactiveReason>> {
        let proven = self.verified.get(token)?;
        Some(proven.count(&*self.keys.known()?, now))
    }

    /// Proves everything about an access token that needs neither the time of its claims nor the session.
    ///
    /// # Errors
    /// Outside [`crate::error::Error::Unavailable`]: the keys are not known; inside, why it opens nothing.
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
            // It may be newer than what is known.
            keyring = self.keys.reload().await?;
        }
        Ok(self.prove(&keyring, &kid, token, now))
    }

    /// The tokens of the session's present generation as of `from`, the access token valid from then for `ttl` at most.
    /// `ready` are the keys of the transaction: its generation may have begun with one that is removed by now. `None` if
    /// that was so before. Only for sessions that are committed.
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
            // Another replica may have begun the generation with a newer one.
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
    /// Nobody makes MACs now.
    pub fn current_mac(&self, now: Time) -> anyhow::Result<i16> {
        self.0.current_mac(now)
    }

    /// What writes and reads conflict tokens at `now`.
    ///
    /// # Errors
    /// Nobody makes MACs now.
    pub fn conflicts(&self, now: Time) -> anyhow::Result<ConflictTokens> {
        ConflictTokens::of(&self.0, now)
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

    /// True if `presented` was issued by us for `session`, with a key that counts at `now`.
    pub fn is_genuine(&self, presented: &Presented, session: &Session, now: Time) -> bool {
        self.0
            .mac(presented.claims.key_id, now)
            .is_some_and(|key| presented.is_genuine(&session.chain.nonce, key))
    }
}
