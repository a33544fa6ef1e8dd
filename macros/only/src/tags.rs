//! Tags and generic constants, in every form and under every lint.

use crate::AppError;
use larder::{AsyncCacheWrapper, async_trait, cached, evicts, puts};

/// Functions that a macro writes.
macro_rules! written {
    ($vis:vis $name:ident, $key:literal, $tag:expr, $id:ident: $ty:ty) => {
        #[larder::cached(key = $key, tags($tag, "written:{id}:{own}"), skip(own))]
        /// A function that a macro names.
        $vis async fn $name(own: &str, $id: $ty) -> usize {
            own.len() + usize::from($id)
        }
    };
}

written!(pub(crate) by_macro, "by macro:{id}", "macro:{id}", id: u8);

/// A shelf of a shop, of some width.
#[derive(Clone, Debug)]
struct Shelf<const WIDTH: usize> {
    cache: AsyncCacheWrapper,
}

impl<const WIDTH: usize> Shelf<WIDTH> {
    #[cached(key = "fits:{N}:{thing}", cache = self.cache, skip(self), tags("thing:{thing}"))]
    async fn fits<const N: usize>(&self, thing: &str) -> Result<bool, AppError> {
        if thing.is_empty() { Err(AppError::NotFound) } else { Ok(thing.len() * N <= WIDTH) }
    }

    #[evicts(self.fits::<2>(thing), tags("thing:{thing}"), cache = self.cache)]
    async fn sell(&mut self, thing: &str) -> usize {
        thing.len()
    }
}

/// A trait whose methods have tags.
#[async_trait]
pub trait Stock {
    /// How much there is.
    async fn stock(&self, thing: &str) -> usize;
}

#[async_trait]
impl<const WIDTH: usize> Stock for Shelf<WIDTH> {
    #[cached(key = "stock:{thing}", cache = self.cache, skip(self), tags("thing:{thing}"))]
    async fn stock(&self, thing: &str) -> usize {
        thing.len() * WIDTH
    }
}

/// A macro call as the whole body.
#[puts("whole:{id}", tags("whole"))]
async fn whole(id: u64) -> String {
    format!("{id}")
}

/// Names that some lints do not like.
#[allow(non_snake_case, non_upper_case_globals)]
#[cached(key = "{Id}:{n}", tags("n:{n}"))]
fn Upper<const n: u8>(Id: u64) -> u64 {
    Id + u64::from(n)
}

/// Only a tag uses the pattern's names.
#[cached(key = "point", tags("x:{x}", format!("y:{y}")), skip(x, y))]
fn point((x, y): (u8, u8), _name: &str) -> String {
    "point".to_owned()
}

#[cached(key = "constant:{N}", tags("n:{N}"))]
fn constant<const N: u8>() -> u8 {
    N
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache, run};
    use larder::async_cached;

    #[test]
    fn entries_go_with_their_tags() {
        for tag in ["macro:7", "written:7:own"] {
            run(by_macro::put("own", 7, 10)).unwrap();
            assert_eq!(run(by_macro("own", 7)), 10);
            run(async_cached().remove_tags([tag])).unwrap();
            assert_eq!(run(by_macro("own", 7)), 10);
            assert_eq!(run(by_macro("other", 7)), 10, "a hit");
        }
        for tag in ["x:1", "y:2"] {
            assert_eq!(point((1, 2), ""), "point");
            assert!(run(async_cached().contains(point::key())).unwrap());
            larder::cached().remove_tags([tag]).unwrap();
            assert!(!run(async_cached().contains(point::key())).unwrap(), "{tag}");
        }
    }

    #[test]
    fn methods_have_tags_and_generic_constants() {
        let cache = cache();
        let mut shelf = Shelf::<8> { cache: cache.clone() };
        assert_eq!((run(shelf.fits::<1>("books")), run(shelf.stock("books"))), (Ok(true), 40));
        assert_eq!(run(shelf.fits::<2>("books")), Ok(false));
        assert_eq!(shelf.fits_key::<3>("books"), "fits:3:books");
        assert_eq!(run(shelf.sell("books")), 5);
        for key in ["fits:1:books", "fits:2:books", "stock:books"] {
            assert!(!run(cache.contains(key)).unwrap(), "{key}");
        }
        assert_eq!(run(whole(7)), "7");
        assert!(run(async_cached().contains("whole:7")).unwrap());
        assert_eq!((Upper::<1>(7), Upper::key::<1>(8)), (8, "8:1".to_owned()));
        assert_eq!((constant::<1>(), constant::<2>()), (1, 2));
        assert_eq!(constant::key::<3>(), "constant:3");
    }
}
