//! `#[evicts]` and `#[puts]`: the function's own body, and what happens to the cache after it.

use crate::argument::contains_impl;
use crate::cached::tagged_write;
use crate::function::{Function, Runs};
use crate::key::{self, RESULT, borrowed, hole_code, mentions, written};
use crate::options::{self, EVICTS, Key, Known, Options, PUTS, Purpose, ungrouped};
use crate::template::{Names, Piece};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::token::Paren;
use syn::{Expr, ExprCall, ExprMethodCall, ExprPath, Result, Token};

pub(crate) fn evicts(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let (items, options) = (|input: ParseStream<'_>| parse(input, EVICTS)).parse2(options)?;
    let function: Function = syn::parse2(item)?;
    function.check()?;
    if items.is_empty() && options.tags.is_empty() {
        let message = "nothing is removed: name keys (`\"user:{id}\"`), calls (`get_user(id)`) or \
                       tags (`tags(\"user:{id}\")`)";
        return Err(syn::Error::new(Span::call_site(), message));
    }
    let larder = &options.larder;
    let keys = items.into_iter().map(|item| evicted(item, &options, &function));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let tags = evicted_tags(&options, &function)?;
    let cache = cache(&options, &function);
    // In an `Evictions` both faces of a cache are one.
    let cache = if function.is_blocking() {
        quote!({ let __larder_cache: &#larder::CacheWrapper = #cache; __larder_cache.as_async() })
    } else {
        cache
    };
    let before = quote! {
        let __larder_evictions =
            #larder::__private::Evictions::new(#cache, [#(#keys),*]) #tags;
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
    let (before_tags, tagged) = put_tags(&options, &function)?;
    let (cache, value) = (cache(&options, &function), function.output.value(larder));
    let view = options.view_of(function.is_blocking(), Purpose::Write);
    let wrapper =
        if function.is_blocking() { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
    let before = quote! {
        let __larder_cache: #larder::#wrapper = {
            let __larder_cache: &#larder::#wrapper = #cache;
            ::core::clone::Clone::clone(__larder_cache)
        };
        #before_key
        #before_tags
    };
    let put = if function.is_blocking() { quote!(put_blocking) } else { quote!(put) };
    let wait = (!function.is_blocking()).then(|| quote!(.await));
    let result = Ident::new(RESULT, Span::call_site());
    let store = quote! {
        let __larder_key = &#key;
        let __larder_cache: &#larder::#wrapper = &__larder_cache;
        let __larder_view = #view;
        #tagged
        #larder::__private::#put::<#value>(__larder_view, __larder_key, #result)#wait;
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
        if begins_option(input) {
            options.take_one(input, known)?;
        } else {
            items.push(ungrouped(input.parse()?));
        }
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    options.finish();
    Ok((items, options))
}

/// Whether an option follows, and no key or call. `tags(…)` are never the call of a function.
fn begins_option(input: ParseStream<'_>) -> bool {
    let is_value = input.peek2(Token![=]) && !input.peek2(Token![==]);
    let is_tags =
        input.fork().call(Ident::parse_any).is_ok_and(|name| name == "tags") && input.peek2(Paren);
    input.peek(Ident::peek_any) && (is_value || is_tags)
}

/// The key of an entry that is removed, as a `String`.
fn evicted(item: Expr, options: &Options, function: &Function) -> Result<TokenStream> {
    match item {
        Expr::Call(ExprCall { func, args, .. }) if matches!(*func, Expr::Path(_)) => {
            Ok(companion_key(&func, &args.to_token_stream()))
        }
        Expr::MethodCall(ExprMethodCall { receiver, method, turbofish, args, .. }) => {
            let key = format_ident!("{}_key", method.unraw(), span = method.span());
            Ok(quote!((#receiver).#key #turbofish (#args)))
        }
        other => {
            let namespace = options.namespace.as_ref().map(borrowed);
            let namespace = namespace.map(|name| quote!(__larder_key.namespace(#name);));
            let write = before_body(&options::key(other, Names::Key)?, function)?;
            let key = written(&options.larder, &quote!(#namespace #write));
            Ok(quote!(#key.into_key()))
        }
    }
}

/// The tags whose entries are removed, as a call of a method.
fn evicted_tags(options: &Options, function: &Function) -> Result<TokenStream> {
    if options.tags.is_empty() {
        return Ok(TokenStream::new());
    }
    let names = options.tags.iter().map(|tag| {
        let tag = written(&options.larder, &before_body(tag, function)?);
        Ok(quote!(#tag.into_key()))
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(match &options.namespace {
        None => quote!(.with_tags([#(#names),*])),
        Some(namespace) => {
            let namespace = borrowed(namespace);
            quote!(.with_tags_in(#namespace, [#(#names),*]))
        }
    })
}

/// The statements that write a key or tag before the body runs.
fn before_body(key: &Key, function: &Function) -> Result<TokenStream> {
    if let Key::Template(template) = key {
        let message =
            "`{result}` is for `puts`: what `evicts` removes is named before the body runs";
        key::refuse_result(template, function, message)?;
        key::check_holes(template, function, &[])?;
    }
    Ok(key::key_code(key, function))
}

/// The companion `key` of a function: beside it, or in the `impl` of a method. Types begin with a
/// capital, and modules do not.
fn companion_key(function: &Expr, arguments: &TokenStream) -> TokenStream {
    let mut function = function.clone();
    if let Expr::Path(ExprPath { path, qself, .. }) = &mut function {
        let owner = path.segments.iter().rev().nth(1).map(|owner| owner.ident.to_string());
        let is_method =
            qself.is_some() || owner.is_some_and(|owner| owner.starts_with(char::is_uppercase));
        if let Some(last) = path.segments.last_mut().filter(|_| is_method) {
            last.ident = format_ident!("{}_key", last.ident.unraw(), span = last.ident.span());
            return quote!(#function(#arguments));
        }
    }
    let last = match &mut function {
        Expr::Path(ExprPath { path, .. }) => path.segments.last_mut(),
        _ => None,
    };
    // `f::<3>(…)`: the function is generic, and not what stands beside it.
    let generics = last.map(|last| std::mem::take(&mut last.arguments));
    quote!(#function::key #generics (#arguments))
}

/// The key of `#[puts]`: what is made of it before the body, which may move the arguments, and the
/// key after it.
fn put_key(
    key: Expr,
    options: &Options,
    function: &Function,
) -> Result<(TokenStream, TokenStream)> {
    let (mut before, mut write) = (TokenStream::new(), TokenStream::new());
    if let Some(namespace) = &options.namespace {
        before.extend(quote! {
            let __larder_namespace =
                ::std::borrow::ToOwned::to_owned(
                    ::core::convert::AsRef::<::core::primitive::str>::as_ref(&(#namespace))
                );
        });
        write.extend(quote!(__larder_key.namespace(&__larder_namespace);));
    }
    let (more, after) = around_body(&options::key(key, Names::Key)?, "key", function)?;
    before.extend(more);
    write.extend(after);
    Ok((before, written(&options.larder, &write)))
}

/// The tags of `#[puts]`: what is made of them before the body, and the statements that give them
/// to the view after it.
fn put_tags(options: &Options, function: &Function) -> Result<(TokenStream, TokenStream)> {
    let (mut before, mut tags) = (TokenStream::new(), Vec::new());
    for (position, tag) in options.tags.iter().enumerate() {
        let (more, write) = around_body(tag, &format!("tag{position}"), function)?;
        before.extend(more);
        tags.push(written(&options.larder, &write));
    }
    let tagged = match tags.is_empty() {
        true => TokenStream::new(),
        false => tagged_write(&options.larder, function.is_blocking(), &quote!([#(#tags),*])),
    };
    Ok((before, tagged))
}

/// What is made of a key or tag before the body, and the statements that write it after the body.
fn around_body(key: &Key, name: &str, function: &Function) -> Result<(TokenStream, TokenStream)> {
    let (mut before, mut write) = (TokenStream::new(), TokenStream::new());
    let mut keep = |position: usize, value: TokenStream| {
        let part = format_ident!("__larder_{name}_{position}");
        before.extend(quote!(let #part = ::std::string::ToString::to_string(&#value);));
        part.to_token_stream()
    };
    match key {
        Key::Template(template) => {
            key::check_holes(template, function, &[RESULT])?;
            let separators = template.separators();
            for (position, piece) in template.pieces.iter().enumerate() {
                let value = match piece {
                    Piece::Text(text) => {
                        write.extend(quote!(__larder_key.text(#text);));
                        continue;
                    }
                    Piece::Hole(hole) if hole.root == RESULT => hole_code(hole, &[], template.span),
                    Piece::Hole(hole) => {
                        keep(position, hole_code(hole, &function.arguments, template.span))
                    }
                };
                write.extend(match separators.is_empty() {
                    true => quote!(__larder_key.whole(&#value);),
                    false => quote!(__larder_key.part(&#value, #separators);),
                });
            }
        }
        Key::Is(value) => {
            let result = Ident::new(RESULT, Span::call_site());
            let value = match mentions(&value.to_token_stream(), &result) {
                true => quote!((#value)),
                false => keep(0, quote!((#value))),
            };
            write.extend(quote!(__larder_key.whole(&#value);));
        }
        Key::Arguments { .. } => {}
    }
    Ok((before, write))
}

/// The cache, borrowed.
fn cache(options: &Options, function: &Function) -> TokenStream {
    let larder = &options.larder;
    match (&options.cache, function.is_blocking()) {
        (Some(cache), _) => key::borrowed(cache),
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
        Runs::Blocking => {
            let body = function.body_closure(&TokenStream::new());
            quote!((#body)())
        }
        _ => {
            let body = function.body_future(&TokenStream::new());
            quote!(#body.await)
        }
    };
    let all = quote! {
        #before
        #[allow(unused_braces, clippy::redundant_closure_call, clippy::redundant_async_block)]
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
