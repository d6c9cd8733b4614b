//! Streams under load: many events, watchers that come and go, and slow readers.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{assert_unavailable, reason};
use crate::harness::watch::{INSERT, SessionWatcher, insert};
use crate::harness::{TestServer, start, start_with, wait};

const EVENTS: usize = 10_000;
const CREATED: usize = 300;

/// Pseudo-random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Writes events of one user in small transactions, some of which stay open while the next one commits, with creates
/// in between. The generations in each of the user's two series increase.
async fn write(server: &TestServer, writer: u64, rows: i32) {
    let mut dice = Dice(writer);
    let (plain, mut slow) = (server.db.connect().await, server.db.connect().await);
    let (user, late) = (format!("writer-{writer}"), format!("late-{writer}"));
    let (mut made, mut made_late, mut created) = (0, 0, 0);
    while made + made_late < rows {
        let count = (dice.below(9) as i32 + 1).min(rows - made - made_late);
        if dice.below(4) == 0 {
            let held = slow.transaction().await.expect("a transaction");
            held.execute(INSERT, &[&late, &made_late, &count]).await.expect("rows");
            made_late += count;
            let count = count.min(rows - made - made_late);
            insert(&plain, &user, made, count).await;
            made += count;
            held.commit().await.expect("a late commit");
        } else {
            insert(&plain, &user, made, count).await;
            made += count;
        }
        if created < CREATED / 3 && dice.below(5) == 0 {
            server.create(&format!("created-{writer}")).await;
            created += 1;
        }
    }
    for _ in created..CREATED / 3 {
        server.create(&format!("created-{writer}")).await;
    }
}

/// Reads so many events over streams that it reopens again and again, on either replica.
async fn read(servers: [&TestServer; 2], mut cursor: String, seed: u64) -> Vec<pb::SessionEvent> {
    let mut dice = Dice(seed);
    let mut seen = Vec::new();
    while seen.len() < EVENTS {
        let mut watcher = servers[dice.below(2) as usize].watch(&cursor).await;
        for _ in 0..dice.below(400) {
            if seen.len() < EVENTS {
                seen.extend(watcher.message().await.expect("a message"));
            }
        }
        cursor = watcher.cursor;
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn random_resumes_lose_and_repeat_none_of_ten_thousand_events() {
    let server = start().await;
    let replica = server.replica().await;
    let cursor = server.watch("").await.cursor;
    let rows = (EVENTS - CREATED) as i32;
    let writing = join_all([
        write(&server, 1, rows / 3),
        write(&replica, 2, rows / 3),
        write(&server, 3, rows - rows / 3 * 2),
    ]);
    let reading = join_all([1, 2].map(|seed| read([&server, &replica], cursor.clone(), seed)));
    let both = tokio::time::timeout(Duration::from_secs(120), join(writing, reading));
    let (_, readers) = both.await.expect("all of them, in two minutes");
    let sql = "SELECT activity_id::text FROM session_activities WHERE tenant_id = 'default'";
    let rows = server.db.connect().await.query(sql, &[]).await.expect("a query");
    let there: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(there.len(), EVENTS);
    for seen in readers {
        let ids: HashSet<String> = seen.iter().map(|event| event.event_id.clone()).collect();
        assert_eq!((seen.len(), ids == there), (EVENTS, true), "unique, and none left out");
        let mut last = BTreeMap::new();
        for event in seen.iter().filter(|event| !event.user_id.starts_with("created")) {
            let before = last.insert(event.user_id.clone(), event.refresh_generation);
            assert!(
                before.is_none_or(|before| before + 1 == event.refresh_generation),
                "{event:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_cut_off_and_loses_nothing() {
    let server = start_with(|settings| settings.watch.backlog.activities = 1_000).await;
    let mut slow = server.watch_on_a_thin_line().await;
    let mut quick = server.watch("").await;
    let writer = server.db.connect().await;
    for part in 0..20 {
        insert(&writer, "ada", part * 500, 500).await;
    }
    // One watcher reads everything as fast as it can, while the other one does not read.
    collect(&server, &mut quick, 10_000).await;
    let mut seen = Vec::new();
    let status = loop {
        match slow.event().await {
            Ok(event) => seen.push(event),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "WATCH_TOO_SLOW");
    assert!(seen.len() < 5_000, "what waited for it was bounded: {}", seen.len());
    let mut resumed = server.watch(&slow.cursor).await;
    let rest = 10_000 - seen.len();
    seen.extend(collect(&server, &mut resumed, rest).await);
    let generations: Vec<u32> = seen.iter().map(|event| event.refresh_generation).collect();
    assert_eq!(generations, (0..10_000).collect::<Vec<u32>>());
}

/// Reads so many events; resumes whenever the watcher is too slow.
async fn collect(
    server: &TestServer,
    watcher: &mut SessionWatcher,
    count: usize,
) -> Vec<pb::SessionEvent> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match watcher.event().await {
            Ok(event) => seen.push(event),
            Err(status) => {
                assert_eq!(reason(&status), "WATCH_TOO_SLOW");
                *watcher = server.watch(&watcher.cursor).await;
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_reads_nothing_loses_its_slot() {
    let server = start_with(|settings| {
        settings.watch.watchers = 1;
        settings.watch.patience = Duration::from_millis(200);
    })
    .await;
    let mut silent = server.watch_on_a_thin_line().await;
    let full = server.watch_sessions(pb::WatchSessionsRequest::default()).await;
    let status = full.err().expect("no place");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    insert(&server.db.connect().await, "ada", 0, 5_000).await;
    let free = async || server.watch_sessions(pb::WatchSessionsRequest::default()).await.is_ok();
    wait::until(free).await;
    assert_eq!(reason(&silent.end().await), "WATCH_TOO_SLOW");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_receive_events_and_free_their_slots() {
    let server = start_with(|settings| settings.watch.watchers = 1_000).await;
    let all = || pb::WatchSessionsRequest::default();
    let mut streams = Vec::new();
    for _ in 0..40 {
        let line = server.another_line().await;
        // On a busy machine the pool may have no free connection in time.
        let opening = (0..25).map(async |_| {
            loop {
                match SessionWatcher::open(line.clone(), all()).await {
                    Ok(opened) => return opened,
                    Err(status) => assert_unavailable(&status),
                }
            }
        });
        streams.extend(join_all(opening).await);
    }
    let full = server.watch_sessions(all()).await.err().expect("no place");
    assert_eq!(reason(&full), "OVERLOADED");
    server.create("ada").await;
    let received = join_all(streams.iter_mut().map(|stream| stream.events(1))).await;
    assert!(received.iter().all(|events| events[0].event_id == received[0][0].event_id));
    drop(streams);
    wait::until(async || server.watch_sessions(all()).await.is_ok()).await;
}
