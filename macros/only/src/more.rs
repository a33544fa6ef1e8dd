//! Arguments and values of every shape, and names that generated code could take.

use crate::AppError;
use larder::{AsyncCacheWrapper, cached, evicts, puts};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Arguments whose names are words of the cache.
#[cached(key = "words:{key}:{cache}:{view}:{load}:{value}")]
async fn words(key: u8, cache: u8, view: u8, load: u8, value: u8) -> u32 {
    [key, cache, view, load, value].into_iter().map(u32::from).sum()
}

#[cached(key = "raw:{r#type}:{r#match}")]
async fn raw_names(r#type: &str, r#match: bool) -> Option<String> {
    r#match.then(|| r#type.to_owned())
}

#[cached(key = "wide:{ip}:{count}:{letter}:{rate}")]
async fn plain_types(ip: IpAddr, count: NonZeroU32, letter: char, rate: f64) -> String {
    format!("{ip} {count} {letter} {rate}")
}

/// A function that finds a part of a text.
type Visit = dyn for<'a> Fn(&'a str) -> Option<&'a str> + Send + Sync;

/// Finds the whole text.
#[must_use]
pub const fn whole(text: &str) -> Option<&str> {
    Some(text)
}

#[cached(key = "functions:{id}", skip(borrow, choose, visit))]
async fn functions(
    id: u64,
    borrow: fn(&str) -> &str,
    choose: for<'a> fn(&'a str, &'a str) -> &'a str,
    visit: &Arc<Visit>,
    _unused: Option<fn(&str) -> Vec<&str>>,
) -> usize {
    visit(choose(borrow("four"), "")).map_or(0, str::len)
}

#[cached(key = "mutable:{first}:{second}", here)]
async fn mutable_pattern(&mut (ref mut first, _): &mut (u8, u8), (second, _): (&mut u8, u8)) -> u8 {
    *first += 1;
    *second += 1;
    *first + *second
}

#[cached(key = "closure:{id}", errors = |error| error.to_string())]
async fn error_by_a_closure(id: u64) -> Result<u64, String> {
    id.checked_sub(1).ok_or_else(|| "none".to_owned())
}

/// The conditional attributes of a function go to their places, each by itself.
///
/// # Errors
///
/// Never.
#[cached(key = "conditional:{id}")]
#[cfg_attr(all(), must_use, doc(hidden), allow(unused_variables, reason = "it is conditional"))]
pub async fn conditional(id: u64) -> Result<u64, AppError> {
    let unused = 1;
    Ok(id)
}

#[cached(skip(by))]
async fn json_types(
    ids: [u8; 3],
    name: Option<&'static str>,
    pair: (u8, String),
    by: fn(u8) -> u8,
) -> u8 {
    ids.into_iter().map(by).sum::<u8>() + pair.0 + u8::from(name.is_some())
}

#[cached(key = "slices:{names.len()}", skip(path))]
async fn borrowed(names: &[String], path: &Path) -> Vec<Arc<String>> {
    let path = path.display();
    names.iter().map(|name| Arc::new(format!("{path}/{name}"))).collect()
}

#[cached(key = "cow:{name}", here)]
async fn cow(name: Cow<'_, str>) -> usize {
    name.len()
}

#[cached(key = "dyn:{what}", here, skip(more))]
async fn objects(what: &(dyn Display + Sync), more: &dyn DynMore) -> Result<String, AppError> {
    more.more().map(|more| format!("{what}{more}"))
}

/// An object of a trait that is an argument.
trait DynMore: Sync {
    fn more(&self) -> Result<&'static str, AppError>;
}

/// Neither `Send` nor `Sync`.
#[cached(key = "local:{id}", here, skip(rc))]
async fn local(rc: Rc<u64>, id: u64) -> u64 {
    let kept = Rc::clone(&rc);
    std::future::ready(()).await;
    *kept + id
}

#[cached(key = "control:{n}")]
async fn control(n: u32) -> Result<Option<u32>, AppError> {
    let half = n.checked_div(2).ok_or(AppError::NotFound)?;
    let found = 'outer: loop {
        for candidate in 0.. {
            if candidate * candidate >= half {
                break 'outer candidate;
            }
        }
    };
    if found > 100 {
        return Ok(None);
    }
    Ok(Some(found))
}

#[cached(key = "nested:{id}")]
async fn nested(id: u64) -> Result<Result<u64, String>, AppError> {
    if id == 0 { Err(AppError::NotFound) } else { Ok(Err(format!("no {id}"))) }
}

#[cached(key = "attributes:{id}")]
#[inline]
#[must_use]
#[allow(clippy::unused_async, reason = "the attribute goes to both")]
#[cfg_attr(any(), deprecated)]
async fn attributes(
    /* a comment */ id: u64,
    #[allow(unused_variables, reason = "nobody reads it")] _unused: u8,
) -> u64 {
    id
}

#[cached(key = "fn:{name}", skip(apply), here)]
async fn applied<F, R>(name: &str, apply: F) -> u64
where
    F: FnOnce(usize) -> R,
    R: Future<Output = u64>,
{
    apply(name.len()).await
}

/// A function in the module above.
mod deeper {
    use larder::cached;

    #[cached(key = "deeper:{id}")]
    pub(super) async fn deeper(id: u64) -> HashMapOf {
        HashMapOf::from([(id, "x".to_owned())])
    }

    pub(in crate::more) type HashMapOf = super::HashMap<u64, String>;
}

#[cached(key = "debug:{name.0}", cache = cache, skip(value))]
async fn tuple_struct<V: Debug + Clone + Send + Sync + 'static>(
    cache: &AsyncCacheWrapper,
    name: &Name,
    value: V,
) -> String {
    format!("{} {value:?}", name.0)
}

#[derive(Clone, Debug)]
struct Name(String);

#[evicts(control(n), words(0, 0, 0, 0, 0))]
async fn forgets(n: u32) -> Result<(), AppError> {
    if n == 0 { Err(AppError::NotFound) } else { Ok(()) }
}

#[puts("control:{n}")]
async fn replaces(n: u32) -> Result<Option<u32>, AppError> {
    if n == 0 { Err(AppError::NotFound) } else { Ok(Some(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};

    struct Much;

    impl DynMore for Much {
        fn more(&self) -> Result<&'static str, AppError> {
            Ok("!")
        }
    }

    #[test]
    fn arguments_of_every_shape() {
        for _ in 0..2 {
            assert_eq!(run(words(1, 2, 3, 4, 5)), 15);
            assert_eq!(run(raw_names("a:b", true)).as_deref(), Some("a:b"));
            let count = NonZeroU32::MIN;
            let ip = IpAddr::from([127, 0, 0, 1]);
            assert_eq!(run(plain_types(ip, count, ':', 0.5)), "127.0.0.1 1 : 0.5");
            assert_eq!(run(json_types([1, 2, 3], None, (1, "x".into()), |id| id)), 7);
            let names = ["a".to_owned(), "b".to_owned()];
            let found = run(borrowed(&names, Path::new("/tmp")));
            assert_eq!(found, [Arc::new("/tmp/a".to_owned()), Arc::new("/tmp/b".to_owned())]);
            assert_eq!(run(cow(Cow::Borrowed("four"))), 4);
            let visit: Arc<Visit> = Arc::new(whole);
            assert_eq!(run(functions(1, str::trim, |text, _| text, &visit, None)), 4);
            assert_eq!(run(mutable_pattern(&mut (1, 2), (&mut 3, 4))), 6);
            assert_eq!(run(conditional(3)), Ok(3));
            assert_eq!(run(objects(&"what", &Much)), Ok("what!".to_owned()));
            assert_eq!(run(local(Rc::new(5), 1)), 6);
            assert_eq!((run(attributes(7, 0)), run(attributes(7, 1))), (7, 7));
            assert_eq!(run(applied("four", |len| async move { len as u64 })), 4);
        }
        assert_eq!(
            plain_types::key([0, 0, 0, 1].into(), NonZeroU32::MIN, ':', 1.0),
            "wide:0.0.0.1:1:%3A:1"
        );
        assert_eq!(raw_names::key("x", false), "raw:x:false");
    }

    #[test]
    fn values_of_every_shape() {
        assert_eq!((run(control(8)), run(control(8))), (Ok(Some(2)), Ok(Some(2))));
        assert_eq!(run(nested(1)), Ok(Err("no 1".to_owned())));
        assert_eq!(run(nested(1)), Ok(Err("no 1".to_owned())));
        assert_eq!(run(nested(0)), Err(AppError::NotFound));
        assert!(run(error_by_a_closure(0)).unwrap_err().contains("the loader failed"));
        assert_eq!(run(error_by_a_closure(1)), Ok(0));
        assert_eq!(run(deeper::deeper(1))[&1], "x");
        let cache = cache();
        assert_eq!(run(tuple_struct(&cache, &Name("n".to_owned()), Some(1))), "n Some(1)");
        assert_eq!(run(tuple_struct(&cache, &Name("n".to_owned()), "other")), "n Some(1)");
    }

    #[test]
    fn writers_of_functions_with_such_arguments() {
        assert_eq!(run(control(32)), Ok(Some(4)));
        assert_eq!(run(replaces(32)), Ok(Some(32)));
        assert_eq!(run(control(32)), Ok(Some(32)));
        assert_eq!(run(forgets(0)), Err(AppError::NotFound));
        assert_eq!(run(forgets(32)), Ok(()));
        assert_eq!(run(control(32)), Ok(Some(4)));
    }
}
