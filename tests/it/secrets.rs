//! The logs of the binary and the contents of the database: enough to trace a call, and no credential.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use sessiond::grpc::pb;
use tonic::{Request, Response, Status};

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::{Place, client};

const CALLER_ID: &str = "caller-7f3a:1.2_x";

/// `x-request-id` of an answer, refusals included.
fn request_id<T>(answer: &Result<Response<T>, Status>) -> String {
    let metadata = match answer {
        Ok(response) => response.metadata(),
        Err(status) => status.metadata(),
    };
    let id = metadata.get("x-request-id").expect("every answer has one");
    id.to_str().expect("ASCII").to_owned()
}

/// The texts that must occur nowhere: the whole tokens, and the parts that prove them.
pub fn needles(tokens: &[String]) -> Vec<String> {
    let mut needles = vec![MASTER_KEY.clone()];
    for token in tokens {
        needles.push(token.clone());
        if let Some(body) = token.strip_prefix("rt1_") {
            let bytes = URL_SAFE_NO_PAD.decode(body).expect("base64url");
            let mac: String =
                bytes[bytes.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect();
            needles.extend([body.to_owned(), mac]);
        } else {
            needles.push(token.rsplit('.').next().expect("a signature").to_owned());
        }
    }
    needles
}

/// Every row of every table, as text.
pub async fn dump(db: &Db) -> Vec<String> {
    rows_of(&db.connect().await).await
}

/// The same over a connection.
pub async fn rows_of(client: &tokio_postgres::Client) -> Vec<String> {
    let tables = "SELECT quote_ident(table_name) FROM information_schema.tables
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    let mut rows = Vec::new();
    for table in client.query(tables, &[]).await.expect("tables") {
        let all = format!("SELECT t::text FROM {} t", table.get::<_, &str>(0));
        rows.extend(client.query(&all, &[]).await.expect("rows").iter().map(|row| row.get(0)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_with_request_ids_and_neither_they_nor_a_dump_hold_a_token() {
    let db = Db::fresh().await;
    let place = Place::new();
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&["--log", "trace"], &env);
    let mut client = client(process.addr().await).await;

    let mut tokens = Vec::new();
    let created = client.create_session(new_session("ada")).await.expect("a session");
    let (id, access, first) = parts(created.get_ref());
    tokens.extend([access.clone(), first.clone()]);
    let mut token = first.clone();
    for _ in 0..3 {
        let request = pb::RefreshSessionRequest { refresh_token: token, client: None };
        let refreshed = client.refresh_session(request).await.expect("a successor").into_inner();
        let next = refreshed.tokens.expect("tokens");
        token = next.refresh_token.clone();
        tokens.extend([next.access_token, next.refresh_token]);
    }
    for access_token in [access, "no.such.token".to_owned()] {
        let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
        client.validate_session(request).await.expect("a judgement");
    }
    // A refused replay with a request id of the caller; then an id that cannot be logged.
    let request = pb::RefreshSessionRequest { refresh_token: first, client: None };
    let mut named = Request::new(request.clone());
    named.metadata_mut().insert("x-request-id", CALLER_ID.parse().expect("ASCII"));
    assert_eq!(request_id(&client.refresh_session(named).await), CALLER_ID);
    let mut odd = Request::new(request);
    odd.metadata_mut().insert("x-request-id", "a b\"{}".parse().expect("ASCII"));
    let given = request_id(&client.refresh_session(odd).await);
    assert_eq!(given.len(), 36, "a new UUID stands in: {given}");

    let rows = dump(&db).await;
    assert!(rows.iter().any(|row| row.contains(&id)), "the dump holds the session");
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    let lines: Vec<serde_json::Value> = ended
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    for id in [CALLER_ID, &given] {
        let refused = lines.iter().any(|line| {
            line["span"]["request_id"] == id
                && line["message"] == "refused"
                && line["span"]["method"] == "/sessiond.v1.SessionService/RefreshSession"
        });
        assert!(refused, "no line about the refusal of {id}");
    }
    for needle in needles(&tokens) {
        let logged = ended.err.lines().find(|line| line.contains(&needle));
        assert_eq!(logged, None, "{needle} was logged");
        let stored = rows.iter().find(|row| row.contains(&needle));
        assert_eq!(stored, None, "{needle} was stored");
        assert!(!ended.out.contains(&needle), "{needle} was printed");
    }
}
