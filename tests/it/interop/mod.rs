//! Programs in another language on the same store, both ways.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use crate::support::values::PATIENT;
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
            .unwrap_or_else(|error| {
                panic!(
                    "`{python}` does not run ({error}): `scripts/test` installs it with the clients"
                )
            });
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
        if let Some(typed) = cache.get::<String>("typed").await.unwrap() {
            assert_eq!(typed, TEXT, "with the flags of the client's own");
            assert_eq!(cache.incr("count", 1).await.unwrap(), 42);
            cache.clear().await.unwrap();
            assert_eq!(cache.get::<String>("typed").await.unwrap(), None);
        }
    }
}

const CODECS: [Codec; 2] = [Codec::Json, Codec::Raw];

/// Adapters whose own codec is another one: the keys of one view are shared with Python, over the
/// connections of all others.
#[tokio::test]
async fn a_view_of_a_cache_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    for codec in CODECS {
        let prefix = format!("interop-view-{codec}:");
        let url = format!("{}?prefix={prefix}&op_timeout=60s", Redis::shared().url());
        let redis = ("redis", Redis::shared().addr().to_string(), url);
        let url = format!("{}?prefix={prefix}&op_timeout=60s", Memcached::shared().url());
        let address = Memcached::shared().addr().to_string();
        let clients = ["memcached", "pymemcache-serde"];
        let memcached = clients.map(|client| (client, address.clone(), url.clone()));
        let file = dir.path().join(format!("{codec}.db")).display().to_string();
        let sqlite =
            ("sqlite", file.clone(), format!("sqlite:{file}?prefix={prefix}&op_timeout=60s"));
        for (backend, address, url) in memcached.into_iter().chain([redis, sqlite]) {
            let cache = AsyncCacheWrapper::new(url).unwrap().codec(codec).into_cache();
            let prefix = prefix.clone();
            Shared { backend, address, prefix, codec, cache }.both_ways().await;
        }
    }
}

#[tokio::test]
async fn redis_py() {
    let server = Redis::shared();
    for codec in CODECS {
        let prefix = format!("interop-{codec}:");
        let adapter = AsyncRedisCache::from_url(&format!(
            "{}?prefix={prefix}&codec={codec}&op_timeout=60s",
            server.url()
        ))
        .unwrap();
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        Shared { backend: "redis", address: server.addr().to_string(), prefix, codec, cache }
            .both_ways()
            .await;
    }
}

/// memcached's clients, each with a meaning of its own for the client flags.
const MEMCACHED_CLIENTS: [&str; 4] =
    ["memcached", "pymemcache-serde", "python-memcached", "pylibmc"];

fn on_memcached(backend: &'static str, prefix: String, codec: Codec) -> Shared<'static> {
    let server = Memcached::shared();
    let url = format!("{}?prefix={prefix}&codec={codec}&op_timeout=60s", server.url());
    let cache = AsyncCacheWrapper::new(AsyncMemcachedCache::from_url(&url).unwrap()).unwrap();
    Shared { backend, address: server.addr().to_string(), prefix, codec, cache }
}

#[tokio::test]
async fn memcached_clients_in_python() {
    for client in MEMCACHED_CLIENTS {
        for codec in CODECS {
            on_memcached(client, format!("interop-{client}-{codec}:"), codec).both_ways().await;
        }
    }
}

/// The client flags are types to other clients. A cached text that is a pickle must stay a text,
/// whatever has been cleared before: 400 prefixes begin at 400 places in the range of the flags.
#[tokio::test]
async fn no_client_runs_what_is_cached() {
    const PROBES: usize = 400;
    let text = "cbuiltins\nprint\n(S'a cached text was run'\ntR.";
    for codec in [Codec::MessagePack, Codec::Json, Codec::Raw] {
        let prefix = format!("probe-{codec}-");
        for n in 0..PROBES {
            let one = on_memcached("memcached", format!("{prefix}{n}:"), codec);
            if n % 4 == 0 {
                one.cache.clear().await.unwrap();
            }
            one.cache.set("text", text).await.unwrap();
        }
        for client in MEMCACHED_CLIENTS {
            on_memcached(client, prefix.clone(), codec).python("probe");
        }
    }
}

/// Host names in upper and lower case, and a number: the ring is made of the names as they were
/// typed.
#[tokio::test]
async fn libmemcached_finds_the_keys_on_the_servers_where_they_are() {
    let servers: [Memcached; 4] = std::array::from_fn(|_| Memcached::start());
    let names = ["LocalHost", "localhost", "LOCALHOST", "127.0.0.1"];
    let names = names.iter().zip(&servers);
    let address: Vec<String> =
        names.map(|(name, server)| format!("{name}:{}", server.addr().port())).collect();
    let address = address.join(",");
    let (prefix, codec) = ("ketama:".to_owned(), Codec::Raw);
    let adapter = AsyncMemcachedCache::from_url(&format!(
        "memcached://{address}?prefix={prefix}&codec=raw&op_timeout=60s"
    ))
    .unwrap();
    let cache = AsyncCacheWrapper::new(adapter).unwrap();
    for n in 0..1_000 {
        cache.set(&format!("key-{n}"), n.to_string()).await.unwrap();
    }
    Shared { backend: "pylibmc-ketama", address, prefix, codec, cache }.python("find");
}

#[tokio::test]
async fn sqlite3() {
    let dir = tempfile::tempdir().unwrap();
    for codec in CODECS {
        let file = dir.path().join(format!("{codec}.db"));
        let adapter = AsyncSqliteCache::builder()
            .path(&file)
            .codec(codec)
            .op_timeout(PATIENT)
            .build()
            .unwrap();
        let cache = AsyncCacheWrapper::new(adapter).unwrap();
        let address = file.to_str().unwrap().to_owned();
        Shared { backend: "sqlite", address, prefix: String::new(), codec, cache }
            .both_ways()
            .await;
    }
}
