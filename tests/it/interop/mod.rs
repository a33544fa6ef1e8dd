//! Programs in another language on the same store, both ways.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use crate::support::{Memcached, Redis};
use larder::{AsyncCacheWrapper, AsyncMemcachedCache, AsyncRedisCache, AsyncSqliteCache, Codec};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

const TEXT: &str = "grüße, 世界\r\nget x";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
    tags: Vec<String>,
}

impl User {
    fn ada() -> Self {
        Self { name: "Ada".into(), age: 36, tags: vec!["a".into(), "b".into()] }
    }
}

/// A store as both programs know it.
struct Shared<'a> {
    backend: &'a str,
    address: String,
    prefix: String,
    codec: Codec,
    cache: AsyncCacheWrapper,
}

impl Shared<'_> {
    /// Runs the Python program to its end.
    fn python(&self, work: &str) {
        let python =
            std::env::var("LARDER_TEST_PYTHON").unwrap_or_else(|_| "target/venv/bin/python".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/interop/peer.py");
        let codec = self.codec.to_string();
        let run = Command::new(&python)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg(script)
            .args([self.backend, &self.address, &self.prefix, &codec, work])
            .output()
            .unwrap_or_else(|error| panic!("`{python}` does not run ({error}): `scripts/test` installs it with redis-py and pymemcache"));
        let (out, err) =
            (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "python {work}s {codec} on {}:\n{out}{err}", self.backend);
        print!("{out}");
    }

    async fn both_ways(&self) {
        let cache = &self.cache;
        cache.set("text", TEXT).await.unwrap();
        cache.set("number", 41).await.unwrap();
        match self.codec {
            Codec::Json => cache.set("user", User::ada()).await.unwrap(),
            _ => cache.set("bytes", (0..=255).collect::<Vec<u8>>()).await.unwrap(),
        }
        self.python("read");
        assert_eq!(cache.get::<i64>("number").await.unwrap(), Some(42), "Python counted on");
        assert_eq!(cache.incr("number", 8).await.unwrap(), 50);

        cache.clear().await.unwrap();
        self.python("write");
        assert_eq!(cache.get::<String>("text").await.unwrap().as_deref(), Some(TEXT));
        assert_eq!(cache.incr("number", 1).await.unwrap(), 42);
        match self.codec {
            Codec::Json => assert_eq!(cache.get::<User>("user").await.unwrap(), Some(User::ada())),
            _ => {
                assert_eq!(cache.get::<Vec<u8>>("bytes").await.unwrap(), Some((0..=255).collect()))
            }
        }
    }
}

const CODECS: [Codec; 2] = [Codec::Json, Codec::Raw];

#[tokio::test]
async fn redis_py() {
    let server = Redis::shared();
    for codec in CODECS {
        let prefix = format!("interop-{codec}:");
        let adapter =
            AsyncRedisCache::from_url(&format!("{}?prefix={prefix}&codec={codec}", server.url()))
                .unwrap();
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        Shared { backend: "redis", address: server.addr().to_string(), prefix, codec, cache }
            .both_ways()
            .await;
    }
}

#[tokio::test]
async fn pymemcache() {
    let server = Memcached::shared();
    for codec in CODECS {
        let prefix = format!("interop-{codec}:");
        let adapter = AsyncMemcachedCache::from_url(&format!(
            "{}?prefix={prefix}&codec={codec}",
            server.url()
        ))
        .unwrap();
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        Shared { backend: "memcached", address: server.addr().to_string(), prefix, codec, cache }
            .both_ways()
            .await;
    }
}

#[tokio::test]
async fn sqlite3() {
    let dir = tempfile::tempdir().unwrap();
    for codec in CODECS {
        let file = dir.path().join(format!("{codec}.db"));
        let adapter = AsyncSqliteCache::builder().path(&file).codec(codec).build().unwrap();
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        let address = file.to_str().unwrap().to_owned();
        Shared { backend: "sqlite", address, prefix: String::new(), codec, cache }
            .both_ways()
            .await;
    }
}
