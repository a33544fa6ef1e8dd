//! Null, false, zero and empty values are values like others.

use super::*;
use std::collections::BTreeMap;

/// Checks that `value` is a hit for every verb that reads.
async fn is_a_hit<T>(f: &Fixture, key: &str, value: T) -> Outcome
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
{
    if !exact(f, key, value.clone()).await? {
        return Ok(());
    }
    check_eq!(f.contains(key).await?, true, "contains of {value:?}");
    let [found] = &mut f.get_many(&[key]).await?[..] else {
        return Err(Failure::new("get_many of one key gives not one result", Location::caller()));
    };
    check_eq!(decoded::<T>(found.clone()?)?, Some(value.clone()), "get_many of {value:?}");
    if f.offers(Verb::Add).await? {
        check_eq!(
            f.add(key, CacheValue::new("other"), Expiry::Default).await?,
            false,
            "add over {value:?}"
        );
    }
    let kept = f.update_timeout(key, LONG).await?;
    check_eq!(decoded::<T>(kept)?, Some(value.clone()), "update_timeout of {value:?}");
    if f.offers(Verb::Take).await? {
        check_eq!(decoded::<T>(f.take(key).await?)?, Some(value.clone()), "take of {value:?}");
        f.put(key, value.clone()).await?;
    }
    check_eq!(f.remove(key).await?, true, "remove of {value:?}");
    Ok(())
}

pub(crate) async fn unit(f: &Fixture) -> Outcome {
    is_a_hit(f, "unit", ()).await
}

pub(crate) async fn none(f: &Fixture) -> Outcome {
    is_a_hit(f, "none", None::<u32>).await?;
    is_a_hit(f, "no text", None::<String>).await
}

pub(crate) async fn zero_and_false(f: &Fixture) -> Outcome {
    is_a_hit(f, "false", false).await?;
    is_a_hit(f, "zero", 0i64).await?;
    is_a_hit(f, "zero byte", 0u8).await?;
    is_a_hit(f, "zero float", 0.0f64).await
}

pub(crate) async fn empty(f: &Fixture) -> Outcome {
    is_a_hit(f, "text", String::new()).await?;
    is_a_hit(f, "list", Vec::<u8>::new()).await?;
    is_a_hit(f, "map", BTreeMap::<String, u8>::new()).await
}

/// Checks that the store returns the same value, or refuses it and stores nothing.
async fn exact_or_refused<T>(f: &Fixture, key: &str, value: T) -> Outcome
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
{
    match f.put(key, value.clone()).await {
        Err(refused) if refused.kind() == ErrorKind::Encode => {
            f.check_missing(key, "whose value was refused").await
        }
        stored => {
            stored?;
            check_eq!(f.read::<T>(key).await?, Some(value), "what was stored without an error");
            Ok(())
        }
    }
}

pub(crate) async fn some_of_nothing(f: &Fixture) -> Outcome {
    exact_or_refused(f, "some unit", Some(())).await?;
    exact_or_refused(f, "some none", Some(None::<u8>)).await?;
    exact_or_refused(f, "list of them", vec![Some(None::<u8>), None]).await
}
