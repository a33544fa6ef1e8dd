//! Properties of expiry, keys and the header.

use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheValue, Codec, DEFAULT_TTL, ErrorKind, Expiry,
    Lifetime,
};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const THOUSAND_YEARS: Duration = Duration::from_secs(1_000 * 365 * 86_400);

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0..5_000_000u64).prop_map(Duration::from_nanos),
        (0..100_000u64).prop_map(Duration::from_millis),
        Just(Duration::MAX),
        Just(Duration::ZERO),
        Just(THOUSAND_YEARS),
        Just(THOUSAND_YEARS - Duration::from_nanos(1)),
    ]
}

fn any_lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![Just(Lifetime::Never), any_duration().prop_map(Lifetime::For)]
}

fn expected(lasting: Duration) -> Lifetime {
    if lasting >= THOUSAND_YEARS { Lifetime::Never } else { Lifetime::For(lasting) }
}

proptest! {
    // Failing inputs are printed; a file of them beside the tests is not wanted.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expiry_resolves(lasting in any_duration(), default in any_lifetime()) {
        prop_assert_eq!(Expiry::After(lasting).resolve(default), expected(lasting));
        prop_assert_eq!(Expiry::from(lasting).resolve(default), expected(lasting));
        prop_assert_eq!(Expiry::Never.resolve(default), Lifetime::Never);
        let resolved = Expiry::Default.resolve(default);
        prop_assert_eq!(resolved, match default { Lifetime::Never => Lifetime::Never, Lifetime::For(lasting) => expected(lasting) });
        prop_assert_eq!(Expiry::from(resolved).resolve(Lifetime::default()), resolved, "a lifetime says the same when it is said again");
        prop_assert_eq!(Expiry::Default.or(Expiry::After(lasting)), Expiry::After(lasting));
        prop_assert_eq!(Expiry::After(lasting).or(Expiry::Never), Expiry::After(lasting));
        prop_assert_eq!(Expiry::Default.resolve(Lifetime::default()), Lifetime::For(DEFAULT_TTL));
    }

    #[test]
    fn points_in_time(lasting in any_duration(), past in any::<bool>()) {
        let now = SystemTime::now();
        let when = if past { now.checked_sub(lasting) } else { now.checked_add(lasting) };
        if let Some(when) = when {
            match Expiry::At(when).resolve(Lifetime::Never) {
                Lifetime::Never => prop_assert!(!past && lasting >= THOUSAND_YEARS),
                Lifetime::For(left) if past => prop_assert_eq!(left, Duration::ZERO, "what is past is over"),
                Lifetime::For(left) => prop_assert!(left <= lasting && lasting - left < Duration::from_secs(60)),
            }
        }
    }

    #[test]
    fn milliseconds_round_up(lasting in any_duration()) {
        match Lifetime::For(lasting).as_millis_ceil() {
            None => prop_assert!(lasting >= THOUSAND_YEARS),
            Some(ms) => {
                prop_assert!(Duration::from_millis(ms) >= lasting && Duration::from_millis(ms.saturating_sub(1)) < lasting.max(Duration::from_nanos(1)));
                prop_assert_eq!(ms == 0, lasting.is_zero(), "zero, and only zero, is zero");
                prop_assert_eq!(Lifetime::For(lasting).is_zero(), lasting.is_zero());
            }
        }
    }

    #[test]
    fn stored_values_come_back(key in "\\PC{1,40}", other in "\\PC{1,40}", text in any::<String>(), bytes in any::<Vec<u8>>(), number in any::<i64>(), float in any::<f64>()) {
        fn back<T>(key: &str, value: &T, codec: Codec) -> Result<T, ErrorKind>
        where T: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static {
            let stored = CacheValue::new(value.clone()).to_stored(key, codec).map_err(|e| e.kind())?;
            CacheValue::from_stored(key, stored, codec).decode().map_err(|e| e.kind())
        }
        for codec in [Codec::MessagePack, Codec::Json, Codec::Raw] {
            prop_assert_eq!(back(&key, &text, codec), Ok(text.clone()));
            prop_assert_eq!(back(&key, &bytes, codec), Ok(bytes.clone()));
            prop_assert_eq!(back(&key, &number, codec), Ok(number));
            prop_assert_eq!(back(&key, &float, codec).map(f64::to_bits), Ok(float.to_bits()));
        }
        let all = (text.clone(), bytes.clone(), number, Some(text.clone()), vec![(number, text.clone())]);
        prop_assert_eq!(back(&key, &all, Codec::MessagePack), Ok(all.clone()));
        prop_assert_eq!(back(&key, &all, Codec::Json), Ok(all));
        let stored = CacheValue::new(text.clone()).to_stored(&key, Codec::MessagePack).unwrap();
        prop_assert_eq!(CacheValue::from_stored(&other, stored, Codec::MessagePack).is_misdirected(), key != other);
    }

    #[test]
    fn keys_are_any_text(keys in prop::collection::btree_set(any::<String>(), 1..20), space in any::<String>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let root = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
            for cache in [root.clone(), root.namespace(&space)] {
                for (at, key) in keys.iter().enumerate() {
                    let stored = cache.set(key, at).await.map_err(|e| e.kind());
                    prop_assert_eq!(stored, if key.is_empty() { Err(ErrorKind::InvalidKey) } else { Ok(()) });
                }
                for (at, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_empty()) {
                    prop_assert_eq!(cache.get::<usize>(key).await.unwrap(), Some(at));
                }
            }
            // `:` and `%` in a name are escaped.
            let path = space.replace('%', "%25").replace(':', "%3A");
            for (at, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_empty()) {
                prop_assert_eq!(root.get::<usize>(format!("{path}:{key}")).await.unwrap(), Some(at), "by its full path");
            }
            Ok(())
        })?;
    }
}
