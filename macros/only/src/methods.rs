//! Methods.

use crate::AppError;
use crate::forms::Db;
use larder::{AsyncCacheWrapper, CacheWrapper, async_trait, cached};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// A repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    tenant: String,
    cache: AsyncCacheWrapper,
    blocking: CacheWrapper,
    db: Db,
}

impl Repository {
    #[cached(key = "u:{self.tenant}:{id}", cache = self.cache, ttl = "1h")]
    pub(crate) async fn user(&self, id: u64) -> Result<String, AppError> {
        Ok(format!("{} {id} {}", self.tenant, self.db.ask()))
    }

    #[cached(key = "v:{self.tenant}:{id}", cache = self.blocking)]
    fn blocking_user(&self, id: u64) -> String {
        format!("{} {id} {}", self.tenant, self.db.ask())
    }

    #[cached(key = "arc:{id}", cache = self.cache, refresh_ahead = 0.8)]
    async fn shared(self: &Arc<Self>, id: u64) -> u64 {
        u64::from(self.db.ask()) + id
    }

    #[cached(skip(self), cache = self.cache)]
    async fn without_key(&self, map: &BTreeMap<String, u8>) -> usize {
        self.db.ask();
        map.len()
    }

    #[cached(key = "owned:{self.tenant}", cache = self.cache)]
    async fn owned(mut self) -> String {
        self.tenant.push('!');
        self.tenant
    }

    #[cached(key = "made:{tenant}")]
    async fn made(tenant: &str) -> Option<String> {
        Self::is_real(tenant).then(|| tenant.to_owned())
    }

    #[cached(key = "sized:{id}")]
    async fn sized(id: u64) -> u64
    where
        Self: Sized,
    {
        id
    }

    #[cached(key = "by_rc:{self.tenant}", cache = self.cache, here)]
    pub(crate) async fn by_rc(self: Rc<Self>) -> u32 {
        self.db.ask()
    }

    #[cached(key = "pinned:{self.tenant}", cache = self.cache, here)]
    pub(crate) async fn pinned(self: Pin<&mut Self>) -> u32 {
        self.db.ask()
    }

    #[cached(key = "boxed:{self.tenant}", cache = self.cache)]
    async fn boxed(self: Box<Self>) -> u32 {
        self.db.ask()
    }

    const fn is_real(tenant: &str) -> bool {
        !tenant.is_empty()
    }
}

/// A method that a macro writes: it is given the word `self`.
#[cfg(test)]
macro_rules! method {
    ($name:ident, $me:ident, $key:literal, $cache:expr, $value:expr) => {
        #[cached(key = $key, cache = $cache)]
        async fn $name(&$me, id: u64) -> u64 {
            $value + id
        }
    };
}

#[cfg(test)]
impl Repository {
    method!(written, self, "written:{self.tenant}:{id}", self.cache, u64::from(self.db.ask()));
}

/// It lends, and cannot be cloned.
struct Loan<'a, T: ?Sized> {
    what: &'a T,
    cache: &'a AsyncCacheWrapper,
    runs: u32,
}

impl<'a, T: ?Sized + AsRef<str> + Sync> Loan<'a, T> {
    #[cached(key = "loan:{self.what.as_ref()}:{id}", cache = self.cache, here)]
    pub(crate) async fn get(&mut self, id: u64) -> Result<usize, AppError> {
        self.runs += 1;
        let what: &'a str = self.what.as_ref();
        what.len().checked_add(usize::try_from(id).unwrap_or(0)).ok_or(AppError::NotFound)
    }
}

/// A trait with methods that are cached.
#[async_trait]
pub trait Users {
    /// The name of a user.
    async fn name(&self, id: u64) -> Result<String, AppError>;
    /// The sum of two numbers.
    async fn twice(&self, (a, b): (u64, u64)) -> u64;
    /// What there is without an object.
    async fn none(id: u64) -> u64
    where
        Self: Sized;
}

#[async_trait]
impl Users for Repository {
    #[cached(key = "name:{self.tenant}:{id}", cache = self.cache)]
    async fn name(&self, id: u64) -> Result<String, AppError> {
        if id == 0 {
            return Err(AppError::NotFound);
        }
        Ok(format!("{} {}", self.tenant, self.db.ask()))
    }

    #[cached(key = "twice:{__arg1.0}:{__arg1.1}", cache = self.cache)]
    async fn twice(&self, (a, b): (u64, u64)) -> u64 {
        a + b
    }

    #[cached(key = "none:{id}")]
    async fn none(id: u64) -> u64 {
        id
    }
}

/// A trait with blocking methods, and one that is given.
pub trait Blocking {
    /// The cache.
    fn cache(&self) -> CacheWrapper;
    /// How many there are.
    ///
    /// # Errors
    ///
    /// For the number 0.
    fn sum(&mut self, id: u64, pair: (u64, u64)) -> Result<u64, AppError>;
    /// What there is without an object.
    fn start(id: u64) -> u64
    where
        Self: Sized;

    /// A method that is given.
    #[cached(key = "given:{id}", cache = self.cache(), here)]
    fn given(&self, id: u64) -> u64 {
        id
    }
}

impl Blocking for Repository {
    fn cache(&self) -> CacheWrapper {
        self.blocking.clone()
    }

    #[cached(key = "sum:{id}:{a}:{b}", cache = self.blocking, here)]
    fn sum(&mut self, id: u64, (a, b): (u64, u64)) -> Result<u64, AppError> {
        if id == 0 {
            return Err(AppError::NotFound);
        }
        Ok(u64::from(self.db.ask()) + a + b)
    }

    #[cached(key = "start:{id}", here)]
    fn start(id: u64) -> u64
    where
        Self: Sized,
    {
        id
    }
}

/// A boxed future, as the crate `futures` calls it.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[cached(key = "named:{name}", skip(db))]
fn named_future<'a>(db: &'a Db, name: &'a str) -> BoxFuture<'a, Result<u32, AppError>> {
    Box::pin(async move {
        u32::try_from(name.len()).map_or(Err(AppError::NotFound), |len| Ok(db.ask() + len))
    })
}

/// A trait with async methods of the language.
pub trait Native {
    /// How many there are.
    fn count(&self, id: u64) -> impl Future<Output = u32> + Send;
    /// How many there will be.
    fn later(&self, id: u64) -> impl Future<Output = u32> + Send;
}

impl Native for Repository {
    #[cached(key = "count:{id}", cache = self.cache, here)]
    async fn count(&self, id: u64) -> u32 {
        if id == 0 {
            return 0;
        }
        self.db.ask()
    }

    #[cached(key = "later:{id}", cache = self.cache)]
    fn later(&self, id: u64) -> impl Future<Output = u32> + Send {
        let db = self.db.clone();
        async move { db.ask() + u32::from(id == 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};

    fn repository(tenant: &str) -> Repository {
        let cache = cache();
        let blocking = cache.blocking();
        Repository { tenant: tenant.to_owned(), cache, blocking, db: Db::default() }
    }

    #[test]
    fn methods_have_companions_beside_them() {
        let all = repository("a:b");
        assert_eq!(run(all.user(7)), Ok("a:b 7 1".to_owned()));
        assert_eq!(run(all.user(7)), Ok("a:b 7 1".to_owned()));
        assert_eq!(all.user_key(7), "u:a%3Ab:7");
        assert_eq!(run(all.user_refresh(7)), Ok("a:b 7 2".to_owned()));
        assert_eq!(run(all.user_uncached(7)), Ok("a:b 7 3".to_owned()));
        assert!(run(all.user_invalidate(7)).unwrap());
        assert_eq!(all.blocking_user(7), all.blocking_user(7));
        assert!(all.blocking_user_invalidate(7).unwrap());
        let shared = Arc::new(all.clone());
        assert_eq!(run(shared.shared(1)), run(shared.shared(1)));
        let map = BTreeMap::from([("b".to_owned(), 1), ("a".to_owned(), 2)]);
        assert_eq!(run(all.without_key(&map)), 2);
        assert_eq!(
            all.without_key_key(&map),
            "larder_macros_only::methods::Repository::without_key:{\"a\":2,\"b\":1}"
        );
        assert_eq!(
            (run(all.clone().owned()), run(all.clone().owned())),
            ("a:b!".into(), "a:b!".into())
        );
        assert_eq!(run(Repository::made("x")).as_deref(), Some("x"));
        assert_eq!(run(Repository::sized(7)), 7);
        assert_eq!(Repository::made_key("x"), "made:x");
    }

    #[test]
    fn loads_in_their_callers_borrow() {
        let cache = cache();
        let mut loan = Loan { what: "four", cache: &cache, runs: 0 };
        assert_eq!((run(loan.get(1)), run(loan.get(1)), loan.runs), (Ok(5), Ok(5), 1));
        assert!(run(loan.get_invalidate(1)).unwrap());
        assert_eq!((run(loan.get(1)), loan.runs), (Ok(5), 2));
        assert_eq!((run(loan.get_refresh(1)), loan.runs), (Ok(5), 3));
    }

    #[test]
    fn methods_of_traits() {
        let all = repository("t");
        assert_eq!((run(all.name(1)), run(all.name(1))), (Ok("t 1".into()), Ok("t 1".into())));
        assert_eq!(
            (run(all.name(0)), run(all.name(0))),
            (Err(AppError::NotFound), Err(AppError::NotFound))
        );
        assert_eq!((run(all.twice((1, 2))), run(all.twice((1, 3)))), (3, 4));
        assert_eq!(run(<Repository as Users>::none(5)), 5);
        assert_eq!((run(all.count(1)), run(all.count(1)), run(all.count(0))), (2, 2, 0));
        assert_eq!((run(all.later(1)), run(all.later(1))), (3, 3));
    }

    #[test]
    fn blocking_methods_of_traits() {
        let mut all = repository("t");
        assert_eq!((all.sum(1, (2, 3)), all.sum(1, (2, 3))), (Ok(6), Ok(6)));
        assert_eq!((all.sum(1, (3, 3)), all.sum(0, (2, 3))), (Ok(8), Err(AppError::NotFound)));
        assert_eq!((all.given(1), all.given(2)), (1, 2));
        assert_eq!(<Repository as Blocking>::start(4), 4);
        let db = Db::default();
        assert_eq!((run(named_future(&db, "x")), run(named_future(&db, "x"))), (Ok(2), Ok(2)));
    }

    #[test]
    fn every_kind_of_self() {
        let mut all = repository("t");
        for _ in 0..2 {
            assert_eq!(run(Rc::new(all.clone()).by_rc()), 1);
            assert_eq!(run(Pin::new(&mut all).pinned()), 2);
            assert_eq!(run(Box::new(all.clone()).boxed()), 3);
            assert_eq!(run(all.written(5)), 9);
        }
        assert_eq!(all.written_key(5), "written:t:5");
        assert!(run(all.written_invalidate(5)).unwrap());
        assert_eq!(run(all.written(5)), 10);
    }
}
