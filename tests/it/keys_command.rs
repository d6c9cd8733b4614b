//! `sessiond keys`: without a server, beside a running one, and its errors.

use rustix::process::Signal;
use sessiond::grpc::pb;
use sessiond::token::seal::MasterKey;

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::{Db, connect, own_cluster};
use crate::harness::keys::header;
use crate::harness::process::{Place, client, outcome};
use crate::harness::wait;

/// The output of a command that must succeed.
async fn keys(place: &Place, flags: &[&str], env: &[(&str, &str)]) -> String {
    let flags: Vec<&str> = ["keys"].iter().chain(flags).copied().collect();
    let ended = place.spawn(&flags, env).ended().await;
    assert!(ended.status.success(), "{flags:?}: {}", ended.err);
    ended.out
}

/// The rows of the printed table, by columns, without the header.
fn rows(table: &str) -> Vec<Vec<String>> {
    assert!(table.starts_with("KID "), "{table}");
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    table.lines().skip(1).map(columns).collect()
}

/// The kid of the key with this purpose and state.
fn kid(table: &str, purpose: &str, state: &str) -> String {
    let found = rows(table).into_iter().find(|row| row[1] == purpose && row[3] == state);
    found.unwrap_or_else(|| panic!("no {state} key for {purpose} in {table}"))[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_worked_on_beside_the_server_that_runs_on_the_private_postgres() {
    let place = Place::new();
    let (process, mut client) = place.serve().await;
    let table = keys(&place, &["list"], &[]).await;
    assert_eq!(rows(&table).len(), 2);
    let first = kid(&table, "access", "signing");
    let created = client.create_session(new_session("ada")).await.expect("a session");
    let (_, access, _) = parts(created.get_ref());
    assert_eq!(header(&access)["kid"], *first);
    assert_eq!(outcome(&mut client, &access).await, pb::Outcome::Active);

    let said = keys(&place, &["rotate", "--algorithm", "es256"], &[]).await;
    let table = keys(&place, &["list"], &[]).await;
    let next = kid(&table, "access", "published");
    assert!(said.contains(&next) && said.contains("signs from"), "{said}");
    assert_eq!(rows(&table).iter().find(|row| row[0] == next).expect("it")[2], "ES256");
    let refused = place.spawn(&["keys", "rotate"], &[]).ended().await;
    refused.assert_refused(&[&next, "published already"]);
    let waits = place.spawn(&["keys", "retire", &first], &[]).ended().await;
    waits.assert_refused(&["not everybody knows", "--now"]);

    let ended = place.spawn(&["keys", "retire", &first, "--now"], &[]).ended().await;
    assert!(ended.out.contains("removed") && ended.out.contains(&next), "{}", ended.out);
    let logged = |line: &str| line.contains("key removed") && line.contains(&first);
    assert!(ended.err.lines().any(logged), "{}", ended.err);
    wait::until(async || outcome(&mut client, &access).await == pb::Outcome::Inactive).await;
    let created = client.create_session(new_session("ada")).await.expect("a session");
    let (_, access, _) = parts(created.get_ref());
    assert_eq!(header(&access)["kid"], *next);
    assert_eq!(outcome(&mut client, &access).await, pb::Outcome::Active);
    let table = keys(&place, &["list"], &[]).await;
    assert_eq!(kid(&table, "access", "gone"), first);

    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    // Without a server.
    let said =
        keys(&place, &["generate", "--purpose", "refresh", "--sign-after", "30d"], &[]).await;
    assert!(said.contains("refresh-2"), "{said}");
    assert_eq!(kid(&keys(&place, &["list"], &[]).await, "refresh", "published"), "refresh-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_cannot_do_it_says() {
    let db = Db::fresh().await;
    let place = Place::new();
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&[], &env);
    let mut client = client(process.addr().await).await;
    let other = &MasterKey::generate();
    let wrong = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", other)];
    for flags in [&["rotate"][..], &["generate"], &["generate", "--algorithm", "rs256"]] {
        let flags: Vec<&str> = ["keys"].iter().chain(flags).copied().collect();
        let ended = place.spawn(&flags, &wrong).ended().await;
        ended.assert_refused(&["master key", "SESSIOND_MASTER_KEY_FILE"]);
        assert!(!ended.err.contains(other), "it repeats a secret: {}", ended.err);
    }
    assert_eq!(rows(&keys(&place, &["list"], &wrong).await).len(), 2, "nothing was added");
    for (flags, words) in [
        (&["retire", "nobody"][..], &["no key nobody", "keys list"][..]),
        (&["retire", "-nobody", "--now"], &["no key -nobody", "keys list"]),
        (&["retire", "--now", "-nobody"], &["no key -nobody", "keys list"]),
        (&["generate", "--sign-after", "1m"], &["--sign-after", "10m", "3650d"]),
        (&["generate", "--sign-after", "3651d"], &["--sign-after"]),
        (&["generate", "--purpose", "refresh", "--algorithm", "es256"], &["--algorithm", "HS256"]),
        (&["rotate", "--algorithm", "hs256"], &["--algorithm", "eddsa", "es256", "rs256"]),
        (&["rotate", "--key-publish-ahead", "1m"], &["--key-publish-ahead", "6m to 30d"]),
    ] {
        let flags: Vec<&str> = ["keys"].iter().chain(flags).copied().collect();
        place.spawn(&flags, &env).ended().await.assert_refused(words);
    }
    client.create_session(new_session("ada")).await.expect("the server is not disturbed");

    let (postgres, _dir) = own_cluster().await;
    let url = postgres.url("sessiond");
    let empty = [("DATABASE_URL", url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    for flags in [["keys", "list"], ["principal", "list"], ["api-key", "list"]] {
        let ended = place.spawn(&flags, &empty).ended().await;
        ended.assert_refused(&["not up to date", "sessiond migrate"]);
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let row = connect(&url).await.query_one(tables, &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0, "nothing was migrated");
}
