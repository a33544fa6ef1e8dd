//! A tour of larder: `cargo run --example quickstart`.
//!
//! Nothing has to be installed or configured. Until it gets another adapter, the global cache is a
//! bounded cache in the memory of this process.

use larder::{
    AsyncMemoryCache, Awaitable, Expiry, async_adapter_get, async_adapter_set, async_cached,
    awaitable, cached,
};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::sleep;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    println!("The global cache is in: {}", async_adapter_get()?.backend());
    first_steps().await?;
    loaders().await?;
    single_flight().await?;
    expiry().await?;
    counters_and_namespaces().await?;
    swap_under_use().await?;
    // Blocking code is better kept off the threads that run async code, here as with any library.
    tokio::task::spawn_blocking(blocking_world).await??;
    both_worlds().await?;
    println!("\nDone. Next: README.md, docs/, and `cargo run --example hot_swap --features full`.");
    Ok(())
}

async fn first_steps() -> Result<()> {
    title("1. Set and get");
    async_cached().set("hello", "world").await?;
    let hello: Option<String> = async_cached().get("hello").await?;
    assert_eq!(hello.as_deref(), Some("world"));
    println!("   set(\"hello\", \"world\"), then get(\"hello\"): {hello:?}");

    let nope = async_cached().get::<String>("nope").await?;
    assert_eq!(nope, None);
    println!("   get(\"nope\"): {nope:?}. A miss is not an error ...");

    let error = async_cached().get_or_fail::<String>("nope").await.expect_err("it is missing");
    assert!(error.is_not_found());
    println!("   ... unless you ask for one. get_or_fail(\"nope\"): {error}");

    async_cached().set("answer", 42u8).await?;
    let wider: Option<i64> = async_cached().get("answer").await?;
    assert_eq!(wider, Some(42));
    println!(
        "   set(\"answer\", 42u8), then get::<i64>(\"answer\"): {wider:?}. Read it as any type that serde can convert to."
    );
    Ok(())
}

async fn loaders() -> Result<()> {
    title("2. Get, or set");
    let a = async_cached().get_or_set("a", 5u32).await?;
    println!("   By value.   get_or_set(\"a\", 5): {a}");

    let b = async_cached().get_or_set_with("b", |key| format!("made for {key}")).await?;
    println!("   By closure, which gets the key: {b:?}");

    let user = async_cached().get_or_set_async("user:7", async { load_user(7).await }).await?;
    println!("   By future.  {user:?}");

    // The future of a hit is dropped without having been polled.
    let user_again: String = async_cached()
        .get_or_set_async("user:7", async { unreachable!("a hit runs no loader") })
        .await?;
    println!(
        "   Again:      {user_again:?}. A hit does not run the loader, which would have panicked."
    );

    let failed = async_cached()
        .try_get_or_set_async("user:8", async { "no such user".parse::<u32>() })
        .await
        .expect_err("it is no number");
    let cause = failed.source().map(ToString::to_string).unwrap_or_default();
    println!("   A loader that fails: {failed} ({cause}). Nothing is stored.");

    assert_eq!((a, b.as_str()), (5, "made for b"));
    assert_eq!((user.as_str(), user_again.as_str()), ("Ada", "Ada"));
    assert!(!async_cached().contains("user:8").await?);
    Ok(())
}

async fn single_flight() -> Result<()> {
    title("3. A thousand callers, one key");
    async_cached().remove("slow").await?;
    let runs = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let runs = runs.clone();
            let slow = async move {
                runs.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
                7u64
            };
            tokio::spawn(async_cached().get_or_set_async("slow", slow))
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await??, 7);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    println!("   1,000 tasks asked for \"slow\", which takes 50 ms to compute.");
    println!("   All of them got 7, and the loader ran {} time.", runs.load(Ordering::Relaxed));
    Ok(())
}

async fn expiry() -> Result<()> {
    title("4. Expiry");
    async_cached().ttl(Duration::from_millis(100)).set("brief", 1).await?;
    async_cached().ttl(Expiry::Never).set("for ever", 1).await?;
    for key in ["hello", "brief", "for ever"] {
        println!("   {:<11} {:.1?}", format!("{key:?}:"), async_cached().expiry(key).await?);
    }
    sleep(Duration::from_millis(150)).await;
    let brief: Option<u8> = async_cached().get("brief").await?;
    assert_eq!(brief, None);
    println!("   150 ms later, get(\"brief\"): {brief:?}. The default expiry is 300 s.");

    assert!(async_cached().touch("hello", Duration::from_secs(3600)).await?);
    println!("   touch(\"hello\", an hour): {:.1?}", async_cached().expiry("hello").await?);
    Ok(())
}

async fn counters_and_namespaces() -> Result<()> {
    title("5. Counters, locks, namespaces");
    async_cached().remove(["hits", "lock"]).await?;
    async_cached().incr("hits", 1).await?;
    let hits = async_cached().incr("hits", 41).await?;
    println!("   incr(\"hits\", 1), then incr(\"hits\", 41): {hits}");

    let (first, second) =
        (async_cached().add("lock", "me").await?, async_cached().add("lock", "you").await?);
    println!(
        "   add(\"lock\", …) twice: {first}, {second}. Each is one atomic step, on every backend."
    );

    let users = async_cached().namespace("users");
    users.set("7", "Ada").await?;
    users.clear().await?;
    let (ada, hello) = (users.contains("7").await?, async_cached().contains("hello").await?);
    println!("   namespace(\"users\").clear(). Is user 7 there? {ada}. And \"hello\"? {hello}.");

    assert_eq!((hits, first, second), (42, true, false));
    assert_eq!((ada, hello), (false, true));
    Ok(())
}

async fn swap_under_use() -> Result<()> {
    title("6. Another adapter, while the cache is in use");
    let done = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(read_until(done.clone()))).collect();

    let before = async_cached().generation()?;
    for _ in 0..100 {
        async_adapter_set(AsyncMemoryCache::builder().max_entries(1_000).build())?;
        sleep(Duration::from_millis(1)).await;
    }
    let swaps = async_cached().generation()? - before;
    done.store(true, Ordering::Relaxed);

    let mut calls = 0;
    for task in tasks {
        calls += task.await??;
    }
    assert!(swaps == 100 && calls > 0);
    println!(
        "   4 tasks called the cache while its adapter was exchanged {swaps} times: {calls} calls, none failed."
    );

    let hello = async_cached().get_or("hello", "NOT FOUND".to_string()).await?;
    assert_eq!(hello, "NOT FOUND");
    println!("   The new adapter starts empty. get_or(\"hello\", \"NOT FOUND\"): {hello:?}");
    println!(
        "   An adapter can also be named: \"memory\", \"sqlite:cache.db\", \"redis://127.0.0.1/2\", …"
    );
    if let Err(error) = async_adapter_set("oracle") {
        println!("   async_adapter_set(\"oracle\"): {error}");
    }
    Ok(())
}

/// Calls the cache until `done`, and returns the number of calls.
async fn read_until(done: Arc<AtomicBool>) -> larder::Result<u32> {
    let mut calls = 0;
    while !done.load(Ordering::Relaxed) {
        let key = format!("square:{}", calls % 100);
        let square = async_cached().get_or_set(&key, (calls % 100) * (calls % 100)).await?;
        assert_eq!(square, (calls % 100) * (calls % 100));
        calls += 1;
        // A hit in memory never waits, so the loop has to let others run.
        tokio::task::yield_now().await;
    }
    Ok(calls)
}

fn blocking_world() -> larder::Result<()> {
    title("7. The same cache without .await");
    cached().set("hello", "from a blocking thread")?;
    let hello: Option<String> = cached().get("hello")?;
    println!("   cached().get(\"hello\"): {hello:?}");

    let squared = cached().ttl(Duration::from_secs(60)).get_or_set_with("squared", |_| 12 * 12)?;
    let user = cached().get_or_set_async("user:7", async { load_user(7).await })?;
    println!("   A closure as loader: {squared}. A future as loader, from blocking code: {user:?}");

    larder::set("k", 1)?;
    println!(
        "   Plain functions: larder::set(\"k\", 1), then larder::get(\"k\"): {:?}",
        larder::get::<i64>("k")?
    );

    assert_eq!(hello.as_deref(), Some("from a blocking thread"));
    assert_eq!((squared, user.as_str()), (144, "Ada"));
    Ok(())
}

/// One function for async and blocking code.
fn get_hello() -> Awaitable<impl Future<Output = larder::Result<Option<String>>>> {
    awaitable(async_cached().get::<String>("hello"))
}

async fn both_worlds() -> Result<()> {
    title("8. One function for both");
    let awaited = get_hello().await?;
    let waited = tokio::task::spawn_blocking(|| get_hello().wait()).await??;
    println!("   get_hello().await in async code:     {awaited:?}");
    println!("   get_hello().wait() in blocking code: {waited:?}");
    assert_eq!(awaited, waited);
    Ok(())
}

/// What a program caches: something slow.
async fn load_user(id: u32) -> String {
    sleep(Duration::from_millis(20)).await;
    if id == 7 { "Ada".to_owned() } else { format!("user {id}") }
}

fn title(text: &str) {
    println!("\n{text}");
}
