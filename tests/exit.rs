//! The blocking face on the main thread and while the process ends: without libtest, which runs
//! tests on other threads.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "blocking/farewell.rs"]
mod farewell;
#[path = "own_process/mod.rs"]
mod own_process;
#[path = "blocking/work.rs"]
mod work;

use crate::farewell::{farewell, hold};
use crate::own_process::{is_main_thread, run_process};
use crate::work::{everything, everything_without_timers_around};
use larder::CacheWrapper;
use std::cell::RefCell;
use std::env;
use tokio::runtime::Builder;

const ROLE: &str = "LARDER_TEST_ROLE";

thread_local! {
    static LAST: RefCell<Vec<CacheWrapper>> = const { RefCell::new(Vec::new()) };
}

const ROLES: [(&str, fn()); 6] = [
    ("on the main thread", everything),
    ("at exit, tokio gone first", || {
        hold(say_farewell);
        everything();
    }),
    ("at exit, tokio there", || {
        everything();
        hold(say_farewell);
    }),
    ("at exit, nothing done before", || hold(say_farewell)),
    ("the last of a thousand handles at exit", || {
        LAST.with_borrow_mut(|last| {
            last.extend((0..1_000).map(|_| {
                let cache = CacheWrapper::new("memory").unwrap();
                cache.set("key", "value").unwrap();
                cache
            }));
        });
        hold(say_farewell);
    }),
    ("from main inside a runtime that outlives it", || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // Ends with the process, while it is in use.
        let runtime: &'static _ = Box::leak(Box::new(runtime));
        runtime.spawn(async {
            loop {
                everything_without_timers_around();
            }
        });
        runtime.block_on(async { everything() });
        hold(say_farewell);
    }),
];

fn say_farewell() {
    farewell();
    eprintln!("farewell");
}

fn main() {
    assert!(is_main_thread());
    if let Ok(role) = env::var(ROLE) {
        let (_, play) = ROLES.into_iter().find(|(name, _)| *name == role).unwrap();
        return play();
    }
    for (name, _) in ROLES {
        let complained = run_process(name, &[], &[(ROLE, name)]).1;
        assert_eq!(complained.contains("farewell"), name != ROLES[0].0, "{name}: {complained}");
        println!("{name}: ok");
    }
}
