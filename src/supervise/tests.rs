//! Tasks that fail in every way, with pauses of milliseconds.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const NAME: &str = "x";
const SERVING: (&str, TaskNeed) = (NAME, TaskNeed::Serving);

fn tasks() -> (Tasks, Metrics) {
    let metrics = Metrics::default();
    (Tasks::pausing(&metrics, [1, 4].map(Duration::from_millis)), metrics)
}

fn failures(metrics: &Metrics) -> u64 {
    let text = metrics.render();
    let series = format!("sessiond_task_failures_total{{task=\"{NAME}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.expect("counted from the start").parse().expect("a number")
}

async fn until(happened: impl Fn() -> bool) {
    while !happened() {
        tokio::task::yield_now().await;
    }
}

/// Fails in this way at its first run, and runs until `stop` at the second.
async fn fails_once(fail: impl Fn() + Send + Sync + 'static) {
    let (tasks, metrics) = tasks();
    let (stop, runs) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut down = tasks.down();
    let mut set = JoinSet::new();
    let (fail, held, counted) = (Arc::new(fail), stop.clone(), runs.clone());
    tasks.supervise(&mut set, SERVING, &stop, move || {
        let (fail, held, counted) = (fail.clone(), held.clone(), counted.clone());
        async move {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                return fail();
            }
            held.cancelled().await;
        }
    });
    down.wait_for(|down| *down == 1).await.expect("it is down");
    down.wait_for(|down| *down == 0).await.expect("it is up again");
    assert_eq!((failures(&metrics), runs.load(Ordering::SeqCst)), (1, 2));
    stop.cancel();
    set.join_next().await.expect("a task").expect("an orderly end");
    assert_eq!((failures(&metrics), runs.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn a_panic_is_counted_and_the_task_starts_again() {
    fails_once(|| panic!("of a test")).await;
}

#[tokio::test]
async fn an_early_end_is_counted_and_the_task_starts_again() {
    fails_once(|| {}).await;
}

#[tokio::test]
async fn one_that_fails_on_and_on_stays_down_until_it_is_given_up() {
    let (tasks, metrics) = tasks();
    let (stop, mut down) = (CancellationToken::new(), tasks.down());
    let mut set = JoinSet::new();
    tasks.supervise(&mut set, SERVING, &stop, || async { panic!("of a test") });
    down.wait_for(|down| *down == 1).await.expect("it is down");
    until(|| failures(&metrics) > 20).await;
    assert!(!down.has_changed().expect("open"), "it was taken for one that runs");
    drop(set);
    down.wait_for(|down| *down == 0).await.expect("its mark goes with it");
}

#[tokio::test]
async fn the_server_serves_without_upkeep() {
    let (tasks, metrics) = tasks();
    let stop = CancellationToken::new();
    let mut set = JoinSet::new();
    tasks.supervise(&mut set, (NAME, TaskNeed::Upkeep), &stop, || async { panic!("of a test") });
    let down = tasks.down();
    until(|| metrics.render().contains("sessiond_tasks_down 1")).await;
    until(|| failures(&metrics) > 3).await;
    assert!(!down.has_changed().expect("open"), "its marks came and went");
    assert_eq!(*down.borrow(), 0);
}

#[tokio::test]
async fn a_stop_while_it_is_down_lets_it_do_what_it_does_at_its_end() {
    let (tasks, _) = tasks();
    let (stop, flushed) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let (held, counted) = (stop.clone(), flushed.clone());
    let mut set = JoinSet::new();
    tasks.supervise(&mut set, SERVING, &stop, move || {
        let (held, counted) = (held.clone(), counted.clone());
        async move {
            assert!(held.is_cancelled(), "of a test");
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    tasks.down().wait_for(|down| *down == 1).await.expect("it is down");
    stop.cancel();
    set.join_next().await.expect("a task").expect("an orderly end");
    assert_eq!(flushed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_task_that_ends_by_itself_has_its_panic_counted() {
    let (tasks, metrics) = tasks();
    let (ended, wait) = tokio::sync::oneshot::channel::<()>();
    tasks.spawn_once(NAME, async move {
        let _ended = ended;
        panic!("of a test");
    });
    wait.await.expect_err("it goes with the task");
    until(|| failures(&metrics) == 1).await;
    assert_eq!(*tasks.down().borrow(), 0);
}
