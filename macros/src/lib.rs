//! The attribute macros of `larder`, which re-exports them with its feature `macros`. Their guide
//! is `larder::docs::macros`.
//!
//! - `options`, `time`: what is written in the parentheses; `template`: keys
//! - `function`: the function below the attribute; `argument`, `generics`: its parts
//! - `cached`: the checks of `#[cached]` and the function that replaces the one below; `companions`:
//!   what stands beside it, and the load; `lints`: those that generated code would meet
//! - `writes`: `#[evicts]` and `#[puts]`

mod argument;
mod attributes;
mod cached;
mod companions;
mod function;
mod generics;
mod key;
mod lints;
mod options;
mod template;
mod time;
mod writes;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;

/// Keeps what a function returns: the first call with some arguments runs the function, and further
/// calls get the stored value until it expires.
///
/// For `fn` and `async fn`, functions and methods. A thousand calls at once run the function once.
/// Of a `Result` only `Ok` is stored. Beside a function `f` stand `f::key`, `f::invalidate`,
/// `f::peek`, `f::put`, `f::refresh` and `f::uncached`; beside a method `self.f_key` and so on.
/// `larder::docs::macros` has all options.
///
/// ```
/// #[larder::cached(key = "user:{id}", ttl = "5m")]
/// fn get_user(id: u64) -> larder::Result<String> {
///     Ok(format!("user {id}"))
/// }
///
/// assert_eq!(get_user(7)?, "user 7");
/// assert_eq!(get_user::peek(7)?.as_deref(), Some("user 7"));
/// assert!(get_user::invalidate(7)?);
/// # Ok::<(), larder::Error>(())
/// ```
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, cached::expand)
}

/// Removes entries after the function has succeeded: those of other functions' calls, and keys.
///
/// If the function ends midway, because its caller goes away or it panics, a task removes them.
/// `larder::docs::macros` has all options.
///
/// ```
/// # #[larder::cached(key = "user:{id}")]
/// # fn get_user(id: u64) -> larder::Result<String> { Ok(format!("user {id}")) }
/// #[larder::evicts(get_user(id), "users:all")]
/// fn rename(id: u64, name: &str) -> larder::Result<()> {
///     println!("user {id} is called {name}");
///     Ok(())
/// }
///
/// get_user(7)?;
/// rename(7, "Ada")?;
/// assert_eq!(get_user::peek(7)?, None);
/// # Ok::<(), larder::Error>(())
/// ```
#[proc_macro_attribute]
pub fn evicts(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, writes::evicts)
}

/// Stores what the function returns, after each call that succeeds.
///
/// `result` in the key is the value. `larder::docs::macros` has all options.
///
/// ```
/// #[larder::puts("square:{of}", ttl = "5m")]
/// fn square(of: u64) -> u64 {
///     of * of
/// }
///
/// square(12);
/// assert_eq!(larder::get::<u64>("square:12")?, Some(144));
/// # Ok::<(), larder::Error>(())
/// ```
#[proc_macro_attribute]
pub fn puts(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, writes::puts)
}

/// The result of the macro; after an error, the item as it was beside the error, so that no second
/// error says that the function is missing.
fn expand(
    options: TokenStream,
    item: TokenStream,
    with: fn(Tokens, Tokens) -> syn::Result<Tokens>,
) -> TokenStream {
    let (options, item) = (Tokens::from(options), Tokens::from(item));
    let expanded = with(options, item.clone()).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #item)
    });
    expanded.into()
}
