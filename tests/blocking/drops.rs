//! The last handle of a cache, dropped where dropping a runtime would panic.

use crate::own_process::{eventually, own_process, threads};
use larder::{CacheWrapper, cached};
use std::cell::RefCell;
use std::thread;
use tokio::runtime::Builder;

const TIMES: usize = 1_000;

/// A cache that has a sweeper, entries and a load behind it.
fn used() -> CacheWrapper {
    let cache = CacheWrapper::new("memory").unwrap();
    cache.set("key", "value").unwrap();
    assert_eq!(cache.get_or_set_with("loaded", |_| 7).unwrap(), 7);
    cache
}

thread_local! {
    static LAST: RefCell<Vec<CacheWrapper>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work`, and sees the threads go that it brought. The background runtime is there before.
fn leaves_no_thread(work: impl FnOnce()) {
    used();
    let before = threads();
    work();
    eventually("the threads go", || threads() <= before);
}

own_process! {
    fn in_async_code() {
        leaves_no_thread(|| {
            for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
                let runtime = builder.worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..TIMES {
                        drop(used());
                        let last = used();
                        tokio::spawn(async move { drop(last) }).await.unwrap();
                    }
                });
            }
        });
    }

    fn in_drop_at_shutdown() {
        leaves_no_thread(|| {
            for turn in 0..TIMES {
                let mut builder = if turn % 2 == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
                let runtime = builder.worker_threads(1).enable_all().build().unwrap();
                let last = used();
                runtime.spawn(async move {
                    let _last = last;
                    std::future::pending::<()>().await;
                });
            }
        });
    }

    fn in_a_thread_locals_destructor() {
        leaves_no_thread(|| {
            for turn in 0..TIMES {
                thread::spawn(move || {
                    if turn % 2 == 0 {
                        cached().set("tokio was here first", 1).unwrap();
                    }
                    LAST.with_borrow_mut(|last| last.push(used()));
                })
                .join()
                .unwrap();
            }
        });
    }
}
