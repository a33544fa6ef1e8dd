//! In `Drop`, at shutdown, when a thread ends and when the process does.

use crate::farewell::{DROPPED, OnDrop, farewell, hold};
use crate::own_process::own_process;
use crate::work::{everything, everything_without_timers_around, slow};
use larder::{CacheWrapper, ErrorKind};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use tokio::runtime::Builder;

own_process! {
    fn in_drop_inside_async_code() {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                drop(OnDrop(everything));
                let task = tokio::spawn(async {
                    let _held = OnDrop(everything);
                    tokio::task::yield_now().await;
                });
                task.await.unwrap();
            });
        }
        assert_eq!(DROPPED.load(Ordering::SeqCst), 4);
    }

    fn in_drop_of_an_aborted_task() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (started, has_started) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async {
                let _held = OnDrop(everything);
                started.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            has_started.await.unwrap();
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    }

    fn in_drop_while_a_runtime_shuts_down() {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.worker_threads(1).enable_all().build().unwrap();
            let (started, has_started) = tokio::sync::oneshot::channel();
            runtime.spawn(async {
                let _held = OnDrop(everything);
                started.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            runtime.block_on(has_started).unwrap();
            drop(runtime);
        }
        assert_eq!(DROPPED.load(Ordering::SeqCst), 2);
    }

    fn in_drop_of_a_local_set() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async {
            let _held = OnDrop(everything);
            std::future::pending::<()>().await;
        });
        local.block_on(&runtime, tokio::task::yield_now());
        drop(local);
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    }

    fn after_a_runtime_has_shut_down() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.block_on(async { everything() });
        drop(runtime);
        everything();
        // With the handle of the dead runtime entered.
        let _entered = handle.enter();
        everything_without_timers_around();
    }

    fn in_a_thread_locals_destructor() {
        // Before tokio's own are destroyed, after, and on a thread that never had any.
        let orders: [fn(); 3] = [
            || {
                everything();
                hold(farewell);
            },
            || {
                hold(farewell);
                everything();
            },
            || hold(farewell),
        ];
        for (turn, order) in (1..).zip(orders) {
            thread::spawn(order).join().unwrap();
            assert_eq!(DROPPED.load(Ordering::SeqCst), turn);
        }
    }

    fn in_a_thread_locals_destructor_of_a_worker() {
        for _ in 0..10 {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(async { hold(farewell) }).await.unwrap();
                tokio::task::spawn_blocking(|| hold(farewell)).await.unwrap();
            });
        }
        assert_eq!(DROPPED.load(Ordering::SeqCst), 20);
    }

    fn of_the_async_face_in_a_thread_locals_destructor() {
        let farewell = || {
            let cache = CacheWrapper::new("memory").unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            let mut set = pin!(cache.as_async().set("key", 7));
            assert!(set.as_mut().poll(&mut cx).is_ready());
            let mut slow = pin!(slow().as_async().set("key", 7));
            let Poll::Ready(Err(error)) = slow.as_mut().poll(&mut cx) else { panic!("no runtime, no error") };
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        };
        thread::spawn(move || {
            hold(farewell);
            everything();
        })
        .join()
        .unwrap();
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    }
}
