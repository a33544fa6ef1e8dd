//! The lints that what is generated would meet. They are named one by one: a group contains lints
//! such as `clippy::unwrap_used`, and where a crate forbids one of them, `allow` of the group is an
//! error.

use proc_macro2::TokenStream;
use quote::quote;

/// For what is generated around the user's signature and expressions.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        #[allow(
            unused_mut, unused_braces, clippy::absolute_paths,
            clippy::arbitrary_source_item_ordering, clippy::future_not_send,
            clippy::implicit_return, clippy::let_underscore_untyped, clippy::min_ident_chars,
            clippy::missing_errors_doc, clippy::missing_inline_in_public_items,
            clippy::missing_panics_doc, clippy::must_use_candidate, clippy::pattern_type_mismatch,
            clippy::redundant_closure_for_method_calls, clippy::same_name_method,
            clippy::shadow_reuse, clippy::shadow_same, clippy::shadow_unrelated,
            clippy::single_call_fn, clippy::std_instead_of_alloc, clippy::std_instead_of_core,
            clippy::too_many_arguments, clippy::type_complexity, clippy::used_underscore_binding
        )]
    }
}

/// For what nobody may use, and whose names are made of the user's.
pub(crate) fn unused() -> TokenStream {
    quote! {
        #[allow(
            dead_code, unused_variables, unreachable_pub, non_snake_case, non_upper_case_globals
        )]
    }
}

/// For the enum beside a function.
pub(crate) fn beside() -> TokenStream {
    quote! {
        #[allow(
            dead_code, non_camel_case_types, unreachable_pub, missing_debug_implementations,
            missing_copy_implementations, clippy::arbitrary_source_item_ordering,
            clippy::exhaustive_enums, clippy::redundant_pub_crate
        )]
    }
}

/// For the function with the user's body.
pub(crate) fn body() -> TokenStream {
    quote! {
        #[allow(
            dead_code, unreachable_pub, clippy::future_not_send, clippy::missing_const_for_fn,
            clippy::missing_errors_doc, clippy::missing_inline_in_public_items,
            clippy::missing_panics_doc, clippy::must_use_candidate, clippy::same_name_method
        )]
    }
}
