//! Keys of functions that differ in a type, an owner or a place only.

use larder::{AsyncCacheWrapper, Cacheable, cached};
use std::fmt::Display;

/// A kind of record.
trait Record: Cacheable + Display {
    const TABLE: &'static str;

    fn numbered(id: u64) -> Self;
}

impl Record for u64 {
    const TABLE: &'static str = "numbers";

    fn numbered(id: u64) -> Self {
        id
    }
}

impl Record for String {
    const TABLE: &'static str = "texts";

    fn numbered(id: u64) -> Self {
        format!("text {id}")
    }
}

#[cached(key = format!("{}:{id}", T::TABLE), cache = cache)]
async fn record<T: Record>(cache: &AsyncCacheWrapper, id: u64) -> T {
    T::numbered(id)
}

#[cached(key = format!("length:{}:{id}:{MORE}", <T as Record>::TABLE), here, namespace = T::TABLE)]
async fn length<T, const MORE: usize>(id: u64) -> usize
where
    T: Record,
{
    T::numbered(id).to_string().len() + MORE
}

#[cached(key = "tagged:{id}", tags("all", format!("of:{}", T::TABLE)), skip(T))]
fn tagged<T: Record>(id: u64) -> String {
    T::numbered(id).to_string()
}

/// `R` and `V` are known where `F` is.
#[cached(key = "made:{id}", here, skip(make))]
async fn made<F, R, V>(id: u64, make: F) -> String
where
    F: FnOnce(u64) -> R,
    R: Future<Output = V>,
    V: Display,
{
    make(id).await.to_string()
}

#[derive(Clone)]
struct Users;

impl Users {
    #[cached(skip(self))]
    async fn find(&self, id: u64) -> String {
        format!("user {id}")
    }

    #[cached(skip(self), here)]
    pub(crate) async fn find_here(&self, id: u64) -> String {
        format!("user {id}")
    }
}

#[derive(Clone)]
struct Teams<T>(T);

impl<T: Display + Clone + Send + Sync + 'static> Teams<T> {
    #[cached(skip(self))]
    async fn find(&self, id: u64) -> String {
        format!("team {} {id}", self.0)
    }

    #[cached(skip(self), here)]
    pub(crate) async fn find_here(&self, id: u64) -> String {
        format!("team {} {id}", self.0)
    }
}

/// A function with another inside.
#[must_use]
pub fn first() -> String {
    #[cached]
    fn inner(id: u64) -> String {
        format!("first {id}")
    }
    inner(1)
}

/// A function with another inside, of the same name.
#[must_use]
pub fn second() -> String {
    #[cached]
    fn inner(id: u64) -> String {
        format!("second {id}")
    }
    inner(1)
}

/// A setting whose fields have the names of arguments.
#[derive(Clone, Debug)]
struct Setting {
    id: u64,
    r#type: u8,
}

#[cached(key = "type:{setting.type}:{setting.r#type}:{setting.id}")]
async fn keyword(setting: Setting) -> u8 {
    setting.r#type
}

#[cached(key = format!("field:{}:{id}", setting.id), namespace = tenant)]
async fn owned_namespace(tenant: String, setting: Setting, id: u64) -> String {
    format!("{tenant} {} {id}", setting.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};

    #[test]
    fn the_constants_of_a_type_may_be_in_a_key() {
        let cache = cache();
        for _ in 0..2 {
            assert_eq!(run(record::<u64>(&cache, 7)), 7);
            assert_eq!(run(record::<String>(&cache, 7)), "text 7");
            assert_eq!((run(length::<u64, 3>(7)), run(length::<String, 3>(7))), (4, 9));
        }
        assert_eq!(record::key::<u64>(7), "numbers:7");
        assert_eq!(run(record::peek::<String>(&cache, 7)).unwrap().as_deref(), Some("text 7"));
        assert!(run(record::invalidate::<String>(&cache, 7)).unwrap());
        run(record::put::<u64>(&cache, 7, 8)).unwrap();
        assert_eq!(run(record::<u64>(&cache, 7)), 8);
        assert_eq!(length::key::<u64, 3>(7), "numbers:length:numbers:7:3");
        tagged::put::<u64>(7, "put".to_owned()).unwrap();
        assert_eq!(tagged::<u64>(7), "put");
        larder::cached().remove_tags(["of:numbers"]).unwrap();
        assert_eq!(tagged::<u64>(7), "7");
        assert_eq!(run(made(1, |id| async move { id + 1 })), "2");
    }

    #[test]
    fn methods_of_two_types_share_no_entries() {
        for _ in 0..2 {
            assert_eq!(run(Users.find(1)), "user 1");
            assert_eq!(run(Teams(0_u8).find(1)), "team 0 1");
            assert_eq!(run(Teams("x".to_owned()).find(1)), "team x 1");
            assert_eq!(run(Users.find_here(1)), "user 1");
            assert_eq!(run(Teams(0_u8).find_here(1)), "team 0 1");
            assert_eq!(run(Teams("x".to_owned()).find_here(1)), "team x 1");
        }
        assert_eq!(Users.find_key(1), "larder_macros_only::keys::Users::find:1");
        assert_eq!(Teams(0_u8).find_key(1), "larder_macros_only::keys::Teams<u8>::find:1");
    }

    #[test]
    fn functions_within_two_functions_share_no_entries() {
        assert_eq!((first(), second()), ("first 1".to_owned(), "second 1".to_owned()));
        assert_eq!((first(), second()), ("first 1".to_owned(), "second 1".to_owned()));
    }

    #[test]
    fn fields_and_arguments_may_have_one_name() {
        let setting = Setting { id: 1, r#type: 2 };
        assert_eq!(run(keyword(setting.clone())), 2);
        assert_eq!(keyword::key(setting.clone()), "type:2:2:1");
        for tenant in ["a", "b"] {
            let found = run(owned_namespace(tenant.to_owned(), setting.clone(), 3));
            assert_eq!(found, format!("{tenant} 1 3"));
        }
    }
}
