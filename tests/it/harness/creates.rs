//! Creates at the edges of their limits.

use sessiond::grpc::pb;

use super::TestServer;
use super::calls::{new_session, reason, violations};

/// Characters of two, three and four bytes, a right-to-left mark, and a text that looks like an escape.
const MIXED: [&str; 5] = ["ü", "語", "😀", "\u{202e}", "\\u0000"];

/// Text of this many characters, mostly multi-byte.
pub fn text(characters: usize) -> String {
    MIXED.concat().chars().cycle().take(characters).collect()
}

/// Texts that every text field refuses.
pub const UNPRINTABLE: [&str; 7] =
    ["a\0b", "\u{1b}[31m", "\u{9b}31m", "\u{7f}", "a\nb", "\t", "\r\n"];

pub fn create(change: impl FnOnce(&mut pb::CreateSessionRequest)) -> pb::CreateSessionRequest {
    let mut request = new_session("ada");
    change(&mut request);
    request
}

pub async fn assert_refused(server: &TestServer, request: pb::CreateSessionRequest, field: &str) {
    let shown = format!("{request:?}");
    let refusal = server.try_create(request).await.expect_err(&shown);
    assert_eq!(violations(&refusal), [field], "{shown}");
    assert_eq!(reason(&refusal), "INVALID_FIELD");
}

/// Creates the session and reads it; both must be equal.
pub async fn kept(server: &TestServer, request: pb::CreateSessionRequest) -> pb::Session {
    let shown = format!("{request:?}");
    let tenant_id = request.tenant_id.clone();
    let created = server.try_create(request).await.expect(&shown).session.expect("a session");
    let session_id = created.session_id.clone();
    let request = pb::GetSessionRequest { tenant_id, session_id, user_id: created.user_id.clone() };
    let read = server.sessions().get_session(request).await.expect(&shown).into_inner();
    assert_eq!(read.session.as_ref(), Some(&created), "{shown}");
    created
}
