//! What stands beside a function under `#[cached]`: `key`, `invalidate`, `peek`, `put`, `refresh`,
//! `uncached`, and the call and the load that they share.

use crate::argument::{Argument, Taking};
use crate::cached::{Cached, Home};
use crate::function::{Runs, params};
use crate::generics;
use crate::key;
use crate::options::Purpose;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{FnArg, Generics, Path, Type};

/// Everything beside the function.
pub(crate) fn code(cached: &Cached) -> TokenStream {
    let conditions = &cached.attributes.conditions;
    let functions = match cached.home {
        Home::Nowhere => return TokenStream::new(),
        Home::Enum => vec![
            uncached(cached),
            call(cached),
            load(cached),
            refresh(cached),
            key(cached),
            invalidate(cached),
            peek(cached),
            put(cached),
        ],
        Home::Impl => {
            vec![
                uncached(cached),
                call(cached),
                load(cached),
                refresh(cached),
                key(cached),
                invalidate(cached),
            ]
        }
    };
    if cached.home == Home::Impl {
        let present = functions.into_iter().filter(|function| !function.is_empty());
        return present.map(|function| quote!(#(#conditions)* #function)).collect();
    }
    let (visibility, ident) = (&cached.function.visibility, &cached.function.signature.ident);
    let doc = format!("The entries of [`{0}`](fn@{0}) in the cache.", ident.unraw());
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #[allow(
            dead_code, non_camel_case_types, unreachable_pub,
            missing_debug_implementations, missing_copy_implementations,
            clippy::all, clippy::pedantic, clippy::restriction
        )]
        #visibility enum #ident {}

        #(#conditions)*
        impl #ident {
            #(#functions)*
        }
    }
}

/// The lints of what is generated, and not of the user's body.
fn quiet() -> TokenStream {
    quote! {
        #[allow(
            dead_code, unused_mut, unused_variables, unreachable_pub,
            non_snake_case, non_upper_case_globals,
            clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction
        )]
    }
}

/// The function itself.
fn uncached(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let (attributes, visibility) = (&cached.attributes.body, &function.visibility);
    let (ident, body) = (cached.companion("uncached"), &function.body);
    let signature = &function.signature;
    let (generics, output) = (params(&signature.generics), &signature.output);
    // An argument of the key is used, also where the body does not read it.
    let inputs = signature.inputs.iter().zip(&function.arguments).map(|(input, argument)| {
        let options = &cached.options;
        let is_used = argument
            .bound
            .iter()
            .any(|name| key::is_used(options, name) || key::is_in_tags(options, name))
            || key::is_in_options(options, argument);
        let quiet = (is_used && !argument.is_self).then(|| quote!(#[allow(unused_variables)]));
        quote!(#quiet #input)
    });
    let clause = &signature.generics.where_clause;
    let (asyncness, abi) = (&signature.asyncness, &signature.abi);
    let name = signature.ident.unraw();
    let doc = format!("Runs the body of `{name}`, without the cache.");
    let errors = if function.output.is_result() {
        quote!(#[doc = ""] #[doc = "# Errors"] #[doc = ""] #[doc = "Those of the function."])
    } else {
        TokenStream::new()
    };
    quote! {
        #[doc = #doc]
        #errors
        #[allow(dead_code, unreachable_pub, clippy::missing_panics_doc, clippy::missing_errors_doc, clippy::must_use_candidate)]
        #(#attributes)*
        #visibility #asyncness #abi fn #ident #generics (#(#inputs),*) #output #clause #body
    }
}

/// The call of the core, with `__larder_view` and `__larder_key`, as an expression.
pub(crate) fn core(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let uncached = cached.path("uncached");
    let signature = &function.signature;
    let turbofish = generics::turbofish(&signature.generics);
    let names = cached.names();
    let load = match function.runs {
        Runs::Blocking => quote!(move || #uncached #turbofish (#(#names),*)),
        _ if cached.is_detached() => {
            let load = cached.path("__larder_load");
            let borrowed = function.arguments.iter().map(|argument| taken(cached, argument));
            let turbofish = generics::turbofish(&load_generics(cached));
            quote!(move || #load #turbofish (#(#borrowed),*))
        }
        // As a block the future is made when the load begins: a boxed one is not boxed on a hit.
        _ => quote!(async move { #uncached #turbofish (#(#names),*).await }),
    };
    cached.call(&load)
}

/// The call of the core for the function and for `refresh`, so that the core is compiled once for
/// both. With a load in a task there is little to compile, and both call the core themselves.
fn call(cached: &Cached) -> TokenStream {
    if cached.is_detached() {
        return TokenStream::new();
    }
    let (function, larder) = (&cached.function, cached.larder());
    let (ident, call) = (cached.companion("__larder_call"), core(cached));
    let signature = &function.signature;
    let view = if function.is_blocking() { quote!(BlockingView) } else { quote!(View) };
    let asyncness = (!function.is_blocking()).then(|| quote!(async));
    let (params, clause) = (params(&signature.generics), &signature.generics.where_clause);
    let (inputs, ty, quiet) = (function.declared(), &function.output.ty, quiet());
    quote! {
        #[doc(hidden)]
        #quiet
        #asyncness fn #ident #params (
            #(#inputs,)*
            __larder_view: #larder::#view<'_>,
            __larder_key: &#larder::__private::KeyBuf,
        ) -> #ty #clause {
            #call
        }
    }
}

/// The load that has a task of its own. It is a named function and returns a box: if a function
/// that calls itself were its own load's future, the compiler could not find out if it is `Send`.
fn load(cached: &Cached) -> TokenStream {
    if !cached.is_detached() {
        return TokenStream::new();
    }
    let (function, larder) = (&cached.function, cached.larder());
    let (ident, uncached) = (cached.companion("__larder_load"), cached.companion("uncached"));
    let generics = load_generics(cached);
    let (params, clause) = (params(&generics), &generics.where_clause);
    let turbofish = generics::turbofish(&function.signature.generics);
    let inputs = function.arguments.iter().map(|argument| {
        let (name, ty) = (owned_name(argument), owned_type(cached, argument));
        quote!(#name: #ty)
    });
    let arguments = function.arguments.iter().map(|argument| {
        let name = owned_name(argument);
        match argument.taking() {
            Taking::Clone(ty) => quote!(#larder::__private::borrowed::<#ty>(&#name)),
            _ => quote!(#name),
        }
    });
    let (ty, quiet) = (&function.output.ty, quiet());
    quote! {
        #[doc(hidden)]
        #quiet
        fn #ident #params (#(#inputs),*) -> ::core::pin::Pin<::std::boxed::Box<
            dyn ::core::future::Future<Output = #ty> + ::core::marker::Send
        >> #clause {
            ::std::boxed::Box::pin(async move { Self::#uncached #turbofish (#(#arguments),*).await })
        }
    }
}

fn load_generics(cached: &Cached) -> Generics {
    let function = &cached.function;
    let mut used = function.output.ty.to_token_stream();
    for argument in &function.arguments {
        owned_type(cached, argument).to_tokens(&mut used);
    }
    // All types, so that `uncached` can be named with each of them.
    for param in function.signature.generics.type_params() {
        param.ident.to_tokens(&mut used);
    }
    for param in function.signature.generics.const_params() {
        param.ident.to_tokens(&mut used);
    }
    generics::without_lifetimes(&generics::used_in(&function.signature.generics, &used))
}

fn owned_name(argument: &Argument) -> Ident {
    if argument.is_self {
        return Ident::new("__larder_self", Span::call_site());
    }
    argument.name.clone()
}

fn owned_type(cached: &Cached, argument: &Argument) -> TokenStream {
    let larder = cached.larder();
    match argument.taking() {
        // A type that cannot be cloned is shown where it is.
        Taking::Clone(ty) => {
            let (place, larder) = (place(ty), at(larder, place(ty)));
            quote_spanned!(place=> #larder::__private::Loan<#ty>)
        }
        _ => argument.ty.to_token_stream(),
    }
}

/// A path as if it were written at a place: a message shows all of what was written.
fn at(path: &Path, place: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    tokens.collect()
}

/// Where a type is written, for what is generated.
fn place(ty: &Type) -> Span {
    let first = ty.to_token_stream().into_iter().next();
    Span::call_site().located_at(first.map_or_else(Span::call_site, |token| token.span()))
}

/// The argument as the load owns it.
fn taken(cached: &Cached, argument: &Argument) -> TokenStream {
    let (larder, name) = (cached.larder(), &argument.name);
    match argument.taking() {
        Taking::Clone(ty) => {
            let (place, larder) = (place(ty), at(larder, place(ty)));
            quote_spanned!(place=> #larder::__private::loan::<#ty>(#name))
        }
        _ => quote!(#name),
    }
}

fn refresh(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let ident = cached.companion("refresh");
    let name = function.signature.ident.unraw();
    let doc = format!(
        "Runs `{name}` although there may be a value, and stores the new one. If it fails, the old one stays."
    );
    let key = key::code(&cached.options, function);
    let (view, tagged, call) = (cached.view(), cached.tagged(), cached.shared_call());
    let body = quote! {
        let __larder_key = #key;
        #view
        let (__larder_view, __larder_key) = (__larder_view.force_refresh(), &__larder_key);
        #tagged
        #call
    };
    let signature = &function.signature;
    let (params, clause) = (params(&signature.generics), &signature.generics.where_clause);
    let ty = &function.output.ty;
    let inputs = function.declared();
    companion(cached, &doc, &quote!(fn #ident #params (#(#inputs),*) -> #ty #clause), &body)
}

fn key(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let doc = format!(
        "The key of a call of `{}`. Empty if an argument cannot be part of a key.",
        function.signature.ident.unraw()
    );
    let body = key::code(&cached.options, function);
    let ident = cached.companion("key");
    let (params, inputs, clause) = key_signature(cached, Needs::Key, &[], &TokenStream::new());
    let quiet = quiet();
    let visibility = &function.visibility;
    quote! {
        #[doc = #doc]
        #[must_use]
        #quiet
        #visibility fn #ident #params (#(#inputs),*) -> ::std::string::String #clause {
            #body.into_key()
        }
    }
}

fn invalidate(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "Removes the entry of a call of `{}`; whether there was one.",
        function.signature.ident.unraw()
    );
    let ident = cached.companion("invalidate");
    let cache_argument = cache_argument(cached);
    let (params, inputs, clause) = key_signature(cached, Needs::Key, &[], &cache_argument);
    let (key, cache, wait) = (key::code(&cached.options, function), cache(cached), wait(cached));
    let body = quote! {
        let __larder_key = #key.into_key();
        #cache
        __larder_cache.remove(__larder_key)#wait
    };
    companion(
        cached,
        &doc,
        &quote!(fn #ident #params (#(#inputs),*) -> #larder::Result<bool> #clause),
        &body,
    )
}

fn peek(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "The stored value of a call of `{}`, if there is one. Runs nothing.",
        function.signature.ident.unraw()
    );
    let value = function.output.value(larder);
    let cache_argument = cache_argument(cached);
    let (params, inputs, clause) = key_signature(cached, Needs::Read, &[&value], &cache_argument);
    let (key, cache) = (key::code(&cached.options, function), cache(cached));
    let view = cached.view_for(Purpose::Read);
    let peek = if function.is_blocking() { quote!(peek_blocking) } else { quote!(peek) };
    let wait = wait(cached);
    let body = quote! {
        let __larder_key = #key;
        #cache
        #larder::__private::#peek::<#value>(#view, &__larder_key)#wait
    };
    let signature = quote! {
        fn peek #params (#(#inputs),*) -> #larder::Result<::core::option::Option<#value>> #clause
    };
    companion(cached, &doc, &signature, &body)
}

fn put(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "Stores `value` as that of a call of `{}`, with its options.",
        function.signature.ident.unraw()
    );
    let value = function.output.value(larder);
    let (params, mut inputs, clause) =
        key_signature(cached, Needs::Write, &[&value], &cache_argument(cached));
    inputs.push(quote!(__larder_value: #value));
    let (key, cache) = (key::code(&cached.options, function), cache(cached));
    let view = cached.view_for(Purpose::Write);
    let store = if function.is_blocking() { quote!(store_blocking) } else { quote!(store) };
    let (wait, tagged) = (wait(cached), cached.tagged_write());
    let body = quote! {
        let __larder_key = &#key;
        #cache
        let __larder_view = #view;
        #tagged
        #larder::__private::#store::<#value>(__larder_view, __larder_key, __larder_value)#wait
    };
    let signature = quote!(fn put #params (#(#inputs),*) -> #larder::Result<()> #clause);
    companion(cached, &doc, &signature, &body)
}

/// A companion that waits for the cache.
fn companion(
    cached: &Cached,
    doc: &str,
    signature: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let (visibility, quiet) = (&cached.function.visibility, quiet());
    let asyncness = (!cached.function.is_blocking()).then(|| quote!(async));
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = ""]
        #[doc = "Those of the cache, or of the function if it is run."]
        #quiet
        #visibility #asyncness #signature { #body }
    }
}

fn wait(cached: &Cached) -> Option<TokenStream> {
    (!cached.function.is_blocking()).then(|| quote!(.await))
}

/// `cache: &AsyncCacheWrapper`, for a function with a cache of its own. A method has `self`.
fn cache_argument(cached: &Cached) -> TokenStream {
    let larder = cached.larder();
    if cached.options.cache.is_none() || cached.home == Home::Impl {
        return TokenStream::new();
    }
    if cached.function.is_blocking() {
        quote!(__larder_cache: &#larder::CacheWrapper)
    } else {
        quote!(__larder_cache: &#larder::AsyncCacheWrapper)
    }
}

/// The cache of a companion, as a statement.
fn cache(cached: &Cached) -> TokenStream {
    let larder = cached.larder();
    let is_blocking = cached.function.is_blocking();
    let wrapper = if is_blocking { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
    match (&cached.options.cache, cached.home) {
        (Some(_), Home::Enum | Home::Nowhere) => TokenStream::new(),
        (Some(cache), Home::Impl) => {
            let cache = key::with_patterns(&quote!(&(#cache)), &cached.function);
            quote!(let __larder_cache: &#larder::#wrapper = #cache;)
        }
        (None, _) if is_blocking => quote!(let __larder_cache = #larder::cached();),
        (None, _) => quote!(let __larder_cache = #larder::async_cached();),
    }
}

/// What a companion makes of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Key,
    /// The key, and the options of a read.
    Read,
    /// The key, the options of a write, and tags.
    Write,
}

/// The generics, arguments and where-clause of a companion that needs only what `needs` is made of.
fn key_signature(
    cached: &Cached,
    needs: Needs,
    types: &[&TokenStream],
    cache: &TokenStream,
) -> (TokenStream, Vec<TokenStream>, Option<syn::WhereClause>) {
    let (function, options) = (&cached.function, &cached.options);
    let parts = match cached.home {
        Home::Impl => key::parts_with_cache(options, function),
        Home::Enum | Home::Nowhere => key::parts(options, function),
    };
    let in_options = |purpose| key::parts_in(&options.expressions(purpose), function);
    let more = match needs {
        Needs::Key => Vec::new(),
        Needs::Read => in_options(Purpose::Read),
        Needs::Write => {
            [in_options(Purpose::Write), key::parts_of_tags(options, function)].concat()
        }
    };
    let is_part =
        |argument: &&Argument| parts.iter().chain(&more).any(|part| std::ptr::eq(*part, *argument));
    let parts: Vec<&Argument> = function.arguments.iter().filter(is_part).collect();
    let mut inputs: Vec<TokenStream> = Vec::new();
    if cached.home == Home::Impl && function.has_receiver() {
        inputs.push(key_receiver(cached));
    }
    if !cache.is_empty() {
        inputs.push(cache.clone());
    }
    let typed = parts.iter().filter(|part| !part.is_self);
    inputs.extend(typed.map(|part| part.declared()));
    let mut used: TokenStream = inputs.iter().cloned().collect();
    types.iter().for_each(|ty| ty.to_tokens(&mut used));
    used.extend(match needs {
        Needs::Key | Needs::Read => key::constants_in(options, function, &[]),
        Needs::Write => key::constants_in(options, function, &options.tags),
    });
    let generics = generics::used_in(&function.signature.generics, &used);
    (params(&generics), inputs, generics.where_clause)
}

/// What a companion of a method needs of `self`: to look at it.
fn key_receiver(cached: &Cached) -> TokenStream {
    let receiver = cached.function.signature.inputs.first();
    let Some(FnArg::Receiver(receiver)) = receiver else { return TokenStream::new() };
    match &receiver.kind {
        syn::ReceiverKind::Typed(_, ty) if matches!(**ty, Type::Reference(_)) => {
            receiver.to_token_stream()
        }
        syn::ReceiverKind::Typed(_, ty) => quote!(self: &#ty),
        _ => quote!(&self),
    }
}
