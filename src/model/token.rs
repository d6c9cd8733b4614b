//! The contents of tokens, apart from their encoding.

use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::SessionKey;

/// A refresh token, read but not yet proven: only its session's nonce can prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshClaims {
    pub key: SessionKey,
    /// From 1.
    pub generation: u32,
    /// The MAC key that it claims.
    pub key_id: i16,
}

/// An access token whose signature, issuer and form are proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    pub key: SessionKey,
    pub device: Uuid,
    pub audiences: Vec<String>,
    /// The refresh generation it was issued with, from 1.
    pub generation: u32,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

/// The tokens that a client gets. Has no `Debug`: it is a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPair {
    pub access_token: String,
    pub access_expires_at: Time,
    pub refresh_token: String,
    /// The session's earlier deadline; activity moves an idle one on.
    pub refresh_expires_at: Time,
}

/// Why a token is not valid. A result, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InactiveReason {
    /// No access token by its form.
    Malformed,
    /// Not signed with a key of this service, or with another algorithm than the key's.
    SignatureInvalid,
    /// At or past `exp`.
    TokenExpired,
    /// Not for the audience of the request.
    WrongAudience,
    /// Signed by this service under another issuer name.
    WrongIssuer,
    /// Genuine, but without a session.
    SessionUnknown,
    /// The session was ended.
    SessionTerminated,
    /// The session is past its idle deadline.
    SessionExpiredIdle,
    /// The session is past its absolute deadline.
    SessionExpiredAbsolute,
    /// From before the session's last re-authentication.
    Superseded,
}

/// What a valid token lacks for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepUpReason {
    /// The session's authentication context class is below the one required.
    AcrTooLow,
    /// The user was authenticated longer ago than allowed.
    AuthenticationTooOld,
    /// A rule found something suspicious, and the user was not authenticated since.
    SuspiciousActivity,
}
