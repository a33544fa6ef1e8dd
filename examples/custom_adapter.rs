//! Adapters of your own: `cargo run --example custom_adapter`.
//!
//! First a store with every verb, by the async trait. Then a store that blocks, through the bridge.
//! `tests/it/docs.rs` checks the first one by `larder::testing::conformance!`; your tests can check
//! your adapter in the same way.

use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, Blocking, CacheAdapter, CacheValue, Codec, Error,
    ErrorKind, Expiry, KeyCursor, KeyPage, Lifetime, Result, async_trait,
};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A map with deadlines. Each verb holds the one mutex from its first look to its last change, so
/// each is atomic; none awaits while it does. A value's own code (`Serialize`, `Drop`) may use the
/// cache, so it runs before the mutex is locked, or after.
#[derive(Debug, Default)]
pub(crate) struct MapStore {
    entries: Mutex<HashMap<String, Stored>>,
}

#[derive(Clone, Debug)]
struct Stored {
    value: CacheValue,
    /// What the value is to a counter.
    number: Result<i64>,
    /// `None` is never.
    deadline: Option<Instant>,
}

impl Stored {
    fn new(value: CacheValue, lifetime: Lifetime) -> Self {
        Self { number: value.as_counter(), value, deadline: end(lifetime) }
    }

    fn is_live(&self) -> bool {
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }
}

fn end(lifetime: Lifetime) -> Option<Instant> {
    match lifetime {
        Lifetime::Never => None,
        // What the clock cannot count to is never reached.
        Lifetime::For(lasting) => Instant::now().checked_add(lasting),
    }
}

impl MapStore {
    /// The map. No verb leaves it half changed, so one that panicked is no reason to refuse it.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Stored>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores `value` if `key` is live, or is missing, as `wanted` says.
    fn set_if(&self, wanted: bool, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let stored = prepare(key, value, expiry)?;
        let mut entries = self.lock();
        let live = entries.get(key).is_some_and(Stored::is_live);
        // Either goes after the lock: what was there, or what is not stored.
        let gone =
            if live == wanted { entries.insert(key.to_owned(), stored) } else { Some(stored) };
        drop(entries);
        drop(gone);
        Ok(live == wanted)
    }
}

/// What every write begins with. A value that cannot be encoded is an error here, as it is on the
/// adapters that store bytes.
fn prepare(key: &str, value: CacheValue, expiry: Expiry) -> Result<Stored> {
    check(key)?;
    value.encoded_len(Codec::MessagePack)?;
    // A deadline of now makes the key missing at once: that is what a lifetime of zero asks for.
    Ok(Stored::new(value, expiry.resolve(Lifetime::default())))
}

fn check(key: &str) -> Result<()> {
    if key.is_empty() { Err(Error::new(ErrorKind::InvalidKey).with_key(key)) } else { Ok(()) }
}

#[async_trait]
impl AsyncCacheAdapter for MapStore {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        check(key)?;
        Ok(self.lock().get(key).filter(|entry| entry.is_live()).map(|entry| entry.value.clone()))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let stored = prepare(key, value, expiry)?;
        let gone = self.lock().insert(key.to_owned(), stored);
        drop(gone);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        // A value that is kept past its logical end is missing for those who do not see it.
        Ok(self.take(key).await?.is_some_and(|value| !value.is_stale()))
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        check(key)?;
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.is_live()) else {
            return Ok(None);
        };
        entry.deadline = end(expiry.resolve(Lifetime::default()));
        Ok(Some(entry.value.clone()))
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let gone: Vec<_> = self.lock().extract_if(|key, _| key.starts_with(prefix)).collect();
        drop(gone);
        Ok(())
    }

    // ---- verbs with no default, since nothing made of the five above would be atomic

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.set_if(false, key, value, expiry)
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        self.set_if(true, key, value, expiry)
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        check(key)?;
        let mut entries = self.lock();
        let counts = |entry: &&mut Stored| entry.is_live() && !entry.value.is_stale();
        let found = entries.get_mut(key).filter(counts);
        let before = found.as_ref().map_or(Ok(0), |entry| entry.number.clone())?;
        let after = before.checked_add(by).ok_or_else(|| Error::new(ErrorKind::Overflow))?;
        let mut stored = prepare(key, CacheValue::new(after), expiry)?;
        if let Some(found) = found {
            stored.deadline = found.deadline;
        }
        let gone = entries.insert(key.to_owned(), stored);
        drop(entries);
        drop(gone);
        Ok(after)
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        check(key)?;
        let gone = self.lock().remove(key);
        Ok(gone.filter(Stored::is_live).map(|entry| entry.value))
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        check(key)?;
        Ok(self.lock().get(key).filter(|entry| entry.is_live()).map(|entry| match entry.deadline {
            None => Expiry::Never,
            Some(deadline) => Expiry::After(deadline.saturating_duration_since(Instant::now())),
        }))
    }

    /// All keys in one page: the map is locked anyway. A larger store gives a cursor with each page.
    async fn keys(&self, prefix: &str, _: Option<&KeyCursor>) -> Result<KeyPage> {
        let entries = self.lock();
        let is_there = |(key, entry): &(&String, &Stored)| {
            key.starts_with(prefix) && entry.is_live() && !entry.value.is_stale()
        };
        let keys = entries.iter().filter(is_there).map(|(key, _)| key.clone()).collect();
        Ok(KeyPage::new(keys, None))
    }

    // ---- and what else an adapter may have to say

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Self::default()))
    }

    fn backend(&self) -> &str {
        "map"
    }
}

/// A store that blocks: one JSON file, read and rewritten by every call. It offers no more than it
/// must; the other verbs then work through these five, or say `Unsupported`.
#[derive(Debug)]
struct FileStore {
    path: PathBuf,
    /// Held from reading the file to having rewritten it.
    file: Mutex<()>,
}

/// What the file holds by key: when the entry expires, and the bytes of its value.
type Lines = HashMap<String, (Option<SystemTime>, Vec<u8>)>;

impl FileStore {
    fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: Mutex::new(()) }
    }

    /// Lets `change` see and change the live entries.
    fn with<R>(&self, change: impl FnOnce(&mut Lines) -> Result<R>) -> Result<R> {
        let away = |error: io::Error| Error::new(ErrorKind::Unavailable).with_source(error);
        let _file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Lines = match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| away(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Lines::new(),
            Err(error) => return Err(away(error)),
        };
        let now = SystemTime::now();
        lines.retain(|_, (deadline, _)| deadline.is_none_or(|deadline| now < deadline));
        let outcome = change(&mut lines)?;
        // Renamed into place, so that a crash leaves the old file or the new one.
        let fresh = self.path.with_extension("new");
        let text = serde_json::to_vec(&lines).map_err(|error| away(error.into()))?;
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.path)).map_err(away)?;
        Ok(outcome)
    }
}

fn deadline(expiry: Expiry) -> Option<SystemTime> {
    match expiry.resolve(Lifetime::default()) {
        Lifetime::Never => None,
        Lifetime::For(lasting) => SystemTime::now().checked_add(lasting),
    }
}

/// Bytes back into a value. Damaged ones make a value that counts as a miss.
fn value_of(key: &str, bytes: &[u8]) -> CacheValue {
    CacheValue::from_stored(key, bytes.to_vec().into(), Codec::MessagePack)
}

impl CacheAdapter for FileStore {
    fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        check(key)?;
        self.with(|lines| Ok(lines.get(key).map(|(_, bytes)| value_of(key, bytes))))
    }

    fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        check(key)?;
        let bytes = value.to_stored(key, Codec::MessagePack)?.to_vec();
        self.with(|lines| {
            lines.insert(key.to_owned(), (deadline(expiry), bytes));
            Ok(())
        })
    }

    fn remove(&self, key: &str) -> Result<bool> {
        check(key)?;
        self.with(|lines| {
            Ok(lines.remove(key).is_some_and(|(_, bytes)| !value_of(key, &bytes).is_stale()))
        })
    }

    fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        check(key)?;
        self.with(|lines| {
            Ok(lines.get_mut(key).map(|(until, bytes)| {
                *until = deadline(expiry);
                value_of(key, bytes)
            }))
        })
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.with(|lines| {
            lines.retain(|key, _| !key.starts_with(prefix));
            Ok(())
        })
    }

    fn backend(&self) -> &str {
        "file"
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("A map with deadlines, by the trait AsyncCacheAdapter:");
    let cache = AsyncCacheWrapper::new(MapStore::default())?;
    cache.set("hello", "world").await?;
    let hello: Option<String> = cache.get("hello").await?;
    println!("   get(\"hello\"):           {hello:?}");
    let loaded = cache.get_or_set_async("loaded", async { 7u64 }).await?;
    println!("   get_or_set_async(…):    {loaded}");
    cache.ttl(Duration::ZERO).set("gone", 1).await?;
    println!("   expired, get(\"gone\"):   {:?}", cache.get::<u8>("gone").await?);
    let counted = tokio::join!(cache.incr("hits", 1), cache.incr("hits", 1), cache.incr("hits", 1));
    println!("   incr(\"hits\", 1) thrice: {:?}", cache.get::<i64>("hits").await?);
    let (won, lost) = (cache.add("lock", 1).await?, cache.add("lock", 2).await?);
    println!("   add(\"lock\", …) twice:   {won}, {lost}");
    cache.namespace("users").set("7", "Ada").await?;
    cache.namespace("users").clear().await?;
    println!(
        "   a namespace cleared:    users:7 {}, hello {}",
        cache.contains("users:7").await?,
        cache.contains("hello").await?
    );

    assert_eq!((hello.as_deref(), loaded), (Some("world"), 7));
    assert!(counted.0.is_ok() && counted.1.is_ok() && counted.2.is_ok());
    assert_eq!(cache.get::<i64>("hits").await?, Some(3));
    assert!(won && !lost && !cache.contains("users:7").await? && cache.contains("hello").await?);

    println!("A file, by the trait CacheAdapter and the bridge Blocking:");
    let path =
        std::env::temp_dir().join(format!("larder-custom-adapter-{}.json", std::process::id()));
    let shown = use_file_store(&path).await;
    let cleaned = fs::remove_file(&path);
    shown?;
    cleaned.map_err(|error| Error::new(ErrorKind::Unavailable).with_source(error))
}

async fn use_file_store(path: &Path) -> Result<()> {
    let cache = AsyncCacheWrapper::new(Blocking(FileStore::new(path)))?;
    cache.set("hello", "world").await?;
    let again = AsyncCacheWrapper::new(Blocking(FileStore::new(path)))?;
    let hello: Option<String> = again.get("hello").await?;
    println!("   another store, same file: {hello:?}");
    let users =
        again.get_or_set_with("users", |_| vec!["Ada".to_owned(), "Grace".to_owned()]).await?;
    println!("   get_or_set_with(…):       {users:?}");
    let error = again.incr("hits", 1).await.expect_err("it has no incr");
    println!("   a verb it does not have:  {error}");

    assert_eq!(hello.as_deref(), Some("world"));
    assert_eq!(cache.get::<Vec<String>>("users").await?, Some(users));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    Ok(())
}
