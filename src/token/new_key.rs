//! Makes keys.

use anyhow::anyhow;

use crate::clock::Time;
use crate::store::keys::StoredSigningKey;
use crate::token::jwk::SigningAlgorithm;
use crate::token::key_life::Purpose;
use crate::token::keyring::MAC_ALGORITHM;
use crate::token::pair::{self, Pair};
use crate::token::seal::MasterKey;

/// The length of a MAC key in bytes: that of the MAC (RFC 2104, section 3).
const MAC_LEN: usize = 32;

/// A key without a start time; `algorithm` is for access tokens. An RSA key takes up to a second.
///
/// # Errors
/// If the system has no randomness.
pub(super) fn new_key(
    purpose: Purpose,
    algorithm: SigningAlgorithm,
    number: i16,
    now: Time,
    master: &MasterKey,
) -> anyhow::Result<StoredSigningKey> {
    let (kid, algorithm, secret, public_key) = match purpose {
        Purpose::Access => {
            let secret = pair::generate(algorithm)?;
            let (stored, public) = Pair::open(algorithm, &secret)?.public()?;
            (public.thumbprint(), algorithm.name(), secret, stored)
        }
        Purpose::Refresh => {
            let mut secret = vec![0; MAC_LEN];
            aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow!("cannot make a MAC key"))?;
            (format!("refresh-{number}"), MAC_ALGORITHM, secret, Vec::new())
        }
    };
    Ok(StoredSigningKey {
        sealed_private_key: master.seal(&kid, &secret),
        kid,
        purpose: purpose.number(),
        key_number: number,
        algorithm: algorithm.to_owned(),
        public_key,
        created_at: now,
        signs_from: None,
        retires_at: None,
        removed_at: None,
    })
}
