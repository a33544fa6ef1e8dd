//! Functions that change what others have cached.

use crate::AppError;
use crate::forms::Db;
use larder::{AsyncCacheWrapper, async_trait, cached, evicts, puts};

#[cached(key = "user:{id}", skip(db))]
async fn get_user(db: &Db, id: u64) -> Result<String, AppError> {
    Ok(format!("user {id}, load {}", db.ask()))
}

#[evicts(get_user(id), "users:{tenant}:{id}", "users:all", format!("count:{id}"))]
async fn rename(id: u64, tenant: &str, name: String) -> Result<String, AppError> {
    if name.is_empty() {
        return Err(AppError::NotFound);
    }
    Ok(format!("{tenant} {name}"))
}

/// Methods that have no `self`, by the names of their type.
#[evicts(User::likes(post), <User<'_>>::likes(post + 1))]
async fn unlike(post: u64) -> u64 {
    post
}

#[evicts(get_user(id))]
fn remove(id: u64) {
    assert!(id > 0, "no such user");
}

#[evicts(get_user(*id))]
fn try_remove(id: &u64) -> Result<(), AppError> {
    id.checked_sub(1).map(drop).ok_or(AppError::NotFound)
}

/// A user.
struct User<'a> {
    id: u64,
    cache: &'a AsyncCacheWrapper,
}

impl User<'_> {
    #[cached(key = "posts:{self.id}", cache = self.cache, here)]
    pub(crate) async fn posts(&self) -> u64 {
        self.id
    }

    #[cached(key = "likes:{post}")]
    async fn likes(post: u64) -> u64 {
        post + Self::LIKES
    }

    const LIKES: u64 = 10;

    #[evicts(self.posts(), cache = self.cache)]
    async fn post(&mut self, text: String) -> Result<usize, AppError> {
        self.id += 0;
        Ok(text.len())
    }
}

/// A trait whose methods write.
#[async_trait]
pub trait Writes {
    /// Writes.
    async fn write(&self, id: u64) -> Result<u64, AppError>;
    /// Makes a new one.
    async fn create(&self, id: u64) -> u64;
}

#[async_trait]
impl Writes for Db {
    #[evicts(get_user(id))]
    async fn write(&self, id: u64) -> Result<u64, AppError> {
        if id == 0 {
            return Err(AppError::NotFound);
        }
        Ok(id)
    }

    #[puts("created:{result}")]
    async fn create(&self, id: u64) -> u64 {
        self.ask();
        id
    }
}

#[puts("user:{result.len()}:{id}", ttl = "5m", namespace = "a:b")]
async fn create(id: u64, name: String) -> Result<String, AppError> {
    if name.is_empty() { Err(AppError::NotFound) } else { Ok(name) }
}

#[puts(format!("number:{result}"))]
fn number(of: &str) -> usize {
    of.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};
    use larder::async_cached;

    #[test]
    fn a_success_removes_and_a_failure_does_not() {
        let db = Db::default();
        assert_eq!(run(get_user(&db, 7)), Ok("user 7, load 1".to_owned()));
        for key in ["users:a%3Ab:7", "users:all", "count:7"] {
            run(async_cached().set(key, 1)).unwrap();
        }
        assert_eq!(run(rename(7, "a:b", String::new())), Err(AppError::NotFound));
        assert!(run(get_user::peek(7)).unwrap().is_some());
        assert_eq!(run(rename(7, "a:b", "Ada".to_owned())), Ok("a:b Ada".to_owned()));
        assert_eq!(run(get_user::peek(7)).unwrap(), None);
        for key in ["users:a%3Ab:7", "users:all", "count:7"] {
            assert!(!run(async_cached().contains(key)).unwrap(), "{key}");
        }
        run(get_user(&db, 8)).unwrap();
        remove(8);
        assert_eq!(run(get_user::peek(8)).unwrap(), None);
        run(get_user(&db, 9)).unwrap();
        assert_eq!((try_remove(&0), try_remove(&9)), (Err(AppError::NotFound), Ok(())));
        assert_eq!(run(get_user::peek(9)).unwrap(), None);
        run(get_user(&db, 10)).unwrap();
        assert_eq!(run(db.write(0)), Err(AppError::NotFound));
        assert_eq!(run(db.write(10)), Ok(10));
        assert_eq!(run(get_user::peek(10)).unwrap(), None);
    }

    #[test]
    fn methods_remove_what_other_methods_have_cached() {
        let cache = cache();
        let mut user = User { id: 7, cache: &cache };
        assert_eq!(run(user.posts()), 7);
        assert!(run(cache.contains("posts:7")).unwrap());
        assert_eq!(run(user.post("text".to_owned())), Ok(4));
        assert!(!run(cache.contains("posts:7")).unwrap());
    }

    #[test]
    fn what_a_function_gave_is_stored() {
        assert_eq!(run(create(7, "Ada".to_owned())), Ok("Ada".to_owned()));
        assert_eq!(run(create(8, String::new())), Err(AppError::NotFound));
        let stored = async_cached().get::<String>("a%3Ab:user:3:7");
        assert_eq!(run(stored).unwrap().as_deref(), Some("Ada"));
        assert_eq!(number("four"), 4);
        assert_eq!(run(async_cached().get::<usize>("number:4")).unwrap(), Some(4));
        let db = Db::default();
        assert_eq!(run(db.create(5)), 5);
        assert_eq!(run(async_cached().get::<u64>("created:5")).unwrap(), Some(5));
    }

    #[test]
    fn methods_without_self_are_named_by_their_type() {
        for post in [1, 2] {
            assert_eq!(run(User::likes(post)), post + 10);
        }
        assert_eq!(run(unlike(1)), 1);
        assert!(!run(User::likes_invalidate(1)).unwrap());
        assert!(!run(User::likes_invalidate(2)).unwrap());
    }
}
