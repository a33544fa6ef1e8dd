//! Runtimes that start and end, and the end of an adapter.

use super::{another_process, fresh, fresh_path, get, on, set, shared, soak};
use crate::support::noise::noise;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncSqliteCache};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

#[test]
fn many_short_runtimes_use_one_adapter_beside_one_that_is_parked() {
    for cache in [shared(fresh()), shared(AsyncSqliteCache::in_memory())] {
        // Blocked with calls in flight: one has been polled and never will be again.
        let parked = Builder::new_current_thread().enable_all().build().unwrap();
        parked.block_on(async {
            set(&cache, "shared", "v").await.unwrap();
            for n in 0..6 {
                let cache = cache.clone();
                tokio::spawn(async move {
                    if n % 2 == 0 {
                        set(&cache, "parked", "v").await.map(drop)
                    } else {
                        get(&cache, "shared").await.map(drop)
                    }
                });
            }
            tokio::task::yield_now().await;
        });
        let (each, began) = (soak(25, 125), Instant::now());
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let cache = cache.clone();
                std::thread::spawn(move || {
                    let mut worst = Duration::ZERO;
                    for n in 0..each {
                        Builder::new_current_thread().enable_all().build().unwrap().block_on(
                            async {
                                let key = format!("{thread}-{n}");
                                let began = Instant::now();
                                set(&cache, &key, &key).await.unwrap();
                                assert_eq!(get(&cache, &key).await.unwrap(), Some(key));
                                assert_eq!(
                                    get(&cache, "shared").await.unwrap().as_deref(),
                                    Some("v")
                                );
                                worst = worst.max(began.elapsed() / 3);
                            },
                        );
                    }
                    worst
                })
            })
            .collect();
        let worst = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
        println!(
            "sqlite: {} runtimes, 4 at a time, beside a parked one: {:?}, worst call {worst:?}",
            4 * each,
            began.elapsed()
        );
        // A call that waited for the parked runtime would take its whole deadline of a minute.
        assert!(worst < Duration::from_secs(1) + noise(), "{worst:?}");
        parked.block_on(async {
            assert_eq!(get(&cache, "shared").await.unwrap().as_deref(), Some("v"))
        });
    }
}

/// A runtime without timers is enough, and so is none.
#[test]
fn no_timer_and_no_runtime_is_needed() {
    let cache = shared(fresh());
    let bare = Builder::new_current_thread().build().unwrap();
    bare.block_on(async {
        set(&cache, "k", "v").await.unwrap();
        assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some("v"));
        cache.close().await.unwrap();
        assert_eq!(get(&cache, "k").await.unwrap().as_deref(), Some("v"));
    });
    drop(bare);
    let mut call = Box::pin(get(&cache, "k"));
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        if let std::task::Poll::Ready(found) =
            call.as_mut().poll(&mut std::task::Context::from_waker(&waker))
        {
            assert_eq!(found.unwrap().as_deref(), Some("v"));
            break;
        }
        assert!(Instant::now() < end);
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_paused_clock_times_nothing_out() {
    let cache = fresh();
    for n in 0..20 {
        set(&cache, "k", &n.to_string()).await.unwrap();
        assert_eq!(get(&cache, "k").await.unwrap(), Some(n.to_string()));
    }
}

#[test]
fn the_blocking_face_works_wherever_it_is_called() {
    let cache = AsyncCacheWrapper::new(fresh()).unwrap();
    let blocking = cache.blocking();
    let check = {
        let blocking = blocking.clone();
        move |context: &str| {
            blocking.set(context, context.to_owned()).unwrap();
            assert_eq!(blocking.get::<String>(context).unwrap().as_deref(), Some(context));
            assert!(blocking.remove(context).unwrap());
        }
    };
    check("plain thread");
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        check("current-thread runtime");
        tokio::task::spawn_blocking({
            let check = check.clone();
            move || check("spawn_blocking")
        })
        .await
        .unwrap();
        // A call of this runtime is in flight while its thread is blocked.
        let beside = tokio::spawn({
            let cache = cache.clone();
            async move { cache.set("beside", 1).await }
        });
        tokio::task::yield_now().await;
        check("current-thread runtime with a call on its way");
        beside.await.unwrap().unwrap();
        tokio::task::LocalSet::new().run_until(async { check("LocalSet") }).await;
    });
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
        tokio::spawn({
            let check = check.clone();
            async move { check("the only worker") }
        })
        .await
        .unwrap();
    });
    struct AtTheEnd<F: Fn(&str)>(F);
    impl<F: Fn(&str)> Drop for AtTheEnd<F> {
        fn drop(&mut self) {
            (self.0)("Drop during shutdown");
        }
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.spawn({
        let last = AtTheEnd(check.clone());
        async move {
            let _last = last;
            std::future::pending::<()>().await;
        }
    });
    drop(runtime);
    check("after a runtime");
}

/// The number of open files of this process whose names begin with this path.
fn open_files_like(path: &Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    files.filter(|file| file.to_string_lossy().starts_with(&*path.to_string_lossy())).count()
}

#[tokio::test]
async fn closing_gives_the_file_up_and_the_next_call_opens_it_again() {
    let path = fresh_path();
    let cache = on(&path).build().unwrap();
    for n in 0..5 {
        set(&cache, "k", &n.to_string()).await.unwrap();
        assert!(open_files_like(&path) > 0);
        cache.close().await.unwrap();
        cache.close().await.unwrap();
        assert_eq!(open_files_like(&path), 0);
        assert_eq!(get(&cache, "k").await.unwrap(), Some(n.to_string()));
    }
    let memory = AsyncSqliteCache::in_memory();
    set(&memory, "k", "v").await.unwrap();
    memory.reconnect().await.unwrap();
    assert_eq!(get(&memory, "k").await.unwrap().as_deref(), Some("v"));
    assert!(!memory.rebuild().unwrap().contains("k").await.unwrap());
    assert!(cache.rebuild().unwrap().contains("k").await.unwrap());
}

#[test]
fn the_last_handle_may_be_dropped_anywhere_and_takes_its_threads_along() {
    let done = another_process("drops", &fresh_path()).output().unwrap();
    print!(
        "{}",
        String::from_utf8_lossy(&done.stdout)
            .lines()
            .filter(|line| line.contains("dropped"))
            .map(|line| format!("sqlite: {line}\n"))
            .collect::<String>()
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}
