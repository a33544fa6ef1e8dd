//! The messages of the compiler for attributes that are wrong: each file in `ui/` with what the
//! compiler says beside it. `TRYBUILD=overwrite cargo test -p larder-macros` writes them anew.

#[test]
fn what_is_wrong_is_said_where_it_is() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
