//! `#[evicts]` and `#[puts]`: the function's own body, and what happens to the cache after it.

use crate::argument::contains_impl;
use crate::function::{Function, Runs};
use crate::key::{self, hole_code, mentions};
use crate::options::{self, EVICTS, Key, Known, Options, PUTS, ungrouped};
use crate::template::{Piece, Template};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprCall, ExprMethodCall, ExprPath, Result, Token};

/// What the value is called in the key of `#[puts]`.
const RESULT: &str = "result";

pub(crate) fn evicts(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let (items, options) = (|input: ParseStream<'_>| parse(input, EVICTS)).parse2(options)?;
    let function: Function = syn::parse2(item)?;
    function.check()?;
    if items.is_empty() {
        let message = "nothing is removed: name keys (`\"user:{id}\"`) or calls (`get_user(id)`)";
        return Err(syn::Error::new(Span::call_site(), message));
    }
    let larder = &options.larder;
    let keys = items.into_iter().map(|item| evicted(item, &options, &function));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let cache = cache(&options, &function);
    // In an `Evictions` both faces of a cache are one.
    let cache = if function.is_blocking() {
        quote!({ let __larder_cache: &#larder::CacheWrapper = #cache; __larder_cache.as_async() })
    } else {
        cache
    };
    let before = quote! {
        let __larder_evictions =
            #larder::__private::Evictions::new(#cache, [#(#keys),*]);
    };
    let run = if function.is_blocking() { quote!(run_blocking()) } else { quote!(run().await) };
    let after = if function.output.is_result() {
        quote! {
            if #larder::__private::Fallible::is_success(&__larder_result) {
                __larder_evictions.#run;
            } else {
                __larder_evictions.give_up();
            }
        }
    } else {
        quote!(__larder_evictions.#run;)
    };
    Ok(around(&function, &before, &after))
}

pub(crate) fn puts(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let (items, options) = (|input: ParseStream<'_>| parse(input, PUTS)).parse2(options)?;
    let function: Function = syn::parse2(item)?;
    function.check()?;
    let [key] = <[Expr; 1]>::try_from(items).map_err(|_| {
        syn::Error::new(Span::call_site(), "`puts` takes one key, such as `\"user:{result.id}\"`")
    })?;
    let larder = &options.larder;
    let (before_key, key) = put_key(key, &options, &function)?;
    let (cache, value) = (cache(&options, &function), function.output.value(larder));
    let view = options.view_of(function.is_blocking());
    let wrapper =
        if function.is_blocking() { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
    let before = quote! {
        let __larder_cache: #larder::#wrapper = {
            let __larder_cache: &#larder::#wrapper = #cache;
            ::core::clone::Clone::clone(__larder_cache)
        };
        #before_key
    };
    let put = if function.is_blocking() { quote!(put_blocking) } else { quote!(put) };
    let wait = (!function.is_blocking()).then(|| quote!(.await));
    let result = Ident::new(RESULT, Span::call_site());
    let store = quote! {
        let __larder_key = #key;
        let __larder_cache: &#larder::#wrapper = &__larder_cache;
        #larder::__private::#put::<#value>(#view, &__larder_key, #result)#wait;
    };
    let after = if function.output.is_result() {
        quote! {
            if let ::core::option::Option::Some(#result) =
                #larder::__private::Fallible::as_success(&__larder_result)
            {
                #store
            }
        }
    } else {
        quote!({ let #result = &__larder_result; #store })
    };
    Ok(around(&function, &before, &after))
}

/// The keys, and the options after or between them.
fn parse(input: ParseStream<'_>, known: Known) -> Result<(Vec<Expr>, Options)> {
    let (mut items, mut options) = (Vec::new(), Options::default());
    while !input.is_empty() {
        let is_option =
            input.peek(Ident::peek_any) && input.peek2(Token![=]) && !input.peek2(Token![==]);
        if is_option {
            options.take_one(input, known)?;
        } else {
            let item = ungrouped(input.parse()?);
            refuse_tags(&item)?;
            items.push(item);
        }
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    options.finish();
    Ok((items, options))
}

fn refuse_tags(item: &Expr) -> Result<()> {
    match item {
        Expr::Call(call) if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("tags")) => {
            Err(syn::Error::new_spanned(&call.func, options::NO_TAGS))
        }
        _ => Ok(()),
    }
}

/// The key of an entry that is removed, as a `String`.
fn evicted(item: Expr, options: &Options, function: &Function) -> Result<TokenStream> {
    match item {
        Expr::Call(ExprCall { func, args, .. }) if matches!(*func, Expr::Path(_)) => {
            Ok(companion_key(&func, &args.to_token_stream()))
        }
        Expr::MethodCall(ExprMethodCall { receiver, method, args, .. }) => {
            let key = format_ident!("{}_key", method.unraw(), span = method.span());
            Ok(quote!((#receiver).#key(#args)))
        }
        other => {
            let larder = &options.larder;
            let namespace = options.namespace.as_ref();
            let namespace = namespace.map(|name| quote!(__larder_key.namespace(#name);));
            let write = match options::key(other)? {
                Key::Template(template) => {
                    refuse_result(&template)?;
                    key::check_holes(&template, &function.arguments, &[])?;
                    key::template_code(&template, &function.arguments)
                }
                Key::Is(value) => quote!(__larder_key.whole(&(#value));),
                Key::Arguments { .. } => TokenStream::new(),
            };
            Ok(quote! {{
                let mut __larder_key = #larder::__private::KeyBuf::new();
                #namespace
                #write
                __larder_key.into_key()
            }})
        }
    }
}

/// The companion `key` of a function: beside it, or in the `impl` of a method.
fn companion_key(function: &Expr, arguments: &TokenStream) -> TokenStream {
    if let Expr::Path(ExprPath { path, qself: None, .. }) = function
        && path.segments.first().is_some_and(|first| first.ident == "Self")
        && let Some(last) = path.segments.last()
    {
        let key = format_ident!("{}_key", last.ident.unraw(), span = last.ident.span());
        return quote!(Self::#key(#arguments));
    }
    quote!(#function::key(#arguments))
}

fn refuse_result(template: &Template) -> Result<()> {
    if template.holes().any(|hole| hole.root == RESULT) {
        let message =
            "`{result}` is for `puts`: the keys of `evicts` are made before the body runs";
        return Err(syn::Error::new(template.span, message));
    }
    Ok(())
}

/// The key of `#[puts]`: what is made of it before the body, which may move the arguments, and the
/// key after it.
fn put_key(
    key: Expr,
    options: &Options,
    function: &Function,
) -> Result<(TokenStream, TokenStream)> {
    let larder = &options.larder;
    let (mut before, mut write) = (TokenStream::new(), TokenStream::new());
    if let Some(namespace) = &options.namespace {
        before.extend(quote! {
            let __larder_namespace =
                ::std::borrow::ToOwned::to_owned(::core::convert::AsRef::<str>::as_ref(&#namespace));
        });
        write.extend(quote!(__larder_key.namespace(&__larder_namespace);));
    }
    match options::key(key)? {
        Key::Template(template) => {
            key::check_holes(&template, &function.arguments, &[RESULT])?;
            let separators = template.separators();
            let write_hole = |value: &TokenStream| match separators.is_empty() {
                true => quote!(__larder_key.whole(&#value);),
                false => quote!(__larder_key.part(&#value, #separators);),
            };
            for (position, piece) in template.pieces.iter().enumerate() {
                match piece {
                    Piece::Text(text) => write.extend(quote!(__larder_key.text(#text);)),
                    Piece::Hole(hole) if hole.root == RESULT => {
                        let value = hole_code(hole, &[], template.span);
                        write.extend(write_hole(&value));
                    }
                    Piece::Hole(hole) => {
                        let part = format_ident!("__larder_part{position}");
                        let value = hole_code(hole, &function.arguments, template.span);
                        before.extend(
                            quote!(let #part = ::std::string::ToString::to_string(&#value);),
                        );
                        write.extend(write_hole(&part.to_token_stream()));
                    }
                }
            }
        }
        Key::Is(value) => {
            let result = Ident::new(RESULT, Span::call_site());
            if mentions(&value.to_token_stream(), &result) {
                write.extend(quote!(__larder_key.whole(&(#value));));
            } else {
                before.extend(
                    quote!(let __larder_part = ::std::string::ToString::to_string(&(#value));),
                );
                write.extend(quote!(__larder_key.whole(&__larder_part);));
            }
        }
        Key::Arguments { .. } => {}
    }
    let key = quote! {{
        let mut __larder_key = #larder::__private::KeyBuf::new();
        #write
        __larder_key
    }};
    Ok((before, key))
}

/// The cache, borrowed.
fn cache(options: &Options, function: &Function) -> TokenStream {
    let larder = &options.larder;
    match (&options.cache, function.is_blocking()) {
        (Some(cache), _) => quote!(&(#cache)),
        (None, true) => quote!(#larder::cached()),
        (None, false) => quote!(#larder::async_cached()),
    }
}

/// The function with its body between `before` and `after`, which sees `__larder_result`.
fn around(function: &Function, before: &TokenStream, after: &TokenStream) -> TokenStream {
    let Function { attributes, visibility, signature, output, .. } = function;
    let ty = &output.ty;
    let typed = if contains_impl(ty) { TokenStream::new() } else { quote!(: #ty) };
    let body = match function.runs {
        Runs::Blocking => function.body_call(),
        _ => {
            let body = function.body_future(&TokenStream::new());
            quote!(#body.await)
        }
    };
    let all = quote! {
        #before
        #[allow(clippy::redundant_closure_call, clippy::redundant_async_block)]
        let __larder_result #typed = #body;
        #after
        __larder_result
    };
    let all = match function.runs {
        Runs::Async | Runs::Blocking => all,
        Runs::Boxed => quote!(::std::boxed::Box::pin(async move { #all })),
        Runs::Future => quote!(async move { #all }),
    };
    quote!(#(#attributes)* #visibility #signature { #all })
}
