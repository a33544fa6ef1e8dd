//! Encrypted connections, to a server with a certificate of an authority that only this test knows.

use super::{PATIENT, prefix, put, text};
use crate::support::{Redis, eventually};
use larder::{
    AsyncCacheAdapter, AsyncRedisCache, CacheValue, Entry, ErrorKind, Expiry, RedisBuilder,
};
use std::path::PathBuf;
use std::sync::OnceLock;

/// A server that encrypts; `None` where the one that was named for the tests was built without
/// that, which is said.
pub(super) fn server() -> Option<Redis> {
    Redis::try_start_tls()
}

/// A file with the certificate of an authority, for caches that never get to see a certificate.
pub(super) fn authority() -> PathBuf {
    static PEM: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = PEM.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), crate::support::redis::authority_pem()).unwrap();
        file
    });
    file.path().to_owned()
}

/// The file is read at each connect: a certificate that was renewed under another authority is
/// trusted from then on.
#[tokio::test]
async fn a_renewed_authority_is_found_by_the_next_connection() {
    let Some(server) = server() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), crate::support::redis::authority_pem()).unwrap();
    let url = format!("{}?ca_cert={}", server.url(), file.path().display());
    let cache =
        RedisBuilder::from_url(&url).unwrap().prefix(prefix()).op_timeout(PATIENT).build().unwrap();
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    std::fs::write(file.path(), server.ca_pem()).unwrap();
    eventually("the new authority is trusted", PATIENT, async || cache.get("k").await.is_ok())
        .await;
    std::fs::write(file.path(), crate::support::redis::authority_pem()).unwrap();
    cache.close().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// So do the lanes that are opened later: those of large values, of batches and of clears, and
/// those on which the server tells a near level.
#[cfg(feature = "memory")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_reads_the_authority_when_it_connects() {
    let Some(server) = server() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("{}?ca_cert={}", server.url(), file.path().display());
    let trust = |pem: String| std::fs::write(file.path(), pem).unwrap();
    let large = || CacheValue::new("v".repeat(400_000));
    let many: Vec<String> = (0..2_000).map(|number| format!("k{number}")).collect();
    for call in ["large", "set_many", "get_many", "clear", "near", "reconnect", "claims"] {
        trust(server.ca_pem());
        let redis = RedisBuilder::from_url(&url).unwrap().prefix(prefix()).op_timeout(PATIENT);
        let redis = redis.build().unwrap();
        let cache: std::sync::Arc<dyn AsyncCacheAdapter> = match call {
            "near" => std::sync::Arc::new(larder::layers::Tiered::new(
                larder::AsyncMemoryCache::new(),
                redis,
            )),
            _ => std::sync::Arc::new(redis),
        };
        put(&cache, "k", "v").await.unwrap();
        cache.close().await.unwrap();
        let run = async || -> larder::Result<()> {
            let entries: Vec<_> =
                many.iter().map(|key| Entry::new(key, CacheValue::new(1), Expiry::Never)).collect();
            let keys: Vec<&str> = many.iter().map(String::as_str).collect();
            match call {
                "large" => cache.set("large", large(), Expiry::Never).await,
                "set_many" => cache.set_many(&entries).await?.into_iter().collect(),
                "get_many" => {
                    cache.get_many(&keys).await?.into_iter().try_for_each(|it| it.map(drop))
                }
                "clear" => cache.clear("").await,
                "reconnect" => cache.reconnect().await,
                "claims" => cache.claim("k", None).await.map(drop),
                _ => cache.get("k").await.map(drop),
            }
        };
        trust(crate::support::redis::authority_pem());
        assert_eq!(run().await.unwrap_err().kind(), ErrorKind::Unavailable, "{call}");
        trust(server.ca_pem());
        eventually(&format!("{call} goes on"), PATIENT, async || run().await.is_ok()).await;
        assert!(cache.get("k").await.is_ok(), "{call}");
    }
}

#[tokio::test]
async fn a_known_authority_is_trusted_and_an_unknown_one_is_not() {
    let Some(server) = server() else { return };
    let patient = |url: &str| {
        RedisBuilder::from_url(url).unwrap().prefix(prefix()).op_timeout(PATIENT).build().unwrap()
    };
    let trusted = format!("{}?ca_cert={}", server.url(), server.ca_path().display());
    for url in [
        trusted.clone(),
        trusted.replace("rediss:", "valkeys:"),
        trusted.replace("127.0.0.1", "localhost"),
    ] {
        let cache = patient(&url);
        put(&cache, "k", "v").await.unwrap();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("v"));
        assert!(format!("{cache:?}").contains("rediss://"));
    }

    let error = patient(server.url()).get("k").await.unwrap_err();
    println!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let error = patient(&format!("redis://{}", server.addr())).get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "no TLS where TLS is spoken");

    // The file is read when it is needed, not before.
    let missing = patient(&format!("{}?ca_cert=/nowhere/ca.pem", server.url()));
    let error = missing.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    let empty = server.dir().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    assert!(
        patient(&format!("{}?ca_cert={}", server.url(), empty.display())).get("k").await.is_err()
    );
}

#[test]
fn a_socket_is_not_encrypted() {
    assert_eq!(
        AsyncRedisCache::builder()
            .unix_socket("/run/redis.sock")
            .tls(true)
            .build()
            .unwrap_err()
            .kind(),
        ErrorKind::Config
    );
}
