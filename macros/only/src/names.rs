//! Functions among names that generated code must not meet, and inside `macro_rules!`.

/// A module whose names are those of the standard library.
mod shadows {
    use larder::cached;

    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) mod std {}
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) mod core {}
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) mod larder_macros {}
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) enum Option {
        Some,
        None,
    }
    #[allow(unused_imports, reason = "they stand in the way")]
    pub(crate) use self::Option::{None, Some};
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) struct Ok;
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) struct Err;
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) struct Vec;
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) struct String;
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) struct Box;
    #[allow(dead_code, reason = "it stands in the way")]
    pub(crate) trait ToString {}
    #[allow(dead_code, non_camel_case_types, reason = "it stands in the way")]
    pub(crate) struct bool;
    #[allow(dead_code, non_camel_case_types, reason = "it stands in the way")]
    pub(crate) struct str;

    #[cached(key = "shadow:{id}")]
    pub(crate) async fn shadow(id: u64) -> u64 {
        id
    }

    #[cached(key = "shadow here:{id}", here)]
    pub(crate) async fn here(id: u64) -> ::core::result::Result<u64, ::larder::Error> {
        ::core::result::Result::Ok(id)
    }

    #[cached]
    pub(crate) fn blocking(r#type: u64) -> u64 {
        r#type
    }

    #[::larder::evicts(shadow(id), "shadow here:{id}")]
    pub(crate) async fn evict(id: u64) -> u64 {
        id
    }

    #[::larder::cached(key = "tagged shadow:{id}", tags("shadow", "shadow:{id}"))]
    pub(crate) async fn tagged(id: u64) -> ::core::result::Result<u64, ::larder::Error> {
        ::core::result::Result::Ok(id)
    }

    #[::larder::evicts(tags("shadow:{id}"))]
    pub(crate) async fn evict_tag(id: u64) -> ::core::result::Result<u64, ::larder::Error> {
        ::core::result::Result::Ok(id)
    }

    #[::larder::puts("tagged shadow:{result}", tags("shadow:{result}"))]
    pub(crate) fn put(id: u64) -> u64 {
        id
    }

    #[::larder::puts("{id}", namespace = "named shadow")]
    pub(crate) async fn put_named(id: u64) -> u64 {
        id
    }
}

/// The crate by another name.
mod renamed {
    use ::larder as pantry;

    #[pantry::cached(key = "renamed:{id}", crate = pantry, ttl = "never")]
    pub(crate) async fn renamed(id: u64) -> u64 {
        id
    }
}

/// Functions that a macro writes.
macro_rules! written {
    ($name:ident, $key:literal, $expr:expr, $id:ident: $ty:ty) => {
        #[larder::cached(key = $key)]
        /// A function that a macro names.
        pub async fn $name($id: $ty) -> $ty {
            $id
        }

        /// A module that a macro writes.
        pub mod by_expression {
            #[larder::cached(key = $expr)]
            /// A key that was an expression.
            pub async fn by_expression(id: u64, $id: $ty) -> u64 {
                id + u64::from($id)
            }

            #[larder::cached(key = "own:{own}:{id}", skip(other))]
            /// Arguments of the macro and of its caller.
            ///
            /// # Errors
            ///
            /// Never.
            pub fn own(own: u8, id: u64, other: $ty) -> Result<u64, larder::Error> {
                Ok(u64::from(own) + id + u64::from(other))
            }
        }
    };
}

written!(literal, "literal:{number}", "expression:{id}:{number}", number: u32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn names_of_the_standard_library_may_be_taken() {
        assert_eq!((run(shadows::shadow(7)), run(shadows::here(7)).unwrap()), (7, 7));
        assert_eq!((shadows::blocking(3), shadows::blocking(3)), (3, 3));
        assert_eq!(shadows::blocking::key(3), "larder_macros_only::names::shadows::blocking:3");
        assert_eq!(run(shadows::evict(7)), 7);
        assert_eq!(run(shadows::shadow::peek(7)).unwrap(), None);
        assert_eq!(run(renamed::renamed(1)), 1);
        assert_eq!(run(shadows::tagged(7)).unwrap(), 7);
        assert_eq!(run(shadows::tagged::peek(7)).unwrap(), Some(7));
        assert_eq!(run(shadows::evict_tag(7)).unwrap(), 7);
        assert_eq!(run(shadows::tagged::peek(7)).unwrap(), None);
        assert_eq!((shadows::put(7), run(shadows::put_named(7))), (7, 7));
        assert_eq!(larder::get::<u64>("named shadow:7").unwrap(), Some(7));
        assert_eq!(run(shadows::tagged::peek(7)).unwrap(), Some(7));
        run(larder::async_cached().remove_tags(["shadow:7"])).unwrap();
        assert_eq!(run(shadows::tagged::peek(7)).unwrap(), None);
    }

    #[test]
    fn a_key_that_a_macro_passes_on_is_a_template() {
        assert_eq!((run(literal(1)), run(literal(2))), (1, 2));
        assert_eq!(literal::key(3), "literal:3");
        assert_eq!(run(by_expression::by_expression(1, 2)), 3);
        assert_eq!(run(by_expression::by_expression(1, 3)), 4);
        assert_eq!(by_expression::by_expression::key(1, 2), "expression:1:2");
        assert_eq!(by_expression::own(1, 2, 3).unwrap(), 6);
    }

    #[test]
    fn a_function_within_a_function() {
        #[larder::cached(key = "inner:{id}")]
        fn inner(id: u64) -> u64 {
            id
        }
        assert_eq!((inner(4), inner::peek(4).unwrap()), (4, Some(4)));
    }
}
