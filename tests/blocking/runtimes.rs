//! Every kind of runtime, and every way to be in it.

use crate::own_process::own_process;
use crate::work::{everything, everything_without_timers_around};
use larder::{CacheWrapper, awaitable};
use std::sync::{Arc, Barrier};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{LocalSet, block_in_place, spawn_blocking};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

/// Waits for a task of the runtime it is on, which another worker, or another thread in this one's
/// place, must run.
fn wait_for_a_task() {
    for _ in 0..20 {
        let task = tokio::spawn(async {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            7
        });
        assert_eq!(awaitable(task).wait().unwrap(), 7);
    }
}

own_process! {
    fn current_thread_block_on() {
        current_thread().block_on(async { everything() });
    }

    fn current_thread_task() {
        current_thread().block_on(async { tokio::spawn(async { everything() }).await.unwrap() });
    }

    fn a_loader_that_yields_to_the_scheduler_that_waits_for_it() {
        current_thread().block_on(async {
            let cache = CacheWrapper::new("memory").unwrap();
            let yields = async || {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                7
            };
            assert_eq!(cache.get_or_set_async("detached", yields()).unwrap(), 7);
            assert_eq!(cache.get_or_load_here("carried", yields).unwrap(), 7);
            assert_eq!(awaitable(yields()).wait(), 7);
        });
    }

    fn multi_thread_block_on() {
        workers(2).block_on(async {
            everything();
            wait_for_a_task();
        });
    }

    fn the_only_worker() {
        workers(1).block_on(async {
            let task = tokio::spawn(async {
                everything();
                wait_for_a_task();
                everything();
            });
            task.await.unwrap();
        });
    }

    fn one_of_two_workers() {
        workers(2).block_on(async { tokio::spawn(async { wait_for_a_task() }).await.unwrap() });
    }

    fn all_workers_at_once() {
        let together = Arc::new(Barrier::new(2));
        workers(2).block_on(async {
            let tasks = [(); 2].map(|()| {
                let together = together.clone();
                tokio::spawn(async move {
                    together.wait();
                    everything();
                    wait_for_a_task();
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn a_wait_inside_a_wait_on_the_only_worker() {
        workers(1).block_on(async {
            let home = Handle::current();
            let task = tokio::spawn(async move {
                let nested = awaitable(async {
                    let task = home.spawn(async { 7 });
                    awaitable(task).wait().unwrap()
                });
                assert_eq!(nested.wait(), 7);
            });
            task.await.unwrap();
        });
    }

    fn more_blocked_tasks_than_threads() {
        let runtime = Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(async { everything() })).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn in_spawn_blocking() {
        for runtime in [current_thread(), workers(1)] {
            runtime.block_on(async {
                spawn_blocking(everything).await.unwrap();
                spawn_blocking(wait_for_a_task).await.unwrap();
            });
        }
    }

    fn in_block_in_place() {
        workers(1).block_on(async {
            block_in_place(everything);
            let task = tokio::spawn(async {
                block_in_place(|| {
                    everything();
                    wait_for_a_task();
                });
            });
            task.await.unwrap();
        });
    }

    fn in_block_on_inside_block_in_place() {
        workers(1).block_on(async {
            let task = tokio::spawn(async {
                block_in_place(|| {
                    Handle::current().block_on(async { everything() });
                    current_thread().block_on(async { everything() });
                    LocalSet::new().block_on(&current_thread(), async { everything() });
                    Handle::current().block_on(LocalSet::new().run_until(async { everything() }));
                });
            });
            task.await.unwrap();
        });
    }

    fn local_set_block_on() {
        for runtime in [current_thread(), workers(2)] {
            LocalSet::new().block_on(&runtime, async { everything() });
        }
    }

    fn local_set_run_until() {
        for runtime in [current_thread(), workers(2)] {
            runtime.block_on(LocalSet::new().run_until(async { everything() }));
        }
    }

    fn local_set_spawn_local() {
        for runtime in [current_thread(), workers(2)] {
            let local = LocalSet::new();
            local.spawn_local(async { everything() });
            runtime.block_on(local);
        }
    }

    fn local_set_in_spawn_blocking() {
        workers(2).block_on(async {
            let task = spawn_blocking(|| {
                let local = LocalSet::new();
                let task = local.spawn_local(async { everything() });
                Handle::current().block_on(local.run_until(async {
                    everything();
                    task.await.unwrap();
                }));
            });
            task.await.unwrap();
        });
    }

    fn with_a_clock_that_stands_still() {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async { everything() });
    }

    fn without_time_and_sockets() {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.build().unwrap();
            runtime.block_on(async {
                everything_without_timers_around();
                tokio::spawn(async { everything_without_timers_around() }).await.unwrap();
            });
        }
    }

    fn with_another_runtimes_handle_entered() {
        let other = workers(1);
        current_thread().block_on(async {
            let _entered = other.enter();
            everything();
            wait_for_a_task();
        });
        workers(1).block_on(async {
            let handle = other.handle().clone();
            let task = tokio::spawn(async move {
                let _entered = handle.enter();
                everything();
                wait_for_a_task();
            });
            task.await.unwrap();
        });
    }
}
