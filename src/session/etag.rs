//! The opaque version of a session.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::session::{Session, State};

/// Changes with everything but activity, deadlines and time, which would make every etag stale at
/// once. The state of the session must be evaluated already.
pub fn of(session: &Session) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(&session.chain.generation.to_be_bytes());
    let ended = matches!(session.state, State::Ended(_));
    hash.update(&[u8::from(ended), session.device.kind as u8]);
    let demanded = session.step_up_at.map_or(0, |at| at.timestamp_micros());
    hash.update(&demanded.to_be_bytes());
    let name = session.device.details.name.as_deref().unwrap_or_default();
    let metadata = session.metadata.iter().flat_map(|(key, value)| [key.as_str(), value]);
    for text in [name].into_iter().chain(metadata) {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..9])
}
