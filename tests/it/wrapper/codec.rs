//! A view's own codec over memory, where a value is as another store would give it.

use super::plain_and_encoded;
use larder::{AsyncCacheWrapper, Codec, ErrorKind};

#[tokio::test]
async fn a_view_has_the_meanings_of_its_codec_in_memory_too() -> larder::Result<()> {
    for cache in plain_and_encoded() {
        let (json, raw) = (cache.codec(Codec::Json), cache.codec(Codec::Raw));
        json.set("list", vec![1, 2]).await?;
        assert_eq!(json.get("list").await?, Some([1u8, 2]));
        assert_eq!(cache.get("list").await?, Some(vec![1u64, 2]), "the value knows its codec");
        assert_eq!(json.set("nan", f64::NAN).await.unwrap_err().kind(), ErrorKind::Encode);
        raw.set("text", "42").await?;
        assert_eq!(raw.get::<String>("text").await?.as_deref(), Some("42"));
        assert_eq!(json.get_or_set_async("loaded", async { vec![0.5] }).await?, [0.5]);
        assert_eq!(json.get_or_set_async("loaded", async { vec![1.5] }).await?, [0.5]);
        let strict = json.fail_open(false);
        for refused in [
            strict.get_or_set("nan", f64::NAN).await,
            strict.get_or_set_async("nan", async { f64::NAN }).await,
            strict.get_or_load_here("nan", || async { f64::NAN }).await,
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Encode, "JSON has no such number");
        }
        assert!(json.get_or_set_async("nan", async { f64::NAN }).await?.is_nan());
        assert!(!cache.contains("nan").await?);
        assert_eq!(json.incr("n", 2).await?, 2);
        assert_eq!(raw.get::<String>("n").await?.as_deref(), Some("2"));
        cache.set("object", "plain").await?;
        assert_eq!(json.get::<String>("object").await?.as_deref(), Some("plain"));
        assert_eq!(json.get_or_set("object", String::new()).await?, "plain");
    }
    let of_builder = AsyncCacheWrapper::builder("memory").codec(Codec::Json).build()?;
    assert_eq!(of_builder.set("k", f64::NAN).await.unwrap_err().kind(), ErrorKind::Encode);
    of_builder.codec(Codec::MessagePack).set("k", f64::NAN).await
}
