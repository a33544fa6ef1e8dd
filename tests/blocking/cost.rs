//! What a call costs, printed beside the async face: `cargo test --release --test blocking cost --
//! --nocapture`.

use crate::own_process::own_process;
use larder::{CacheWrapper, awaitable};
use std::hint::black_box;
use std::time::Instant;
use tokio::runtime::Builder;

const CALLS: u32 = 100_000;

fn each(what: &str, mut call: impl FnMut()) {
    let best = (0..5).map(|_| {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        started.elapsed() / CALLS
    });
    eprintln!("{what}: {:?}", best.min().unwrap());
}

own_process! {
    fn of_a_call() {
        let cache = CacheWrapper::new("memory").unwrap();
        cache.set("key", 7u64).unwrap();
        each("a hit, blocking", || assert_eq!(black_box(cache.get::<u64>("key")).unwrap(), Some(7)));
        each("a miss, blocking", || assert_eq!(black_box(cache.get::<u64>("none")).unwrap(), None));
        each("a set, blocking", || cache.set("key", 7u64).unwrap());
        each("a wait for nothing", || awaitable(async { black_box(7) }).wait().eq(&7).then_some(()).unwrap());
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            each("a hit, blocking, inside a runtime", || assert_eq!(black_box(cache.get::<u64>("key")).unwrap(), Some(7)));
            let started = Instant::now();
            for _ in 0..CALLS {
                assert_eq!(black_box(cache.as_async().get::<u64>("key").await).unwrap(), Some(7));
            }
            eprintln!("a hit, async: {:?}", started.elapsed() / CALLS);
            let started = Instant::now();
            for _ in 0..CALLS {
                cache.as_async().set("key", 7u64).await.unwrap();
            }
            eprintln!("a set, async: {:?}", started.elapsed() / CALLS);
        });
    }
}
