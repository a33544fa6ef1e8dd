//! Methods.

use crate::AppError;
use crate::forms::Db;
use larder::{AsyncCacheWrapper, CacheWrapper, async_trait, cached};
use std::collections::BTreeMap;
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

    fn is_real(tenant: &str) -> bool {
        !tenant.is_empty()
    }
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
            "larder_macros_only::methods::without_key:{\"a\":2,\"b\":1}"
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
        assert_eq!((run(all.count(1)), run(all.count(1)), run(all.count(0))), (2, 2, 0));
        assert_eq!((run(all.later(1)), run(all.later(1))), (3, 3));
    }
}
