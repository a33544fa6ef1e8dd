//! Functions in every form.

use crate::AppError;
use larder::{AsyncCacheWrapper, CacheWrapper, cached};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A source of values that counts its calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Db(Arc<AtomicU32>);

impl Db {
    pub(crate) fn ask(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A source that cannot be cloned.
#[derive(Debug, Default)]
pub(crate) struct Pinned(AtomicU32);

/// The first form: a template, a time.
///
/// With more than one paragraph.
#[cached(key = "form1:{id}", ttl = "5m")]
#[must_use]
pub async fn form1(id: u64) -> u64 {
    id + 1
}

/// What is borrowed is cloned on a miss, what is skipped is not in the key.
///
/// # Errors
///
/// For the id 0.
#[cached(key = "form2:{id}", skip(db))]
pub(crate) async fn form2(db: &Db, id: u64) -> Result<String, AppError> {
    if id == 0 {
        db.ask();
        return Err(AppError::NotFound);
    }
    Ok(format!("user {id}, load {}", db.ask()))
}

#[cached(key = "form3:{tenant}:{name}", skip(db))]
async fn form3(tenant: &str, name: &str, db: Db) -> Vec<String> {
    db.ask();
    vec![tenant.to_owned(), name.to_owned()]
}

#[cached(key = "form6:{id}", ttl = "250ms", skip(db))]
fn form6(db: &Pinned, id: u64) -> Result<u64, AppError> {
    db.0.fetch_add(1, Ordering::SeqCst);
    id.checked_sub(1).ok_or(AppError::NotFound)
}

#[cached(key = "plain:{id}", skip(db))]
fn plain(db: &Pinned, id: u64) -> u64 {
    db.0.fetch_add(1, Ordering::SeqCst);
    id
}

#[cached(skip(db))]
async fn form7(db: Db, ids: &[u64], all: bool) -> usize {
    db.ask();
    ids.len() + usize::from(all)
}

/// A pattern.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

#[cached(key = "form8:{id}", skip(db))]
async fn form8(Path(mut id): Path<u64>, (_a, _b): (u8, u8), Path(db): Path<Db>) -> u64 {
    db.ask();
    id += 1;
    id
}

/// A client without a name.
pub(crate) trait Client {
    fn name(&self) -> String;
}

impl Client for Pinned {
    fn name(&self) -> String {
        self.0.fetch_add(1, Ordering::SeqCst);
        "pinned".to_owned()
    }
}

#[cached(key = "form9:{id}", skip(client), here)]
async fn form9(client: &(impl Client + Sync), id: impl Display) -> String {
    format!("{} {id}", client.name())
}

#[cached(key = "fib:{n}", cache = cache, skip(db))]
async fn fib(cache: &AsyncCacheWrapper, db: &Db, n: u64) -> u64 {
    db.ask();
    if n < 2 {
        return n;
    }
    fib(cache, db, n - 1).await + fib(cache, db, n - 2).await
}

#[cached(key = "form14:{id}", only_if = |v| v.is_multiple_of(2), errors = wrap, skip(db))]
async fn form14(db: &Db, id: u64) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    db.ask();
    if id > 100 { Err("too large")? } else { Ok(id) }
}

#[expect(clippy::needless_pass_by_value, reason = "the attribute asks for it")]
fn text(error: larder::Error) -> String {
    error.to_string()
}

#[cached(key = "by:{id}", errors = text)]
async fn by(id: u64) -> Result<u64, String> {
    if id == 0 { Err("none".to_owned()) } else { Ok(id) }
}

#[cached(key = "alias:{id}")]
async fn alias(id: u64) -> larder::Result<u64> {
    Ok(id)
}

#[cached(key = "here:{name}", here, skip(all))]
async fn mutable<'a, T>(all: &'a mut Vec<String>, name: &'a T) -> usize
where
    T: ?Sized + Display,
{
    all.push(name.to_string());
    all.len()
}

#[cached(key = "generic:{id}:{n.len()}", skip(other), cache = cache)]
async fn generic<T, U, const N: usize>(
    cache: &AsyncCacheWrapper,
    id: T,
    n: [u8; N],
    other: U,
) -> String
where
    T: Display + Send + 'static,
    U: Send + 'static,
    [u8; N]: Sized,
{
    drop(other);
    format!("{id} {}", n.len())
}

#[cached(key = "static:{name}", cache = cache)]
fn statics(cache: &CacheWrapper, name: &'static str) -> usize {
    name.len()
}

#[cached(key = format!("expr:{id}:{}", name.len()), namespace = "a:b", ttl = std::time::Duration::from_secs(id), stale_for = "1h", throttle = "never_mind".len_time(), jitter = 0.1, early = 1, skip_none)]
async fn every_option(id: u64, name: String) -> Option<u64> {
    (name.len() > 3).then_some(id)
}

/// A time from a text.
trait LenTime {
    fn len_time(&self) -> std::time::Duration;
}
impl LenTime for str {
    fn len_time(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.len() as u64)
    }
}

#[cached(
    key = "timed:{id}",
    soft_timeout = "1s",
    hard_timeout = "2s",
    lease = "3s",
    refresh_ahead = 0.8,
    name = "never"
)]
#[cfg(any())]
async fn absent(id: u64) -> u64 {
    id
}

#[cached(
    key = "timed:{id}",
    soft_timeout = "1s",
    hard_timeout = "2s",
    lease = "3s",
    refresh_ahead = 0.8
)]
#[allow(clippy::unused_async, reason = "an attribute for both")]
async fn timed(id: u64) -> u64 {
    id
}

#[cached(key = "fields:{user.id}/{user.pair.0}/{user.name.len()}")]
#[expect(clippy::needless_pass_by_value, reason = "it is met or not")]
fn fields(user: User) -> u64 {
    user.id
}

/// A user.
#[derive(Clone, Debug)]
struct User {
    id: u64,
    name: String,
    pair: (u8, u8),
}

#[cached(key = "future:{id}")]
fn future(id: u64) -> impl Future<Output = u64> + Send {
    async move { id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};

    #[test]
    fn a_call_runs_once() {
        let db = Db::default();
        assert_eq!(run(form1(1)), 2);
        assert_eq!(run(form1(1)), 2);
        assert_eq!(run(form2(&db, 7)), Ok("user 7, load 1".to_owned()));
        assert_eq!(run(form2(&db, 7)), Ok("user 7, load 1".to_owned()));
        assert_eq!(run(form2(&db, 0)), Err(AppError::NotFound));
        assert_eq!(run(form2(&db, 0)), Err(AppError::NotFound));
        assert_eq!(db.asked(), 3);
        assert_eq!(form2::key(7), "form2:7");
        assert_eq!(run(form2::peek(7)).unwrap().as_deref(), Some("user 7, load 1"));
        assert_eq!(run(form2::refresh(&db, 7)), Ok("user 7, load 4".to_owned()));
        assert_eq!(run(form2::uncached(&db, 7)), Ok("user 7, load 5".to_owned()));
        assert!(run(form2::invalidate(7)).unwrap());
        run(form2::put(7, "Ada".to_owned())).unwrap();
        assert_eq!(run(form2(&db, 7)), Ok("Ada".to_owned()));

        assert_eq!(run(form3("a:b", "c", db.clone())), ["a:b", "c"]);
        assert_eq!(run(form3("a", "b:c", db.clone())), ["a", "b:c"]);
        assert_eq!(form3::key("a:b", "c%"), "form3:a%3Ab:c%25");
    }

    #[test]
    fn blocking_functions_and_arguments_in_every_shape() {
        let pinned = Pinned::default();
        assert_eq!((form6(&pinned, 3), form6(&pinned, 3)), (Ok(2), Ok(2)));
        assert_eq!(
            (form6(&pinned, 0), form6(&pinned, 0)),
            (Err(AppError::NotFound), Err(AppError::NotFound))
        );
        assert_eq!((plain(&pinned, 3), plain(&pinned, 3)), (3, 3));
        assert_eq!(pinned.0.load(Ordering::SeqCst), 4);
        assert_eq!(form6::peek(3).unwrap(), Some(2));
        assert!(form6::invalidate(3).unwrap());

        let db = Db::default();
        assert_eq!(
            (run(form7(db.clone(), &[1, 2], true)), run(form7(db.clone(), &[1, 2], true))),
            (3, 3)
        );
        assert_eq!(form7::key(&[1, 2], true), "larder_macros_only::forms::form7:[1,2]:true");
        assert_eq!(run(form8(Path(1), (1, 2), Path(db.clone()))), 2);
        assert_eq!(run(form8(Path(1), (3, 4), Path(db.clone()))), 2);
        assert_eq!(db.asked(), 2);
        assert_eq!(form8::key(Path(5)), "form8:5");
        assert_eq!(run(form9(&pinned, "x")), "pinned x");
        assert_eq!(run(form9(&pinned, "x")), "pinned x");
        assert_eq!(pinned.0.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn the_other_forms() {
        let (cache, db) = (cache(), Db::default());
        assert_eq!(run(fib(&cache, &db, 20)), 6_765);
        assert_eq!(db.asked(), 21);
        assert_eq!(run(fib::peek(&cache, 20)).unwrap(), Some(6_765));

        let db = Db::default();
        assert_eq!((run(form14(&db, 3)).unwrap(), run(form14(&db, 3)).unwrap()), (3, 3));
        assert_eq!((run(form14(&db, 4)).unwrap(), run(form14(&db, 4)).unwrap()), (4, 4));
        assert!(run(form14(&db, 101)).unwrap_err().to_string().contains("the loader failed"));
        assert_eq!(db.asked(), 4);
        assert!(run(by(0)).unwrap_err().contains("the loader failed"));
        assert_eq!((run(by(1)), run(alias(2)).unwrap()), (Ok(1), 2));

        let mut all = Vec::new();
        assert_eq!(run(mutable(&mut all, "x")), 1);
        assert_eq!(run(mutable(&mut all, "x")), 1);
        assert_eq!(all, ["x"]);

        assert_eq!(run(every_option(5, "Ada!".to_owned())), Some(5));
        assert_eq!(every_option::key(5, "Ada!".to_owned()), "a%3Ab:expr:5:4");
        assert_eq!(run(every_option(5, "A".to_owned())), None);
        assert_eq!(run(every_option::peek(5, "A".to_owned())).unwrap(), None);
        assert_eq!((run(timed(1)), run(future(3))), (1, 3));
        let user = User { id: 7, name: "Ada".to_owned(), pair: (1, 2) };
        assert_eq!(fields(user.clone()), 7);
        assert_eq!(fields::key(user), "fields:7/1/3");
        assert_eq!(run(generic(&cache, 7, [1, 2], ())), "7 2");
        assert_eq!(generic::key(7, [1, 2, 3]), "generic:7:3");
        assert_eq!(statics(&cache.blocking(), "four"), 4);
    }
}
