//! The duration of calls. Figures are printed; only that no call blocks another is asserted.

use super::{fresh, get, set, shared};
use std::time::{Duration, Instant};

async fn each(what: &str, tasks: usize, calls: usize, work: impl AsyncFn(usize)) {
    let began = Instant::now();
    work(calls).await;
    let took = began.elapsed();
    let rate = (tasks * calls) as f64 / took.as_secs_f64();
    println!("sqlite {what}, {tasks} tasks: {:.1} µs a call, {rate:.0} calls a second", 1e6 / rate);
    assert!(took < Duration::from_secs(30), "{what}: {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_and_sets_one_by_one_and_together() {
    let cache = shared(fresh());
    let text = "x".repeat(100);
    each("set", 1, 1_000, async |calls| {
        for n in 0..calls {
            set(&cache, &format!("k{n}"), &text).await.unwrap();
        }
    })
    .await;
    each("get", 1, 2_000, async |calls| {
        for n in 0..calls {
            assert!(get(&cache, &format!("k{}", n % 1_000)).await.unwrap().is_some());
        }
    })
    .await;
    for tasks in [16, 256] {
        for what in ["set", "get"] {
            let (cache, text) = (&cache, &text);
            each(what, tasks, 4_096 / tasks, async |calls| {
                let running = (0..tasks).map(|task| {
                    let (cache, text) = (cache.clone(), text.clone());
                    tokio::spawn(async move {
                        for n in 0..calls {
                            let key = format!("k{}", (task * calls + n) % 1_000);
                            if what == "set" {
                                set(&cache, &key, &text).await.unwrap();
                            } else {
                                assert_eq!(
                                    get(&cache, &key).await.unwrap().as_deref(),
                                    Some(&*text)
                                );
                            }
                        }
                    })
                });
                for task in running.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            })
            .await;
        }
    }
}
